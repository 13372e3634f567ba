//! Payments, as a header's value and as the JSON within.

use tollgate_x402::{Limits, PaymentPayload};

/// What is read is written and read again without loss; what is refused has a code to answer with.
pub fn check(data: &[u8]) {
    for payment in [
        PaymentPayload::parse_header(data, &Limits::DEFAULT),
        PaymentPayload::parse_json(data, &Limits::DEFAULT),
    ] {
        match payment {
            Ok(payment) => survives_writing(&payment),
            Err(error) => drop((error.code().to_string(), error.to_string())),
        }
    }
}

fn survives_writing(payment: &PaymentPayload) {
    let again = PaymentPayload::parse_json(payment.to_json().as_bytes(), &Limits::DEFAULT);
    let again = again.expect("what was written can be read");
    assert_eq!(again.scheme_payload(), payment.scheme_payload());
    assert_eq!(again.selector(), payment.selector());
    assert_eq!(again.version(), payment.version());
    assert_eq!(again.to_json(), payment.to_json());
}
