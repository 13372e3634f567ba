//! What a model server streams, translated for a caller.

use bytes::Bytes;
use tollgate_chat::dialect::dgrid::{UiEvent, UiReader};
use tollgate_chat::upstream::openai::OpenAiStream;
use tollgate_chat::{ChatEvent, Dialect, FinishMetadata};
use tollgate_sse::Limits;

/// The first byte is the length of the chunks, the rest is the stream. However it is cut, the same events come out,
/// the last of them ends the answer, and a caller reads the same text from what we write.
pub fn check(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let events = decode([stream]);
    let cut = decode(stream.chunks(usize::from(size).max(1)));
    assert_eq!(events, cut, "chunks of {size}");
    let last = events.iter().position(ChatEvent::is_last);
    assert_eq!(
        last,
        events.len().checked_sub(1),
        "one end, and it is the last"
    );

    let mut caller = Dialect::DGrid.stream();
    let mut wire = Vec::new();
    for event in &events {
        wire.extend(caller.encode(event).unwrap_or_default());
    }
    wire.extend(caller.closing(&FinishMetadata::new(0, "0", 0, 0)));
    assert_eq!(read_back(wire), text(&events));
}

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<ChatEvent> {
    let mut upstream = OpenAiStream::new(Limits::new(16 * 1024, 32 * 1024));
    let mut events = Vec::new();
    for chunk in chunks {
        upstream.push(Bytes::copy_from_slice(chunk));
        events.extend(std::iter::from_fn(|| upstream.next_event()));
    }
    upstream.end();
    events.extend(std::iter::from_fn(|| upstream.next_event()));
    events
}

fn text(events: &[ChatEvent]) -> String {
    let delta = |event: &ChatEvent| match event {
        ChatEvent::TextDelta(text) => Some(text.as_str().to_owned()),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

fn read_back(wire: Vec<u8>) -> String {
    // an escaped character takes up to six bytes for one
    let mut reader = UiReader::new(Limits::new(1 << 20, 1 << 20));
    reader.push(Bytes::from(wire));
    let mut text = String::new();
    let mut done = false;
    while let Some(event) = reader
        .next_event()
        .expect("what we write is a UI message stream")
    {
        match event {
            UiEvent::Text(delta) => text.push_str(delta.as_str()),
            UiEvent::Done => done = true,
            _ => {}
        }
    }
    assert!(done, "the stream has its end");
    text
}
