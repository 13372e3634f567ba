//! Chat requests as callers send them.

use tollgate_chat::dialect::{RequestConfig, dgrid};
use tollgate_chat::upstream::openai::OpenAiOptions;
use tollgate_chat::{Dialect, upper_bound_tokens};

/// A request that is read can be asked of a model server, and survives being written again by our own client.
pub fn check(data: &[u8]) {
    let config = RequestConfig::default();
    match Dialect::DGrid.decode_request(data, &config) {
        Ok(request) => {
            assert!(!request.messages.is_empty());
            assert!(upper_bound_tokens(request.content_bytes()) >= 1);
            let asked = OpenAiOptions::default().encode_request(&request);
            assert!(asked.starts_with(b"{") && asked.ends_with(b"}"));
            let again = Dialect::DGrid.decode_request(&dgrid::encode_request(&request), &config);
            assert_eq!(again.expect("what was written can be read"), request);
        }
        Err(error) => drop(error.to_string()),
    }
}
