//! What holds for any bytes and any cut.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use bytes::Bytes;
use proptest::prelude::*;
use tollgate_chat::dialect::RequestConfig;
use tollgate_chat::dialect::dgrid::{UiEvent, UiReader, UiStream, encode_request};
use tollgate_chat::upstream::openai::{
    OpenAiOptions, OpenAiStream, decode_completion, decode_error,
};
use tollgate_chat::{
    ChatEvent, ChatRequest, DataUrl, Dialect, FinishMetadata, FinishReason, InputBound, Message,
    Part, Role,
};

fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<ChatEvent> {
    let mut stream = OpenAiStream::default();
    let mut events = Vec::new();
    for chunk in chunks {
        stream.push(Bytes::copy_from_slice(chunk));
        events.extend(std::iter::from_fn(|| stream.next_event()));
    }
    stream.end();
    events.extend(std::iter::from_fn(|| stream.next_event()));
    events
}

#[test]
fn captured_streams_mean_the_same_at_every_cut() {
    for capture in [
        &include_bytes!("vectors/golden__chat_completions_stream.txt")[..],
        include_bytes!("vectors/upstream_llamacpp__chat_stream.txt"),
    ] {
        let expected = read([capture]);
        for cut in 0..=capture.len() {
            let (left, right) = capture.split_at(cut);
            assert_eq!(read([left, right]), expected, "cut at {cut}");
        }
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(read(capture.chunks(size)), expected, "chunks of {size}");
        }
    }
}

#[test]
fn a_stream_that_ends_anywhere_ends_with_one_last_event_and_never_with_more_text() {
    let capture = include_bytes!("vectors/upstream_llamacpp__chat_stream.txt");
    let whole = text(&read([&capture[..]]));
    for cut in 0..=capture.len() {
        let events = read([&capture[..cut]]);
        let (last, rest) = events.split_last().unwrap();
        assert!(
            last.is_last() && !rest.iter().any(ChatEvent::is_last),
            "cut at {cut}: {events:?}"
        );
        assert!(whole.starts_with(&text(&events)), "cut at {cut}");
    }
}

