//! UTF-8 text as a slice of a shared buffer.

use std::fmt;

use bytes::Bytes;

/// Text that shares the buffer it came in. The bytes are UTF-8.
///
/// A small slice keeps the whole chunk it was cut from alive: copy it to keep it for long.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Utf8Bytes(Bytes);

impl Utf8Bytes {
    /// The empty text.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// Text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Decodes as the standard does (WHATWG HTML §9.2.6, "UTF-8 decode"): what is no UTF-8 becomes U+FFFD.
    /// Valid input is not copied.
    pub fn from_lossy(bytes: Bytes) -> Self {
        match String::from_utf8_lossy(&bytes) {
            std::borrow::Cow::Borrowed(_) => Self(bytes),
            std::borrow::Cow::Owned(text) => Self(Bytes::from(text)),
        }
    }

    /// The text. It is checked again, which is cheap but not free: parsers that take bytes should be
    /// given [`as_bytes`](Self::as_bytes).
    pub fn as_str(&self) -> &str {
        // The bytes were checked when the value was made, so the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes, which are UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shared buffer.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// `part`, which must be a piece of this text, without copying it. A text from elsewhere is copied.
    pub fn share(&self, part: &str) -> Self {
        let outer = self.0.as_ptr_range();
        let inner = part.as_bytes().as_ptr_range();
        if !part.is_empty() && outer.start <= inner.start && inner.end <= outer.end {
            Self(self.0.slice_ref(part.as_bytes()))
        } else {
            Self(Bytes::copy_from_slice(part.as_bytes()))
        }
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for Utf8Bytes {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_text_is_not_copied() {
        let bytes = Bytes::from_static("grüße".as_bytes());
        let text = Utf8Bytes::from_lossy(bytes.clone());
        assert_eq!(text.as_bytes().as_ptr(), bytes.as_ptr());
        let part = text.share(&text.as_str()[2..4]);
        assert_eq!(part, "ü");
        assert_eq!(part.as_bytes().as_ptr(), bytes[2..].as_ptr());
    }

    #[test]
    fn invalid_bytes_become_replacement_characters() {
        assert_eq!(
            Utf8Bytes::from_lossy(Bytes::from_static(b"a\xffb")),
            "a\u{fffd}b"
        );
        assert!(Utf8Bytes::try_from(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_foreign_part_is_copied() {
        assert_eq!(Utf8Bytes::from("abc").share("xyz"), "xyz");
        assert_eq!(Utf8Bytes::from("abc").share(""), "");
    }
}
