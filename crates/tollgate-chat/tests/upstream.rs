//! What OpenAI-compatible servers are asked and what they answer, with their variations.

use bytes::Bytes;
use tollgate_chat::upstream::openai::{
    MaxTokensKey, OpenAiOptions, OpenAiStream, decode_completion, decode_error,
};
use tollgate_chat::{
    ChatEvent, ChatRequest, DataUrl, FinishReason, Message, Part, ReportedUsage, Role, StreamError,
};
use tollgate_sse::{DecodeError, Limits};

fn read(body: &str) -> Vec<ChatEvent> {
    let mut stream = OpenAiStream::default();
    stream.push(Bytes::copy_from_slice(body.as_bytes()));
    let mut events: Vec<_> = std::iter::from_fn(|| stream.next_event()).collect();
    stream.end();
    events.extend(std::iter::from_fn(|| stream.next_event()));
    events
}

/// The events after `Start`.
fn read_rest(body: &str) -> Vec<ChatEvent> {
    let mut events = read(body);
    assert!(
        matches!(events.first(), Some(ChatEvent::Start { .. })),
        "{events:?}"
    );
    events.remove(0);
    events
}

fn text(options: &OpenAiOptions, request: &ChatRequest) -> String {
    String::from_utf8_lossy(&options.encode_request(request)).into_owned()
}

#[test]
fn a_request_asks_for_a_stream_with_usage_under_the_server_s_names() {
    let mut request = ChatRequest::ask("Hello");
    request.model = Some("public/name".to_owned());
    (request.temperature, request.top_p, request.top_k) = (Some(0.5), Some(1.0), Some(40));
    request.max_output_tokens = Some(7);
    request.stop = vec!["x".to_owned()];
    request.stream = false;
    let mut options = OpenAiOptions::default();
    options
        .models
        .insert("public/name".to_owned(), "local".to_owned());
    assert_eq!(
        text(&options, &request),
        r#"{"model":"local","messages":[{"role":"user","content":"Hello"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":7,"temperature":0.5,"top_p":1.0,"top_k":40,"stop":["x"]}"#
    );
    options.max_tokens_key = MaxTokensKey::MaxCompletionTokens;
    options.sampling = false;
    options.top_k = false;
    request.model = Some("other".to_owned());
    request.stop.clear();
    assert_eq!(
        String::from_utf8_lossy(&options.encode_plain_request(&request)),
        r#"{"model":"other","messages":[{"role":"user","content":"Hello"}],"stream":false,"max_completion_tokens":7}"#
    );
}

#[test]
fn several_texts_are_joined_and_pictures_are_sent_only_where_they_are_taken() {
    let picture = DataUrl::parse("data:image/png;base64,AAAA");
    let pdf = DataUrl::parse("data:application/pdf;base64,AAAA");
    let (Ok(picture), Ok(pdf)) = (picture, pdf) else {
        unreachable!()
    };
    let files = || vec![Part::File(picture.clone()), Part::File(pdf.clone())];
    let request = ChatRequest::new(vec![
        Message {
            role: Role::User,
            content: [
                vec![Part::Text("a".to_owned()), Part::Text("b".to_owned())],
                files(),
            ]
            .concat(),
        },
        Message {
            role: Role::Assistant,
            content: [vec![Part::Text("c".to_owned())], files()].concat(),
        },
        Message {
            role: Role::User,
            content: files(),
        },
    ]);
    let mut options = OpenAiOptions::default();
    assert_eq!(
        text(&options, &request),
        r#"{"messages":[{"role":"user","content":"a\nb"},{"role":"assistant","content":"c"}],"stream":true,"stream_options":{"include_usage":true}}"#
    );
    options.images = true;
    assert_eq!(
        text(&options, &request),
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"assistant","content":"c"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"stream":true,"stream_options":{"include_usage":true}}"#
    );
}

