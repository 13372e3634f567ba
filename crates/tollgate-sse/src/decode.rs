//! Bytes into events, chunk by chunk: WHATWG HTML §9.2.6.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::event::{Event, Field};
use crate::limits::{DecodeError, Limits};
use crate::text::Utf8Bytes;

/// What the decoder yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An event.
    Event(Event),
    /// A comment line without its colon. Only yielded when asked for by [`Decoder::with_comments`].
    Comment(Utf8Bytes),
}

/// An incremental decoder: push chunks as they come, pop what they complete.
///
/// What comes out does not depend on where the chunks were cut. A value that lies in one chunk is a
/// slice of it; only lines cut by a chunk's end and data of several lines are copied.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    comments: bool,
    /// Chunks that are not read yet; the first may be partly read.
    chunks: VecDeque<Bytes>,
    /// The beginning of a line whose end has not come.
    carry: BytesMut,
    /// The last byte read was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line was read yet: a byte order mark may come.
    at_start: bool,
    block: Block,
    last_event_id: Utf8Bytes,
    reconnection_time: Option<u64>,
    failed: Option<DecodeError>,
}

/// The fields since the last blank line.
#[derive(Clone, Debug, Default)]
struct Block {
    event: Option<Utf8Bytes>,
    data: Data,
    id: Option<Utf8Bytes>,
    retry: Option<u64>,
}

