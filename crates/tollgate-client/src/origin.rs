//! Whom one pays.

use core::fmt;
use std::net::IpAddr;

use http::Uri;

/// An origin (RFC 6454): scheme, host and port. What is known of a seller is known of an origin.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Origin {
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
}

impl Origin {
    /// The origin of an absolute URI with `http` or `https`.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let standard = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?;
        Some(Self {
            scheme: scheme.into(),
            host: host_name(host).into(),
            port: uri.port_u16().filter(|port| *port != standard),
        })
    }

    /// The host, in lower case, without a final dot.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether what goes there is encrypted.
    pub fn is_https(&self) -> bool {
        &*self.scheme == "https"
    }

    /// Whether the host is this machine itself.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// A host as it is compared: hosts have no case, and a final dot is the same name.
pub(crate) fn host_name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    fn origin(uri: &str) -> Option<Origin> {
        Origin::of(&uri.parse().unwrap())
    }

    #[test]
    fn origins_are_compared_by_meaning() {
        assert_eq!(
            origin("https://API.example.com/a"),
            origin("https://api.example.com.:443/b?c")
        );
        assert_ne!(
            origin("https://api.example.com/"),
            origin("http://api.example.com/")
        );
        assert_ne!(origin("http://localhost:1/"), origin("http://localhost:2/"));
        assert_eq!(origin("/x402/v1"), None);
        assert_eq!(origin("ftp://example.com/"), None);
        assert_eq!(
            origin("http://127.0.0.1:8402/x").unwrap().to_string(),
            "http://127.0.0.1:8402"
        );
    }

    #[test]
    fn loopback_is_this_machine_and_nothing_that_looks_like_it() {
        for here in [
            "http://127.0.0.1/",
            "http://127.8.9.1:80/",
            "http://[::1]:8402/",
            "http://LOCALHOST/",
        ] {
            assert!(origin(here).unwrap().is_loopback(), "{here}");
        }
        for elsewhere in [
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://10.0.0.1/",
            "http://0.0.0.0/",
        ] {
            assert!(!origin(elsewhere).unwrap().is_loopback(), "{elsewhere}");
        }
        assert_eq!(
            origin("http://127.0.0.1@evil.example/").unwrap().host(),
            "evil.example"
        );
    }
}