#[test]
fn usage_is_taken_wherever_it_stands_and_comes_before_the_end() {
    let expected = [
        ChatEvent::text("a"),
        ChatEvent::Usage(ReportedUsage {
            input: 9,
            cached_input: 0,
            output: 1,
            reasoning: 0,
        }),
        ChatEvent::Finish(FinishReason::Stop),
    ];
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}"#;
    let delta = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}"#;
    // In a chunk of its own, in the finishing chunk (Ollama), after null in every other (OpenAI).
    for body in [
        format!(
            "{delta}}}]}}\n\ndata: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n"
        ),
        format!("{delta},\"finish_reason\":\"stop\"}}],{usage}}}\n\ndata: [DONE]\n\n"),
        format!(
            "{delta}}}],\"usage\":null}}\n\ndata: {{\"choices\":[{{\"finish_reason\":\"stop\"}}],{usage}}}\n\ndata: [DONE]\n\n"
        ),
    ] {
        assert_eq!(read_rest(&body), expected, "{body}");
    }
}

#[test]
fn usage_in_every_chunk_is_cumulative_and_the_last_one_stands() {
    let chunk = |n: u32| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{n}}}}}\n\n"
        )
    };
    let mut stream = OpenAiStream::default();
    for n in 1..4 {
        stream.push(Bytes::from(chunk(n)));
        while stream.next_event().is_some() {}
    }
    assert_eq!(stream.tally().reported, Some(ReportedUsage::new(9, 3)));
    assert_eq!(
        (
            stream.tally().text_deltas,
            stream.tally().text_bytes,
            stream.tally().floor_tokens()
        ),
        (3, 3, 3)
    );
}

#[test]
fn a_usage_that_makes_no_sense_is_no_usage() {
    for usage in [
        "{}",
        r#"{"completion_tokens":5}"#,
        r#"{"prompt_tokens":-1,"completion_tokens":5}"#,
        r#"{"prompt_tokens":"9","completion_tokens":5}"#,
        r#"{"prompt_tokens":1.5,"completion_tokens":5}"#,
        r#"{"prompt_tokens":[1],"completion_tokens":{"a":1}}"#,
        r#"{"prompt_tokens":18446744073709551616,"completion_tokens":5}"#,
    ] {
        let body = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":\"stop\"}}],\"usage\":{usage}}}\n\n"
        );
        assert_eq!(
            read_rest(&body),
            [ChatEvent::text("a"), ChatEvent::Finish(FinishReason::Stop)],
            "{usage}"
        );
    }
}

#[test]
fn details_are_never_more_than_the_whole() {
    let body = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":9},\
                \"completion_tokens_details\":{\"reasoning_tokens\":99}}}\n\ndata: [DONE]\n\n";
    assert_eq!(
        read_rest(body)[0],
        ChatEvent::Usage(ReportedUsage {
            input: 3,
            cached_input: 3,
            output: 4,
            reasoning: 4
        })
    );
}

#[test]
fn reasoning_is_read_under_both_names_and_once() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"a\",\"reasoning\":\"a\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"reasoning\":\"b\\n\",\"content\":\"\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"c\"},{\"type\":\"thinking\",\"thinking\":[]}]}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"refusal\":\"d\"},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n";
    assert_eq!(
        read_rest(body),
        [
            ChatEvent::ReasoningDelta("a".into()),
            ChatEvent::ReasoningDelta("b\n".into()),
            ChatEvent::text("c"),
            ChatEvent::text("d"),
            ChatEvent::Finish(FinishReason::ContentFilter),
        ]
    );
}

#[test]
fn a_stream_without_done_ends_by_its_finish_reason_and_one_without_either_is_cut() {
    let finished =
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}";
    assert_eq!(
        read_rest(finished),
        [
            ChatEvent::text("a"),
            ChatEvent::Finish(FinishReason::Length)
        ]
    );
    let cut = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    assert_eq!(
        read_rest(cut),
        [
            ChatEvent::text("a"),
            ChatEvent::Error(StreamError::Truncated)
        ]
    );
    assert_eq!(read_rest(""), [ChatEvent::Error(StreamError::Truncated)]);
    let done = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"\"}]}\n\ndata: [DONE]\n\n";
    assert_eq!(
        read_rest(done),
        [ChatEvent::text("a"), ChatEvent::Finish(FinishReason::Other)]
    );
}

#[test]
fn nothing_follows_the_end() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: [DONE]\n\n";
    assert_eq!(
        read_rest(body),
        [ChatEvent::text("a"), ChatEvent::Finish(FinishReason::Stop)]
    );
}

#[test]
fn other_choices_and_the_tools_of_a_model_are_passed_over() {
    let body = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"length\"},{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n\
                data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0}]},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
    assert_eq!(
        read_rest(body),
        [
            ChatEvent::text("a"),
            ChatEvent::Finish(FinishReason::ToolCalls)
        ]
    );
}

