//! What goes to a facilitator and what comes from one.

use tollgate_x402::{
    FacilitatorRequest, Limits, SettleResponse, SupportedResponse, VerifyResponse,
};

/// What is read survives being written again.
pub fn check(data: &[u8]) {
    let limits = &Limits::DEFAULT;
    match FacilitatorRequest::parse_body(data, limits) {
        Ok(request) => {
            let written = request.to_json();
            let again = FacilitatorRequest::parse_body(written.as_bytes(), limits);
            assert_eq!(again.map(|again| again.to_json()), Ok(written));
            // Whatever is held against whatever: it is refused or it is an authorization.
            drop(request.payload.authorization_for(&request.requirements));
        }
        Err(error) => drop((error.code(), error.to_string())),
    }
    if let Ok(settled) = SettleResponse::parse_body(data, limits) {
        let again = SettleResponse::parse_body(settled.to_json().as_bytes(), limits);
        assert_eq!(again.map(|again| again.to_json()), Ok(settled.to_json()));
    }
    if let Ok(verified) = VerifyResponse::parse_body(data, limits) {
        let again = VerifyResponse::parse_body(verified.to_json().as_bytes(), limits);
        assert_eq!(again.map(|again| again.to_json()), Ok(verified.to_json()));
    }
    if let Ok(supported) = SupportedResponse::parse_body(data, limits) {
        let again = SupportedResponse::parse_body(supported.to_json().as_bytes(), limits);
        assert_eq!(again.map(|again| again.to_json()), Ok(supported.to_json()));
    }
}
