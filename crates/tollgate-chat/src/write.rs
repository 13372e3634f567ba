//! JSON into buffers.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

/// A value as compact JSON.
pub(crate) fn json(value: &impl Serialize) -> Bytes {
    let mut buf = BytesMut::with_capacity(512);
    put_json(&mut buf, value);
    buf.freeze()
}

/// Appends a value as the data of one event. Compact JSON holds no line end, so it is one line.
pub(crate) fn put_event(buf: &mut BytesMut, value: &impl Serialize) {
    buf.put_slice(b"data: ");
    put_json(buf, value);
    buf.put_slice(b"\n\n");
}

fn put_json(buf: &mut BytesMut, value: &impl Serialize) {
    // It fails for maps with keys that are no strings and for writers that fail: here is neither.
    let written = serde_json::to_writer(buf.writer(), value);
    debug_assert!(written.is_ok(), "{written:?}");
}
