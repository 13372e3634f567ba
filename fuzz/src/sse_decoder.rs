//! The decoder of event streams, cut where the input says.

use bytes::Bytes;
use tollgate_sse::{Decoder, Event, Limits};

/// The first byte is the length of the chunks, the rest is the stream: however it is cut, the same events come out,
/// and each of them survives being written again.
pub fn check(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let limits = Limits::new(4 * 1024, 16 * 1024);
    let whole = decode([stream], limits);
    let cut = decode(stream.chunks(usize::from(size).max(1)), limits);
    assert_eq!(whole, cut, "chunks of {size}");
    for event in &whole.0 {
        let again = decode(
            [event.encode().as_ref()],
            Limits::new(64 * 1024, 256 * 1024),
        );
        assert_eq!(again.0.first().map(|event| &event.data), Some(&event.data));
    }
}

/// The events before the end or the first error, and whether there was one.
fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::new(limits);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, true),
            }
        }
    }
    (events, false)
}