/// The data buffer: a slice while there is one line, a copy from the second on.
#[derive(Clone, Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Decoder {
    /// A decoder at the beginning of a stream, that drops comments.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            comments: false,
            chunks: VecDeque::new(),
            carry: BytesMut::new(),
            after_cr: false,
            at_start: true,
            block: Block::default(),
            last_event_id: Utf8Bytes::new(),
            reconnection_time: None,
            failed: None,
        }
    }

    /// The same decoder, yielding comments too.
    pub fn with_comments(mut self) -> Self {
        self.comments = true;
        self
    }

    /// Takes the next chunk of the stream. It is held until it is read: pop all frames after each push,
    /// and the memory used stays within the [`Limits`] and one chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && self.failed.is_none() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next event or comment, `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError`] when the stream breaks a limit; from then on every call returns it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance().inspect_err(|error| {
            self.failed = Some(*error);
            self.chunks.clear();
            self.carry = BytesMut::new();
            self.block = Block::default();
        })
    }

    /// The next event, `None` if more bytes are needed; comments are passed over.
    ///
    /// # Errors
    /// As [`next_frame`](Self::next_frame).
    pub fn next_event(&mut self) -> Result<Option<Event>, DecodeError> {
        loop {
            match self.next_frame()? {
                Some(Frame::Event(event)) => return Ok(Some(event)),
                Some(Frame::Comment(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// At the end of the stream: the event whose blank line never came, which the standard tells
    /// browsers to discard. Senders that forget it are common; a sender that died leaves one too, so
    /// judge by the content. The decoder is empty afterwards.
    ///
    /// # Errors
    /// As [`next_frame`](Self::next_frame).
    pub fn take_unfinished(&mut self) -> Result<Option<Event>, DecodeError> {
        if let Some(event) = self.next_event()? {
            return Ok(Some(event));
        }
        if !self.carry.is_empty() {
            let line = self.carry.split().freeze();
            self.take_field(line)
                .inspect_err(|error| self.failed = Some(*error))?;
        }
        Ok(self.dispatch())
    }

    /// The id that a reconnecting client sends as `Last-Event-ID`: the last one before a blank line, also
    /// of a block that held no data. Empty if there is none.
    pub fn last_event_id(&self) -> &Utf8Bytes {
        &self.last_event_id
    }

    /// The last reconnection time that the stream gave, in milliseconds.
    pub fn reconnection_time(&self) -> Option<u64> {
        self.reconnection_time
    }

    fn advance(&mut self) -> Result<Option<Frame>, DecodeError> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    return Ok(Some(Frame::Event(event)));
                }
            } else if let Some(comment) = self.take_field(line)?
                && self.comments
            {
                return Ok(Some(Frame::Comment(comment)));
            }
        }
        Ok(None)
    }

    /// The next whole line, without its end and without the byte order mark.
    fn next_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let too_long = DecodeError::LineTooLong {
            limit: self.limits.max_line,
        };
        while let Some(chunk) = self.chunks.front_mut() {
            if self.after_cr {
                self.after_cr = false;
                if chunk.first() == Some(&b'\n') {
                    chunk.advance(1);
                }
            }
            let end = chunk.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let length = self.carry.len().saturating_add(end.unwrap_or(chunk.len()));
            if length > self.limits.max_line {
                return Err(too_long);
            }
            let Some(end) = end else {
                self.carry.extend_from_slice(chunk);
                self.chunks.pop_front();
                continue;
            };
            let mut line = chunk.split_to(end);
            self.after_cr = chunk.first() == Some(&b'\r');
            chunk.advance(1);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            if !self.carry.is_empty() {
                self.carry.extend_from_slice(&line);
                line = self.carry.split().freeze();
            }
            if self.at_start {
                self.at_start = false;
                if line.starts_with(b"\xef\xbb\xbf") {
                    line.advance(3);
                }
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// Processes one line that is not blank. Returns the text if it is a comment.
    fn take_field(&mut self, mut line: Bytes) -> Result<Option<Utf8Bytes>, DecodeError> {
        let colon = line.iter().position(|b| *b == b':');
        let name = line.split_to(colon.unwrap_or(line.len()));
        if colon.is_some() {
            line.advance(1);
        }
        if name.is_empty() {
            return Ok(self.comments.then(|| Utf8Bytes::from_lossy(line)));
        }
        if line.first() == Some(&b' ') {
            line.advance(1);
        }
        match name.as_ref() {
            b"data" => self.block.data.push(line),
            b"event" => self.block.event = Some(Utf8Bytes::from_lossy(line)),
            b"id" if !line.contains(&0) => self.block.id = Some(Utf8Bytes::from_lossy(line)),
            b"retry" => {
                if let Some(time) = milliseconds(&line) {
                    self.block.retry = Some(time);
                    self.reconnection_time = Some(time);
                }
            }
            _ => return Ok(None),
        }
        if self.block.size() > self.limits.max_event {
            return Err(DecodeError::EventTooLarge {
                limit: self.limits.max_event,
            });
        }
        Ok(None)
    }

    /// A blank line: the block becomes an event if it has data.
    fn dispatch(&mut self) -> Option<Event> {
        let block = std::mem::take(&mut self.block);
        if let Some(id) = &block.id {
            self.last_event_id = id.clone();
        }
        Some(Event {
            data: Utf8Bytes::from_lossy(block.data.join()?),
            event: block
                .event
                .filter(|name| !name.is_empty())
                .map(Field::from_line),
            id: block.id.map(Field::from_line),
            retry: block.retry,
        })
    }
}

/// With the default [`Limits`].
impl Default for Decoder {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Block {
    fn size(&self) -> usize {
        let text = |text: &Option<Utf8Bytes>| text.as_ref().map_or(0, Utf8Bytes::len);
        self.data
            .len()
            .saturating_add(text(&self.event))
            .saturating_add(text(&self.id))
    }
}

impl Data {
    fn push(&mut self, line: Bytes) {
        match self {
            Self::None => *self = Self::One(line),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity(
                    first.len().saturating_add(line.len()).saturating_add(1),
                );
                all.extend_from_slice(first);
                all.extend_from_slice(b"\n");
                all.extend_from_slice(&line);
                *self = Self::Many(all);
            }
            Self::Many(all) => {
                all.extend_from_slice(b"\n");
                all.extend_from_slice(&line);
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(line) => line.len(),
            Self::Many(all) => all.len(),
        }
    }

    fn join(self) -> Option<Bytes> {
        match self {
            Self::None => None,
            Self::One(line) => Some(line),
            Self::Many(all) => Some(all.freeze()),
        }
    }
}

/// ASCII digits only; a time too long for 64 bits is as good as the longest.
fn milliseconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| digit.wrapping_sub(b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &'static str) -> Vec<Event> {
        let mut decoder = Decoder::default();
        decoder.push(Bytes::from_static(input.as_bytes()));
        std::iter::from_fn(|| decoder.next_event().unwrap()).collect()
    }

    fn data(input: &'static str) -> Vec<String> {
        all(input).iter().map(|e| e.data.to_string()).collect()
    }

    #[test]
    fn the_examples_of_the_standard_mean_what_it_says() {
        // WHATWG HTML §9.2.6, the three examples after the parsing rules.
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        let events = all(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        );
        assert_eq!(
            events.iter().map(|e| e.data.as_str()).collect::<Vec<_>>(),
            ["first event", "second event", " third event"]
        );
        assert_eq!(events[0].id.as_ref().unwrap(), &"1");
        assert_eq!(events[1].id.as_ref().unwrap(), &"");
        assert_eq!(events[2].id, None);
        assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
        assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
    }

    #[test]
    fn every_line_end_counts_once() {
        for input in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\rdata: b\r\r",
            "data: a\r\n\r\ndata: b\r\n\r\n",
        ] {
            assert_eq!(data(input), ["a", "b"], "{input:?}");
        }
    }

    #[test]
    fn a_carriage_return_ends_the_event_without_waiting_for_a_line_feed() {
        let mut decoder = Decoder::default();
        decoder.push(Bytes::from_static(b"data: a\r\n\r"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "a");
        decoder.push(Bytes::from_static(b"\ndata: b\r\n\r\n"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "b");
        assert_eq!(decoder.next_event().unwrap(), None);
    }

    #[test]
    fn one_byte_order_mark_is_dropped_and_no_more() {
        assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(data("\u{feff}\u{feff}data: a\n\n"), [""; 0]);
        assert_eq!(data("data: a\n\n\u{feff}data: b\n\n"), ["a"]);
        assert_eq!(data("\u{feff}\ndata: a\n\n"), ["a"]);
    }

    #[test]
    fn names_ids_and_times_follow_the_standard() {
        let events = all(
            "event: x\ndata: 1\n\nevent:\ndata: 2\n\nid: a\0b\ndata: 3\n\nretry: 15x\ndata: 4\n\n\
                          retry: 0015\ndata: 5\n\nretry: 99999999999999999999\ndata: 6\n\nretry:\ndata: 7\n\n\
                          Data: 8\n\nevent: y\n\ndata: 9\n\n",
        );
        let of = |i: usize| (events[i].name(), events[i].id.clone(), events[i].retry);
        assert_eq!(of(0), ("x", None, None));
        assert_eq!(of(1), ("message", None, None));
        assert_eq!(of(2), ("message", None, None));
        assert_eq!(of(3).2, None);
        assert_eq!(of(4).2, Some(15));
        assert_eq!(of(5).2, Some(u64::MAX));
        assert_eq!(of(6).2, None);
        assert_eq!(events[7].data, "9");
        assert_eq!(
            of(7).0,
            "message",
            "a block without data takes its name along"
        );
    }

    #[test]
    fn an_id_without_data_is_remembered() {
        let mut decoder = Decoder::default();
        decoder.push(Bytes::from_static(b"id: 7\nretry: 3\n\n"));
        assert_eq!(decoder.next_event().unwrap(), None);
        assert_eq!(decoder.last_event_id(), &"7");
        assert_eq!(decoder.reconnection_time(), Some(3));
    }

    #[test]
    fn comments_are_yielded_in_order_when_asked_for() {
        let mut decoder = Decoder::default().with_comments();
        decoder.push(Bytes::from_static(b": one\ndata: a\n:two\n\n"));
        let frames: Vec<_> = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
        assert_eq!(
            frames,
            [
                Frame::Comment(" one".into()),
                Frame::Comment("two".into()),
                Frame::Event(Event::new("a"))
            ]
        );
    }

    #[test]
    fn an_event_within_a_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"event: e\ndata: abc\n\n");
        let mut decoder = Decoder::default();
        decoder.push(chunk.clone());
        let event = decoder.next_event().unwrap().unwrap();
        assert_eq!(event.data.as_bytes().as_ptr(), chunk[15..].as_ptr());
    }

    #[test]
    fn limits_hold_wherever_the_chunks_are_cut_and_the_error_stays() {
        let input = b"data: 12345\n\ndata: 123456789\n\n";
        for cut in 0..input.len() {
            let mut decoder = Decoder::new(Limits::new(11, 100));
            decoder.push(Bytes::copy_from_slice(&input[..cut]));
            let mut seen = Vec::new();
            let mut next = |decoder: &mut Decoder| {
                loop {
                    match decoder.next_event() {
                        Ok(Some(event)) => seen.push(event.data.to_string()),
                        Ok(None) => return Ok(seen.len()),
                        Err(error) => return Err((seen.len(), error)),
                    }
                }
            };
            let before = next(&mut decoder);
            decoder.push(Bytes::copy_from_slice(&input[cut..]));
            let error = DecodeError::LineTooLong { limit: 11 };
            assert_eq!(
                next(&mut decoder),
                Err((1, error)),
                "cut at {cut}, before {before:?}"
            );
            decoder.push(Bytes::from_static(b"\n\ndata: a\n\n"));
            assert_eq!(next(&mut decoder), Err((1, error)));
        }
    }

    #[test]
    fn many_small_lines_cannot_grow_an_event_beyond_its_limit() {
        let mut decoder = Decoder::new(Limits::new(100, 10));
        decoder.push(Bytes::from_static(b"data: 1234\ndata: 5678\n\n"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "1234\n5678");
        decoder.push(Bytes::from_static(b"data: 1234\ndata: 56789\nevent: e\n\n"));
        assert_eq!(
            decoder.next_event(),
            Err(DecodeError::EventTooLarge { limit: 10 })
        );
    }

    #[test]
    fn an_unfinished_event_is_only_given_to_who_asks() {
        let mut decoder = Decoder::default();
        decoder.push(Bytes::from_static(b"data: a\n\ndata: b"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "a");
        assert_eq!(decoder.next_event().unwrap(), None);
        assert_eq!(decoder.take_unfinished().unwrap().unwrap().data, "b");
        assert_eq!(decoder.take_unfinished().unwrap(), None);
    }
}
