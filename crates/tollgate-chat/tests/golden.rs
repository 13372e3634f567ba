//! Every translation against captured streams: byte for byte where the capture defines the format.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use bytes::Bytes;
use tollgate_chat::dialect::dgrid::{UiEvent, UiReader};
use tollgate_chat::upstream::openai::{OpenAiStream, decode_completion};
use tollgate_chat::{
    ChatEvent, Completion, Dialect, FinishMetadata, FinishReason, MetaValue, ReportedUsage,
};

const OPENAI_STREAM: &[u8] = include_bytes!("vectors/golden__chat_completions_stream.txt");
const OPENAI_PLAIN: &[u8] = include_bytes!("vectors/golden__chat_completions.json");
const LLAMACPP_STREAM: &[u8] = include_bytes!("vectors/upstream_llamacpp__chat_stream.txt");
const DGRID_STREAM: &[u8] = include_bytes!("vectors/golden__dgrid_uimessagestream.txt");
const DGRID_PLAIN: &[u8] = include_bytes!("vectors/golden__dgrid_nonstream.json");

fn events(stream: &'static [u8]) -> Vec<ChatEvent> {
    let mut upstream = OpenAiStream::default();
    upstream.push(Bytes::from_static(stream));
    upstream.end();
    std::iter::from_fn(|| upstream.next_event()).collect()
}

fn metadata() -> FinishMetadata {
    FinishMetadata::new(
        12,
        990_000_000_000_000_000u64,
        "1230000000000000",
        1_230_000_000_000_000u64,
    )
}

fn ui_stream(events: &[ChatEvent], metadata: &FinishMetadata) -> String {
    let mut stream = Dialect::DGrid.stream();
    let mut wire = Vec::new();
    for event in events {
        wire.extend(stream.encode(event).unwrap_or_default());
    }
    wire.extend(stream.closing(metadata));
    assert_eq!(
        stream.closing(metadata),
        Bytes::new(),
        "the end is written once"
    );
    assert_eq!(
        stream.encode(&ChatEvent::text("late")),
        None,
        "nothing follows the end"
    );
    String::from_utf8(wire).unwrap()
}

fn plain(events: &[ChatEvent], metadata: Option<&FinishMetadata>) -> String {
    let mut completion = Completion::new("chatcmpl-g1", "m", 1000);
    for event in events {
        completion.push(event).unwrap();
    }
    let usage = completion.usage.unwrap();
    let body = Dialect::DGrid.plain_answer(&completion, &usage, 1_795_342_555, metadata);
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn openai_s_stream_becomes_dgrid_s_byte_for_byte() {
    assert_eq!(
        ui_stream(&events(OPENAI_STREAM), &metadata()),
        std::str::from_utf8(DGRID_STREAM).unwrap()
    );
}

#[test]
fn openai_s_stream_and_plain_answer_become_dgrid_s_plain_answer_byte_for_byte() {
    let expected = std::str::from_utf8(DGRID_PLAIN).unwrap();
    assert_eq!(plain(&events(OPENAI_STREAM), None), expected);
    assert_eq!(
        plain(&decode_completion(Bytes::from_static(OPENAI_PLAIN)), None),
        expected
    );
}

#[test]
fn the_plain_answer_carries_the_facts_of_the_charge() {
    let body = plain(
        &events(OPENAI_STREAM),
        Some(&metadata().with("paymentId", "ab12")),
    );
    assert!(
        body.ends_with(
            r#""total_tokens":12},"messageMetadata":{"totalTokens":12,"allowanceLeft":"990000000000000000","calculatedPriceWei":"1230000000000000","realPriceWei":"1230000000000000","paymentId":"ab12"}}"#
        ),
        "{body}"
    );
}

#[test]
fn llama_cpp_s_stream_is_read() {
    assert_eq!(
        events(LLAMACPP_STREAM),
        [
            ChatEvent::Start {
                id: "chatcmpl-n1DnW187IitPlpqEuSnhAkWE6A8f6ja0".to_owned(),
                model: Some("smollm2-135m-instruct".to_owned()),
            },
            ChatEvent::text("I"),
            ChatEvent::text("'m"),
            ChatEvent::text(" glad"),
            ChatEvent::text(" you"),
            ChatEvent::text("'re"),
            ChatEvent::Usage(ReportedUsage {
                input: 32,
                cached_input: 24,
                output: 5,
                reasoning: 0
            }),
            ChatEvent::Finish(FinishReason::Length),
        ]
    );
}

#[test]
fn the_stream_has_the_headers_of_the_ai_sdk() {
    let headers = Dialect::DGrid.stream_headers();
    let of = |name: &str| headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(headers.len(), 4);
    assert_eq!(of("content-type"), "text/event-stream");
    assert_eq!(of("cache-control"), "no-cache");
    assert_eq!(of("x-vercel-ai-ui-message-stream"), "v1");
    assert_eq!(of("x-accel-buffering"), "no");
}

#[test]
fn a_paying_client_reads_the_text_and_the_facts_of_the_charge() {
    let mut reader = UiReader::new(Default::default());
    reader.push(Bytes::from_static(DGRID_STREAM));
    let mut text = String::new();
    let mut facts = None;
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            UiEvent::Text(delta) => text.push_str(delta.as_str()),
            UiEvent::Finish(reason, metadata) => {
                assert_eq!(reason, FinishReason::Stop);
                facts = metadata;
            }
            other => assert_eq!(other, UiEvent::Done),
        }
    }
    assert!(reader.is_done());
    assert_eq!(text, "Hello world");
    let facts = facts.unwrap();
    assert_eq!(facts.total_tokens(), Some(12));
    assert_eq!(facts.allowance_left(), Some("990000000000000000"));
    assert_eq!(facts.calculated_price_wei(), Some("1230000000000000"));
    assert_eq!(facts.real_price_wei(), Some("1230000000000000"));
}

