//! Whether and how the connection is encrypted: what the URL says, read before the database's own client sees it.
//!
//! libpq has six modes, of which four encrypt without knowing with whom, or not at all where the other side would rather
//! not. Here there are two: encrypted with a server whose certificate and name are verified, or in the clear because the
//! URL says so.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresError;

/// How the connection is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// The URL says nothing.
    Unsaid,
    /// In the clear.
    Clear,
    /// Encrypted, and the server verified: by the certificates of this file, or by the system's.
    Verified(Option<String>),
}

/// What a URL, or `key=value` words, say of encryption, and the rest of it.
///
/// # Errors
/// [`PostgresError::TlsMode`]: a mode that promises less than it seems to.
pub(super) fn read(url: &str) -> Result<(String, Mode), PostgresError> {
    let (rest, mode, root) = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let words: Vec<&str> = query.split('&').filter(|word| !word.is_empty()).collect();
        let (kept, mode, root) = sort(words);
        let mark = if kept.is_empty() { "" } else { "?" };
        (format!("{place}{mark}{}", kept.join("&")), mode, root)
    } else {
        let (kept, mode, root) = sort(words(url));
        (kept.join(" "), mode, root)
    };
    let root = root.filter(|root| root != "system");
    let mode = match mode.as_deref() {
        None if root.is_none() => Mode::Unsaid,
        Some("disable") if root.is_none() => Mode::Clear,
        None | Some("require" | "verify-full") => Mode::Verified(root),
        Some(_) => return Err(PostgresError::TlsMode),
    };
    Ok((rest, mode))
}

/// The words that are not of encryption, the mode, and the file with certificates.
fn sort(words: Vec<&str>) -> (Vec<&str>, Option<String>, Option<String>) {
    let (mut kept, mut mode, mut root) = (Vec::new(), None, None);
    for word in words {
        match word.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some(("sslmode", value)) => mode = Some(plain(value)),
            Some(("sslrootcert", value)) => root = Some(plain(value)),
            _ => kept.push(word),
        }
    }
    (kept, mode, root)
}

fn plain(value: &str) -> String {
    value.trim().trim_matches('\'').to_owned()
}

/// `key=value` words as libpq parts them: at white space outside of quotes.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut from) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                words.extend(text.get(from..at));
                from = at.saturating_add(c.len_utf8());
            }
            _ => {}
        }
    }
    words.extend(text.get(from..));
    words.retain(|word| !word.is_empty());
    words
}

/// What verifies the server and encrypts.
///
/// # Errors
/// [`PostgresError::Certificates`].
pub(super) fn connector(root: Option<&str>) -> Result<MakeRustlsConnect, PostgresError> {
    let failed = |what: String| PostgresError::Certificates {
        place: root.unwrap_or("the system").to_owned(),
        what,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let config = match root {
        None => builder
            .with_platform_verifier()
            .map_err(|error| failed(error.to_string()))?
            .with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let found =
                CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| failed(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed("it has no certificate".into()));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(root: &str) -> Mode {
        Mode::Verified((!root.is_empty()).then(|| root.to_owned()))
    }

    #[test]
    fn what_a_url_says_of_encryption_is_read_and_taken_out() {
        for (url, rest, mode) in [
            ("postgresql://a:b@h/d", "postgresql://a:b@h/d", Mode::Unsaid),
            (
                "postgresql://h/d?sslmode=disable",
                "postgresql://h/d",
                Mode::Clear,
            ),
            (
                "postgresql://h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=/etc/ca.pem",
                "postgresql://h/d?connect_timeout=3",
                verified("/etc/ca.pem"),
            ),
            (
                "postgres://h/d?sslmode=require&sslrootcert=system",
                "postgres://h/d",
                verified(""),
            ),
            (
                "host=h sslmode=verify-full dbname=d",
                "host=h dbname=d",
                verified(""),
            ),
            ("host=h sslmode='disable'", "host=h", Mode::Clear),
            // A certificate is named to be used.
            ("host=h sslrootcert=ca.pem", "host=h", verified("ca.pem")),
            // Words of a password are none.
            (
                r"host=h password='a sslmode=disable \' b'",
                r"host=h password='a sslmode=disable \' b'",
                Mode::Unsaid,
            ),
        ] {
            assert_eq!(read(url), Ok((rest.to_owned(), mode)), "{url}");
        }
    }

    #[test]
    fn a_mode_that_promises_less_than_it_seems_to_is_refused() {
        for mode in ["prefer", "allow", "verify-ca", "yes", ""] {
            let url = format!("postgresql://h/d?sslmode={mode}");
            assert_eq!(read(&url), Err(PostgresError::TlsMode), "{mode}");
        }
        let contradiction = "host=h sslmode=disable sslrootcert=ca.pem";
        assert_eq!(read(contradiction), Err(PostgresError::TlsMode));
    }
}