fn text(events: &[ChatEvent]) -> String {
    let delta = |event: &ChatEvent| match event {
        ChatEvent::TextDelta(text) => Some(text.to_string()),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

/// Bytes that look like JSON of a request, a chunk or an event stream.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        6 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "null", "true", "1", "-1", "1.5", "\"a\"", "\"\\u0061\"", "\n\n", "data: ",
            "\"messages\":", "\"role\":\"user\"", "\"content\":", "\"parts\":", "\"type\":\"text\"", "\"text\":\"x\"",
            "\"type\":\"file\"", "\"url\":\"data:image/png;base64,AAAA\"", "\"url\":\"http://10.0.0.1/\"", "[DONE]",
            "\"choices\":[{\"delta\":{", "\"finish_reason\":\"stop\"", "\"usage\":{", "\"prompt_tokens\":", "\"error\":",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n",
            "{\"type\":\"text-delta\",\"delta\":\"x\"}", "{\"type\":\"finish\",\"messageMetadata\":{\"a\":", "\u{feff}", "ü",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

fn message() -> impl Strategy<Value = Message> {
    let part = prop_oneof![
        3 => "\\PC{1,20}".prop_map(Part::Text),
        1 => prop::sample::select(vec!["data:image/png;base64,AAAA", "data:application/pdf;base64,AAA="])
            .prop_map(|url| Part::File(DataUrl::parse(url).unwrap())),
    ];
    let role = prop::sample::select(vec![Role::System, Role::User, Role::Assistant]);
    (role, prop::collection::vec(part, 1..4)).prop_map(|(role, content)| Message { role, content })
}

/// Numbers as people write them; a number with 17 digits may be read one unit in the last place off.
fn hundredths(range: std::ops::RangeInclusive<i32>) -> impl Strategy<Value = f64> {
    range.prop_map(|hundredths| f64::from(hundredths) / 100.0)
}

fn request() -> impl Strategy<Value = ChatRequest> {
    let stops = prop::collection::vec("\\PC{1,8}", 0..3);
    let numbers = (
        hundredths(0..=200),
        hundredths(0..=100),
        any::<u32>(),
        prop::option::of(hundredths(-200..=200)),
        prop::option::of(0..=i64::MAX),
        prop::option::of(1..=u32::MAX),
    );
    (
        prop::collection::vec(message(), 1..5),
        "[a-z/.0-9-]{1,20}",
        any::<bool>(),
        numbers,
        stops,
    )
        .prop_map(
            |(messages, model, stream, (temperature, top_p, top_k, penalty, seed, max), stop)| {
                let mut request = ChatRequest::new(messages);
                request.model = Some(model);
                request.stream = stream;
                (request.temperature, request.top_p, request.top_k) =
                    (Some(temperature), Some(top_p), Some(top_k));
                (request.frequency_penalty, request.presence_penalty) = (penalty, penalty);
                (request.seed, request.max_output_tokens, request.stop) = (seed, max, stop);
                request
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_never_panic_and_every_stream_has_one_end(bytes in soup(), size in 1usize..40) {
        let _ = Dialect::DGrid.decode_request(&bytes, &RequestConfig::default());
        let _ = decode_error(&bytes);
        let _ = decode_completion(Bytes::copy_from_slice(&bytes));
        let events = read(bytes.chunks(size));
        prop_assert_eq!(&events, &read([&bytes[..]]));
        prop_assert_eq!(events.iter().filter(|event| event.is_last()).count(), 1);
        prop_assert!(events.last().unwrap().is_last());
        let mut reader = UiReader::new(Default::default());
        for chunk in bytes.chunks(size) {
            reader.push(Bytes::copy_from_slice(chunk));
            while let Ok(Some(_)) = reader.next_event() {}
        }
    }

    #[test]
    fn no_url_but_data_reaches_an_upstream(bytes in soup()) {
        if let Ok(request) = Dialect::DGrid.decode_request(&bytes, &RequestConfig::default()) {
            for file in request.files() {
                prop_assert!(file.as_str().starts_with("data:"));
            }
            let mut options = OpenAiOptions::default();
            options.images = true;
            let body = options.encode_request(&request);
            prop_assert!(!body.windows(13).any(|window| window == b"\"url\":\"http:/"));
        }
    }

    #[test]
    fn a_client_s_request_is_read_as_it_was_meant(request in request()) {
        let body = encode_request(&request);
        let read = Dialect::DGrid.decode_request(&body, &RequestConfig::default()).unwrap();
        prop_assert_eq!(&read, &request);
        prop_assert!(InputBound::default().of(&read) > read.texts().map(|text| text.len() as u64).sum::<u64>());
    }

    #[test]
    fn a_client_reads_the_text_that_was_written(deltas in prop::collection::vec((any::<bool>(), ".{1,20}"), 0..10), size in 1usize..50) {
        let mut stream = UiStream::new();
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for (reasoning, delta) in deltas {
            let event = if reasoning { ChatEvent::ReasoningDelta(delta.as_str().into()) } else { ChatEvent::text(delta.as_str()) };
            wire.extend(stream.encode(&event).unwrap());
            expected.push(if reasoning { UiEvent::Reasoning(delta.into()) } else { UiEvent::Text(delta.into()) });
        }
        stream.encode(&ChatEvent::Finish(FinishReason::Stop));
        wire.extend(stream.closing(&FinishMetadata::new(1, 2, 3, 4)));
        let mut reader = UiReader::new(Default::default());
        let mut read = Vec::new();
        for chunk in wire.chunks(size) {
            reader.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = reader.next_event().unwrap() {
                read.push(event);
            }
        }
        prop_assert_eq!(read.pop(), Some(UiEvent::Done));
        let Some(UiEvent::Finish(FinishReason::Stop, Some(facts))) = read.pop() else { panic!("no finish") };
        prop_assert_eq!(facts.real_price_wei(), Some("4"));
        prop_assert_eq!(read, expected);
    }
}