#[test]
fn additional_facts_reach_the_client_and_odd_ones_do_not_hurt() {
    let wire = ui_stream(
        &[],
        &metadata()
            .with("paymentId", "ab12")
            .with("cached", 3u64)
            .with("clamped", true),
    );
    let wire = wire.replace(
        r#""clamped":true"#,
        r#""clamped":true,"odd":[{"a":null}],"negative":-1"#,
    );
    let mut reader = UiReader::new(Default::default());
    reader.push(Bytes::from(wire));
    let Some(UiEvent::Finish(_, Some(facts))) = reader.next_event().unwrap() else {
        unreachable!()
    };
    assert_eq!(facts.text("paymentId"), Some("ab12"));
    assert_eq!(facts.get("cached"), Some(&MetaValue::Number(3)));
    assert_eq!(facts.get("clamped"), Some(&MetaValue::Flag(true)));
    assert_eq!(facts.get("odd"), None);
    assert_eq!(facts.iter().count(), 7);
}

#[test]
fn an_empty_answer_still_starts_and_finishes() {
    assert_eq!(
        ui_stream(&[ChatEvent::Finish(FinishReason::Length)], &metadata()),
        "data: {\"type\":\"start\"}\n\ndata: {\"type\":\"finish\",\"finishReason\":\"length\",\"messageMetadata\":{\"totalTokens\":12,\
         \"allowanceLeft\":\"990000000000000000\",\"calculatedPriceWei\":\"1230000000000000\",\"realPriceWei\":\"1230000000000000\"}}\n\n\
         data: [DONE]\n\n"
    );
}

#[test]
fn reasoning_and_text_are_blocks_of_their_own() {
    let wire = ui_stream(
        &[
            ChatEvent::ReasoningDelta("hm".into()),
            ChatEvent::text("a\n\"b\"\u{2028}"),
            ChatEvent::ReasoningDelta("so".into()),
            ChatEvent::text("c"),
        ],
        &metadata(),
    );
    let chunks: Vec<&str> = wire
        .split("\n\n")
        .map(|line| line.strip_prefix("data: ").unwrap_or(line))
        .collect();
    assert_eq!(
        chunks[..13],
        [
            r#"{"type":"start"}"#,
            r#"{"type":"reasoning-start","id":"rsn-0"}"#,
            r#"{"type":"reasoning-delta","id":"rsn-0","delta":"hm"}"#,
            r#"{"type":"reasoning-end","id":"rsn-0"}"#,
            r#"{"type":"text-start","id":"txt-0"}"#,
            "{\"type\":\"text-delta\",\"id\":\"txt-0\",\"delta\":\"a\\n\\\"b\\\"\u{2028}\"}",
            r#"{"type":"text-end","id":"txt-0"}"#,
            r#"{"type":"reasoning-start","id":"rsn-1"}"#,
            r#"{"type":"reasoning-delta","id":"rsn-1","delta":"so"}"#,
            r#"{"type":"reasoning-end","id":"rsn-1"}"#,
            r#"{"type":"text-start","id":"txt-1"}"#,
            r#"{"type":"text-delta","id":"txt-1","delta":"c"}"#,
            r#"{"type":"text-end","id":"txt-1"}"#,
        ]
    );
    assert_eq!(chunks.len(), 16, "finish, [DONE] and the end");
}

#[test]
fn an_error_in_mid_stream_is_told_without_the_upstream_s_words_and_the_stream_still_finishes() {
    let mut upstream = OpenAiStream::default();
    upstream.push(Bytes::from_static(
        b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"gpu-7.internal sk-123\",\"code\":500}}\n\n",
    ));
    let events: Vec<_> = std::iter::from_fn(|| upstream.next_event()).collect();
    let wire = ui_stream(&events, &metadata());
    assert!(
        !wire.contains("gpu-7") && !wire.contains("sk-123"),
        "{wire}"
    );
    let tail: Vec<&str> = wire.split("\n\n").skip(3).collect();
    assert_eq!(
        tail[0],
        r#"data: {"type":"error","errorText":"the model server reported an error: try again later"}"#
    );
    assert_eq!(tail[1], r#"data: {"type":"text-end","id":"txt-0"}"#);
    assert!(tail[2].starts_with(
        r#"data: {"type":"finish","finishReason":"error","messageMetadata":{"totalTokens":12"#
    ));
    assert_eq!(tail[3], "data: [DONE]");
}

#[test]
fn an_answer_too_large_to_hold_is_refused() {
    let mut completion = Completion::new("i", "m", 5);
    completion.push(&ChatEvent::text("abc")).unwrap();
    assert_eq!(
        completion
            .push(&ChatEvent::ReasoningDelta("def".into()))
            .unwrap_err()
            .to_string(),
        "the answer is larger than 5 bytes: ask for a stream"
    );
    assert_eq!(completion.text, "abc");
}
