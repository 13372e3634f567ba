//! What a payment is bound to.

use alloy_primitives::Keccak256;
use http::request::Parts;
use tollgate_x402::B256;

/// The digest of a request: keccak-256 over its method, its path with query, and its body, each preceded by its
/// length in bytes as 8 bytes, big end first. Headers and host are not part of it.
pub fn request_digest(parts: &Parts, body: &[u8]) -> B256 {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut hasher = Keccak256::new();
    for field in [parts.method.as_str().as_bytes(), path.as_bytes(), body] {
        // A length in memory fits 64 bits.
        hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(field);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::request_digest;

    fn digest(method: &str, uri: &str, body: &[u8]) -> super::B256 {
        request_digest(
            &Request::builder()
                .method(method)
                .uri(uri)
                .body(())
                .unwrap()
                .into_parts()
                .0,
            body,
        )
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let one = digest("POST", "/a?b", b"cd");
        assert_eq!(one, digest("POST", "http://elsewhere.example/a?b", b"cd"));
        for other in [
            digest("PUT", "/a?b", b"cd"),
            digest("POST", "/a?bc", b"d"),
            digest("POST", "/a", b"?bcd"),
            digest("POST", "/a?b", b"cd "),
            digest("POST", "/a?b", b""),
        ] {
            assert_ne!(one, other);
        }
    }
}
