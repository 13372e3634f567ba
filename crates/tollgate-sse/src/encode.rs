//! Events into bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::event::Event;

impl Event {
    /// This event as one frame, ended by its blank line.
    pub fn encode(&self) -> Bytes {
        let mut buf = BytesMut::with_capacity(self.data.len().saturating_add(64));
        self.encode_into(&mut buf);
        buf.freeze()
    }

    /// Appends this event as one frame, ended by its blank line.
    pub fn encode_into(&self, buf: &mut BytesMut) {
        if let Some(name) = &self.event
            && !name.as_bytes().is_empty()
        {
            put_line(buf, b"event: ", name.as_bytes());
        }
        if let Some(id) = &self.id
            && !id.as_bytes().contains(&0)
        {
            put_line(buf, b"id: ", id.as_bytes());
        }
        if let Some(retry) = self.retry {
            put_line(buf, b"retry: ", retry.to_string().as_bytes());
        }
        encode_data(buf, self.data.as_bytes());
    }
}

/// Appends `data` as an unnamed event: the short way for streams that use nothing else.
///
/// Line ends in `data` (LF, CR, CRLF) become several `data` lines; bytes that are not UTF-8 reach the
/// receiver as U+FFFD.
pub fn encode_data(buf: &mut BytesMut, data: &[u8]) {
    buf.reserve(data.len().saturating_add(8));
    for line in lines(data) {
        put_line(buf, b"data: ", line);
    }
    buf.put_u8(b'\n');
}

/// Appends a comment and a blank line: receivers drop it. Good for keep-alives, and for facts that
/// only a reader of the raw stream wants.
pub fn encode_comment(buf: &mut BytesMut, text: &str) {
    for line in lines(text.as_bytes()) {
        put_line(buf, b": ", line);
    }
    buf.put_u8(b'\n');
}

fn put_line(buf: &mut BytesMut, field: &[u8], value: &[u8]) {
    buf.put_slice(field);
    buf.put_slice(value);
    buf.put_u8(b'\n');
}

/// The lines between LF, CR and CRLF; at least one.
fn lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let Some(at) = rest.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
            done = true;
            return Some(rest);
        };
        let (line, tail) = rest.split_at(at);
        rest = tail
            .strip_prefix(b"\r\n")
            .or_else(|| tail.get(1..))
            .unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Field;

    #[test]
    fn an_event_is_its_fields_and_a_blank_line() {
        let event = Event::new("a\nb\r\nc\rd")
            .with_event(Field::new("e").unwrap())
            .with_id(Field::new("7").unwrap())
            .with_retry(250);
        assert_eq!(
            event.encode(),
            "event: e\nid: 7\nretry: 250\ndata: a\ndata: b\ndata: c\ndata: d\n\n".as_bytes()
        );
    }

    #[test]
    fn an_empty_event_still_has_its_data_line() {
        assert_eq!(Event::default().encode(), "data: \n\n".as_bytes());
        assert_eq!(Event::new("\n").encode(), "data: \ndata: \n\n".as_bytes());
    }

    #[test]
    fn a_comment_cannot_start_a_field() {
        let mut buf = BytesMut::new();
        encode_comment(&mut buf, "x\ndata: y");
        assert_eq!(buf, b": x\n: data: y\n\n"[..]);
    }
}
