//! What a request is, as far as paying for it goes.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Keccak256};
use http::{Method, Uri};
use serde_json::value::RawValue;

use crate::Origin;

/// One request.
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// Names this very request: method, URL and body.
    pub(crate) digest: B256,
    /// Names requests that differ in nothing but the length of what is said: their prices can be compared.
    pub(crate) likeness: B256,
    /// Bytes of the body.
    pub(crate) length: u64,
}

/// The members of a body that hold what is said, and not how it is to be answered.
const SAID: [&str; 9] = [
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "id",
    "messageId",
    "trigger",
    "metadata",
];

impl Target {
    /// Nothing if the URL has no origin.
    pub(crate) fn of(method: &Method, uri: &Uri, body: &[u8]) -> Option<Self> {
        let origin = Origin::of(uri)?;
        let mut head = Keccak256::new();
        for part in [
            method.as_str(),
            &origin.to_string(),
            uri.path_and_query().map_or("/", |path| path.as_str()),
        ] {
            head.update(part);
            head.update([0]);
        }
        let mut digest = head.clone();
        digest.update(body);
        let mut likeness = head;
        match serde_json::from_slice::<BTreeMap<String, &RawValue>>(body) {
            Ok(members) => {
                for (key, value) in members {
                    if !SAID.contains(&key.as_str()) {
                        likeness.update(key);
                        likeness.update([0]);
                        likeness.update(value.get());
                        likeness.update([0]);
                    }
                }
            }
            // Nothing is known of it, so it is like itself alone.
            Err(_) => likeness.update(body),
        }
        Some(Self {
            origin,
            digest: digest.finalize(),
            likeness: likeness.finalize(),
            length: u64::try_from(body.len()).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use http::Method;

    fn target(url: &str, body: &str) -> Target {
        Target::of(&Method::POST, &url.parse().unwrap(), body.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_is_said_may_differ_between_like_requests() {
        let url = "https://a.example/x402/v1";
        let first = target(url, r#"{"model":"m","maxTokens":10,"messages":[1]}"#);
        let longer = target(url, r#"{"messages":[1,2,3],"maxTokens":10,"model":"m"}"#);
        assert_eq!(first.likeness, longer.likeness);
        assert_ne!(first.digest, longer.digest);
        for other in [
            target(url, r#"{"model":"m","maxTokens":11,"messages":[1]}"#),
            target(url, r#"{"model":"n","maxTokens":10,"messages":[1]}"#),
            target(url, r#"{"model":"m","messages":[1]}"#),
            target(
                "https://b.example/x402/v1",
                r#"{"model":"m","maxTokens":10,"messages":[1]}"#,
            ),
            target(url, "no JSON"),
        ] {
            assert_ne!(first.likeness, other.likeness);
        }
    }
}
