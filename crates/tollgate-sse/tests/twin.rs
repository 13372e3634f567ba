//! The decoder against a naive twin, and the encoder against the decoder.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tollgate_sse::{Decoder, Event, Field, Frame, Limits, encode_comment};

/// The standard's rules on the whole stream at once, as a reader would write them down first.
fn twin(stream: &[u8]) -> Vec<Frame> {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop(); // what follows the last line end is no line yet
    let mut frames = Vec::new();
    let (mut data, mut name, mut id, mut retry) =
        (None::<String>, String::new(), None::<String>, None::<u64>);
    for line in lines {
        if line.is_empty() {
            if let Some(data) = data.take() {
                let mut event = Event::new(data);
                event.event = (!name.is_empty()).then(|| Field::new(name.as_str()).unwrap());
                event.id = id.map(|id| Field::new(id).unwrap());
                event.retry = retry;
                frames.push(Frame::Event(event));
            }
            (name, id, retry) = (String::new(), None, None);
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field.is_empty() {
            frames.push(Frame::Comment(value.into()));
            continue;
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut data {
                None => data = Some(value.to_owned()),
                Some(data) => *data = format!("{data}\n{value}"),
            },
            "event" => name = value.to_owned(),
            "id" if !value.contains('\0') => id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                retry = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
    frames
}

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut decoder = Decoder::default().with_comments();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    frames
}

/// Bytes that are likely to mean something.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(vec![
            "data", "event", "id", "retry", ":", ": ", ":  ", "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\u{feff}",
            "12", "\0", "ü", "x", "data: ", "data:", "dat", "Data: ",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

fn one_line() -> impl Strategy<Value = Field> {
    "[^\r\n\0]{0,12}".prop_map(|text| Field::new(text).unwrap())
}

fn event() -> impl Strategy<Value = Event> {
    (
        prop::option::of("[^\r\n]{1,12}".prop_map(|text| Field::new(text).unwrap())),
        prop_oneof!["[^\r]{0,40}", "(a|\n){0,6}"],
        prop::option::of(one_line()),
        prop::option::of(any::<u64>()),
    )
        .prop_map(|(event, data, id, retry)| {
            let mut whole = Event::new(data);
            (whole.event, whole.id, whole.retry) = (event, id, retry);
            whole
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decoder_and_twin_agree_at_every_split(stream in stream()) {
        let expected = twin(&stream);
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            prop_assert_eq!(&decode([left, right]), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&decode(stream.chunks(1)), &expected);
        prop_assert_eq!(&decode(stream.chunks(3)), &expected);
    }

    #[test]
    fn any_bytes_under_any_limits_never_panic(stream in prop::collection::vec(any::<u8>(), 0..200), line in 0usize..40, event in 0usize..40) {
        let mut decoder = Decoder::new(Limits::new(line, event));
        for chunk in stream.chunks(7) {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Ok(Some(_)) = decoder.next_event() {}
        }
        let _ = decoder.take_unfinished();
    }

    #[test]
    fn what_is_encoded_is_decoded(events in prop::collection::vec(event(), 0..6), comment in ".{0,10}", size in 1usize..20) {
        let mut wire = BytesMut::new();
        for event in &events {
            event.encode_into(&mut wire);
            encode_comment(&mut wire, &comment);
        }
        let decoded: Vec<Event> = decode(wire.chunks(size))
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Event(event) => Some(event),
                Frame::Comment(_) => None,
            })
            .collect();
        prop_assert_eq!(decoded, events);
    }

    #[test]
    fn line_ends_in_data_arrive_as_line_feeds(data in "(a|b|\r|\n|\r\n){0,12}") {
        let frames = decode([&Event::new(data.as_str()).encode()[..]]);
        let expected = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(frames, [Frame::Event(Event::new(expected))]);
    }
}
