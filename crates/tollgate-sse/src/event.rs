//! One event, as it goes over the wire.

use crate::text::Utf8Bytes;

/// One server-sent event, WHATWG HTML §9.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type. `None` is the standard's `message`; an empty name means the same.
    pub event: Option<Field>,
    /// The payload. CR and CRLF in it reach the receiver as LF: the format has no way to keep them.
    pub data: Utf8Bytes,
    /// The id given in this very event: an empty one resets the receiver's last event id. An id with U+0000
    /// is ignored by every receiver, so it is neither written nor read.
    pub id: Option<Field>,
    /// The reconnection time in milliseconds given in this very event.
    pub retry: Option<u64>,
}

impl Event {
    /// An unnamed event with this payload.
    pub fn new(data: impl Into<Utf8Bytes>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// The same event under a name.
    pub fn with_event(mut self, name: Field) -> Self {
        self.event = Some(name);
        self
    }

    /// The same event with an id.
    pub fn with_id(mut self, id: Field) -> Self {
        self.id = Some(id);
        self
    }

    /// The same event with a reconnection time in milliseconds.
    pub fn with_retry(mut self, milliseconds: u64) -> Self {
        self.retry = Some(milliseconds);
        self
    }

    /// The name, or the standard's default.
    pub fn name(&self) -> &str {
        match &self.event {
            Some(name) if !name.as_str().is_empty() => name.as_str(),
            _ => "message",
        }
    }
}

/// A value that fits on one line: it holds neither CR nor LF, so it cannot start a field of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field(Utf8Bytes);

impl Field {
    /// Checks that the text is one line.
    pub fn new(text: impl Into<Utf8Bytes>) -> Result<Self, FieldError> {
        let text = text.into();
        if text.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n')) {
            Err(FieldError)
        } else {
            Ok(Self(text))
        }
    }

    /// For values cut out of a line by the decoder.
    pub(crate) fn from_line(text: Utf8Bytes) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The bytes, which are UTF-8 without CR and LF.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl PartialEq<str> for Field {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<&str> for Field {
    fn eq(&self, other: &&str) -> bool {
        self.0 == **other
    }
}

/// The caller gave a name or an id that spans lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name or id of an event must be one line: take out the line ends")]
pub struct FieldError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_smuggle_another_line() {
        assert_eq!(Field::new("a\ndata: b"), Err(FieldError));
        assert_eq!(Field::new("a\rdata: b"), Err(FieldError));
        assert_eq!(Field::new("a: b").unwrap(), "a: b");
    }

    #[test]
    fn an_unnamed_event_is_a_message() {
        assert_eq!(Event::new("x").name(), "message");
        assert_eq!(
            Event::new("x").with_event(Field::default()).name(),
            "message"
        );
        assert_eq!(
            Event::new("x")
                .with_event(Field::new("ping").unwrap())
                .name(),
            "ping"
        );
    }
}
