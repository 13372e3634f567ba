//! Files inside a request, and the rule that keeps every other URL out.

use std::fmt;

/// A `data:` URL (RFC 2397) in base64 with a media type: the only kind of URL that is carried upstream.
///
/// Model servers fetch what an `image_url` names, so a URL chosen by a caller would reach into the
/// seller's network. The scheme must be the very first bytes, no blank or line end is accepted anywhere,
/// and the text is rebuilt from its checked pieces: no parser further on can read another scheme into it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DataUrl {
    url: String,
    media_type_len: usize,
}

const SCHEME: &str = "data:";

impl DataUrl {
    /// Checks and normalises: scheme and media type in lower case, parameters dropped.
    ///
    /// # Errors
    /// [`DataUrlError::Remote`] for anything that does not begin with `data:`, [`DataUrlError::Malformed`] for
    /// what is no base64 `data:` URL with a media type.
    pub fn parse(url: &str) -> Result<Self, DataUrlError> {
        let (scheme, rest) = url
            .split_at_checked(SCHEME.len())
            .ok_or(DataUrlError::Remote)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(DataUrlError::Remote);
        }
        let (head, data) = rest.split_once(',').ok_or(DataUrlError::Malformed)?;
        let mut parameters = head.split(';');
        let media_type = parameters.next().unwrap_or_default().to_ascii_lowercase();
        let base64 = parameters
            .next_back()
            .is_some_and(|last| last.eq_ignore_ascii_case("base64"));
        if !base64 || !is_media_type(&media_type) || !is_base64(data) {
            return Err(DataUrlError::Malformed);
        }
        Ok(Self {
            url: format!("{SCHEME}{media_type};base64,{data}"),
            media_type_len: media_type.len(),
        })
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The media type, in lower case, without parameters.
    pub fn media_type(&self) -> &str {
        let rest = self.url.get(SCHEME.len()..).unwrap_or_default();
        rest.get(..self.media_type_len).unwrap_or_default()
    }

    /// Whether this is a picture.
    pub fn is_image(&self) -> bool {
        self.media_type().starts_with("image/")
    }
}

/// The type and the size only: the content belongs to the caller.
impl fmt::Debug for DataUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DataUrl({}, {} bytes)",
            self.media_type(),
            self.url.len()
        )
    }
}

/// Why a URL is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataUrlError {
    /// It points elsewhere.
    #[error(
        "only data: URLs are accepted, nothing is fetched: put the file into the request as base64"
    )]
    Remote,
    /// It is a `data:` URL that is not understood.
    #[error("the data: URL is malformed: send data:<type>/<subtype>;base64,<base64>")]
    Malformed,
}

fn is_media_type(text: &str) -> bool {
    // RFC 6838 §4.2, restricted-name.
    let name = |part: &str| {
        !part.is_empty()
            && part.len() <= 127
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| name(kind) && name(subtype))
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len().saturating_sub(digits.len()) <= 2
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_rebuilt_from_its_pieces() {
        let url = DataUrl::parse("DATA:Image/PNG;name=x.png;BASE64,iVBORw0KGgo=").unwrap();
        assert_eq!(url.as_str(), "data:image/png;base64,iVBORw0KGgo=");
        assert_eq!(url.media_type(), "image/png");
        assert!(url.is_image());
        assert_eq!(format!("{url:?}"), "DataUrl(image/png, 34 bytes)");
    }

    #[test]
    fn no_url_that_points_elsewhere_is_carried() {
        for url in [
            "http://127.0.0.1/",
            "https://example.com/a.png",
            "HTTP://169.254.169.254/latest/meta-data/",
            "https://example.com@10.0.0.1/",
            "http:\\\\10.0.0.1\\a",
            "//10.0.0.1/a",
            "/etc/passwd",
            "file:///etc/passwd",
            "ftp://10.0.0.1/",
            "gopher://10.0.0.1/",
            "blob:https://example.com/1",
            "javascript:alert(1)",
            " data:image/png;base64,AAAA",
            "\tdata:image/png;base64,AAAA",
            "da\nta:image/png;base64,AAAA",
            "data",
            "",
            "ｄata:image/png;base64,AAAA",
            "http://[::ffff:127.0.0.1]/data:image/png;base64,AAAA",
        ] {
            assert_eq!(DataUrl::parse(url), Err(DataUrlError::Remote), "{url:?}");
        }
    }

    #[test]
    fn a_data_url_that_two_parsers_may_read_differently_is_refused() {
        for url in [
            "data:",
            "data:,",
            "data:text/plain,http://10.0.0.1/",
            "data:;base64,AAAA",
            "data:image/png;base64,AAA",
            "data:image/png;base64,AA=A",
            "data:image/png;base64,====",
            "data:image/png;base64,AAAA\n",
            "data:image/png;base64,AA AA",
            "data:image/png;base64, AAAA",
            "data:image/png;base64,AAAA#http://10.0.0.1/",
            "data://10.0.0.1/a;base64,AAAA",
            "data:image/png;base64;x=y,AAAA",
            "data:image/p\u{0}ng;base64,AAAA",
        ] {
            assert_eq!(DataUrl::parse(url), Err(DataUrlError::Malformed), "{url:?}");
        }
    }
}