#[test]
fn errors_in_mid_stream_end_it_in_every_form() {
    let reported = |code: Option<&str>| {
        ChatEvent::Error(StreamError::Reported {
            code: code.map(str::to_owned),
            message: "boom".to_owned(),
        })
    };
    for (data, code) in [
        (
            r#"{"error":{"message":"boom","type":"server_error","code":null}}"#,
            Some("server_error"),
        ),
        (
            r#"{"error":{"message":"boom","type":"x","code":500}}"#,
            Some("500"),
        ),
        (r#"{"error":"boom"}"#, None),
        (r#"{"object":"error","message":"boom","code":400}"#, None),
    ] {
        let body = format!(
            ": ping\n\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}}}}]}}\n\ndata: {data}\n\ndata: [DONE]\n\n"
        );
        assert_eq!(
            read_rest(&body),
            [ChatEvent::text("a"), reported(code)],
            "{data}"
        );
    }
}

#[test]
fn what_cannot_be_read_ends_the_stream_and_quotes_nothing() {
    for (data, reason) in [
        ("secret", "at byte 1 of an event: no JSON"),
        (
            "{\"choices\":\"secret\"}",
            "at byte 19 of an event: a value of another type than expected",
        ),
        (
            "{\"choices\":[",
            "at byte 12 of an event: the JSON ends too early",
        ),
    ] {
        let events = read_rest(&format!("data: {data}\n\n"));
        assert_eq!(
            events,
            [ChatEvent::Error(StreamError::Malformed {
                reason: reason.to_owned()
            })],
            "{data}"
        );
    }
}

#[test]
fn an_event_beyond_the_limit_ends_the_stream() {
    let mut stream = OpenAiStream::new(Limits::new(30, 30));
    stream.push(Bytes::from(format!("data: {}\n\n", "x".repeat(40))));
    let events: Vec<_> = std::iter::from_fn(|| stream.next_event()).collect();
    assert_eq!(
        events[1],
        ChatEvent::Error(StreamError::TooLarge(DecodeError::LineTooLong {
            limit: 30
        }))
    );
    assert!(stream.is_done());
}

#[test]
fn a_first_chunk_without_an_answer_does_not_start_it() {
    let body = "data: {\"id\":\"\",\"model\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n\
                data: {\"id\":\"i\",\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(
        read(body),
        [
            ChatEvent::Start {
                id: "i".to_owned(),
                model: Some("m".to_owned())
            },
            ChatEvent::Finish(FinishReason::Stop)
        ]
    );
}

#[test]
fn a_plain_answer_is_read_into_the_same_events() {
    let body = r#"{"id":"i","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":"r","content":"a\n"},
        "finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":2}}}"#;
    assert_eq!(
        decode_completion(Bytes::from(body)),
        [
            ChatEvent::Start {
                id: "i".to_owned(),
                model: Some("m".to_owned())
            },
            ChatEvent::ReasoningDelta("r".into()),
            ChatEvent::text("a\n"),
            ChatEvent::Usage(ReportedUsage {
                input: 9,
                cached_input: 0,
                output: 3,
                reasoning: 2
            }),
            ChatEvent::Finish(FinishReason::Length),
        ]
    );
    let is_error = |body: &'static str| {
        matches!(
            decode_completion(Bytes::from(body))[..],
            [ChatEvent::Error(_)]
        )
    };
    assert!(is_error(r#"{"error":{"message":"x"}}"#) && is_error("{}") && is_error("<html>"));
}

#[test]
fn an_error_body_is_read_as_far_as_it_can_be() {
    let of = |body: &str| {
        let error = decode_error(body.as_bytes());
        (error.message, error.code)
    };
    assert_eq!(
        of(r#"{"error":{"message":"too long","type":"t","code":"context_length_exceeded"}}"#),
        (
            "too long".to_owned(),
            Some("context_length_exceeded".to_owned())
        )
    );
    assert_eq!(
        of(r#"{"object":"error","message":"m","code":400}"#),
        ("m".to_owned(), Some("400".to_owned()))
    );
    assert_eq!(of("<html>\u{1b}[31m"), ("<html> [31m".to_owned(), None));
    assert_eq!(of(&"ü".repeat(1000)).0.len(), 512);
}
