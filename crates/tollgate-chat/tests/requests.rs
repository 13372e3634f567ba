//! What callers may send in DGrid's dialect, and what each mistake is answered with.

use tollgate_chat::dialect::RequestConfig;
use tollgate_chat::{ChatRequest, Dialect, Message, Part, RequestError, RequestLimits, Role};

fn decode(body: &str) -> Result<ChatRequest, RequestError> {
    Dialect::DGrid.decode_request(body.as_bytes(), &RequestConfig::default())
}

fn user(content: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#)
}

fn with(members: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"Hello"}}],{members}}}"#)
}

#[test]
fn the_defaults_are_those_that_dgrid_documents() {
    let request = decode(r#"{"messages":[{"role":"user","content":"Hello"}]}"#).unwrap();
    assert_eq!(request.model.as_deref(), Some("anthropic/claude-opus-4.5"));
    assert!(request.stream);
    assert_eq!(
        (request.temperature, request.top_p, request.top_k),
        (Some(1.0), Some(1.0), Some(40))
    );
    assert_eq!(request.max_output_tokens, None);
    assert_eq!(request.messages, [Message::text(Role::User, "Hello")]);
    let nulls = with(
        r#""model":null,"stream":null,"temperature":null,"topP":null,"topK":null,"max_tokens":null,"stop":null,"seed":null"#,
    );
    assert_eq!(decode(&nulls).unwrap(), request);
}

#[test]
fn the_default_model_is_configured() {
    let config = RequestConfig {
        default_model: "tollgate/echo".to_owned(),
        ..RequestConfig::default()
    };
    let decode = |body: &str| {
        Dialect::DGrid
            .decode_request(body.as_bytes(), &config)
            .unwrap()
    };
    assert_eq!(
        decode(&user(r#""x""#)).model.as_deref(),
        Some("tollgate/echo")
    );
    assert_eq!(decode(&with(r#""model":"m""#)).model.as_deref(), Some("m"));
}

#[test]
fn every_request_that_the_ai_sdk_was_seen_to_send_is_read() {
    #[derive(serde::Deserialize)]
    struct Capture {
        requests: Vec<Request>,
    }
    #[derive(serde::Deserialize)]
    struct Request {
        body: String,
    }
    let capture: Capture = serde_json::from_str(include_str!(
        "vectors/aisdk__DefaultChatTransport_requests.json"
    ))
    .unwrap();
    assert_eq!(capture.requests.len(), 8);
    for Request { body } in capture.requests {
        let request = decode(&body).unwrap();
        assert!(request.stream);
        assert_eq!(
            request.messages[0].content[0],
            Part::Text("Hello".to_owned())
        );
        if request.messages.len() == 2 {
            assert_eq!(request.temperature, Some(0.5));
            assert_eq!(
                request
                    .files()
                    .map(|file| file.media_type())
                    .collect::<Vec<_>>(),
                ["image/png"]
            );
            assert_eq!(request.messages[1], Message::text(Role::Assistant, "hi"));
        }
    }
}

#[test]
fn content_is_read_as_text_as_array_and_as_parts() {
    let text = |body: &str| decode(body).unwrap().messages[0].content.clone();
    let hello = vec![Part::Text("Hello".to_owned())];
    assert_eq!(text(&user(r#""Hello""#)), hello);
    assert_eq!(text(&user(r#""H\u0065llo""#)), hello);
    assert_eq!(text(&user(r#"[{"type":"text","text":"Hello"}]"#)), hello);
    assert_eq!(
        text(&user(
            r#"[{"type":"audio","url":"http://10.0.0.1/"},{"type":"text","text":"Hello"},{"x":1}]"#
        )),
        hello
    );
    assert_eq!(
        text(r#"{"messages":[{"role":"user","parts":[{"type":"text","text":"Hello"}]}]}"#),
        hello
    );
    let both = r#"{"messages":[{"role":"user","content":"old","parts":[{"type":"text","text":"Hello"}]}]}"#;
    assert_eq!(text(both), hello, "parts go before content");
    let empty =
        r#"{"messages":[{"role":"user","content":"Hello","parts":[{"type":"step-start"}]}]}"#;
    assert_eq!(text(empty), hello, "unless they hold nothing");
}

#[test]
fn unknown_keys_are_ignored_at_every_level() {
    let body = r#"{"id":"c1","trigger":"submit-message","tools":[{"deep":[[[[1]]]]}],"messages":[
        {"id":"u1","role":"user","metadata":{"totalTokens":1},"parts":[{"type":"text","text":"Hello","state":"done","providerMetadata":{"a":1,"a":2}}]}]}"#;
    assert_eq!(
        decode(body).unwrap().messages,
        [Message::text(Role::User, "Hello")]
    );
}

#[test]
fn a_turn_of_the_assistant_that_only_called_tools_is_left_out() {
    let body = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"parts":[{"type":"tool-x","toolCallId":"1"}]},
        {"role":"developer","content":"b"}]}"#;
    let roles: Vec<Role> = decode(body)
        .unwrap()
        .messages
        .iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(roles, [Role::User, Role::System]);
}

#[test]
fn the_limit_on_the_output_is_read_under_every_name_and_the_smallest_holds() {
    for key in [
        "max_tokens",
        "maxTokens",
        "max_output_tokens",
        "maxOutputTokens",
        "max_completion_tokens",
    ] {
        assert_eq!(
            decode(&with(&format!("\"{key}\":7")))
                .unwrap()
                .max_output_tokens,
            Some(7),
            "{key}"
        );
    }
    let both = with(r#""max_tokens":900,"maxOutputTokens":80"#);
    assert_eq!(decode(&both).unwrap().max_output_tokens, Some(80));
}

#[test]
fn sampling_is_read_under_both_spellings() {
    let body = with(
        r#""temperature":0,"top_p":0.5,"top_k":0,"presence_penalty":-1.5,"frequencyPenalty":2,"seed":7,"stop":["a","b"]"#,
    );
    let request = decode(&body).unwrap();
    assert_eq!(
        (request.temperature, request.top_p, request.top_k),
        (Some(0.0), Some(0.5), Some(0))
    );
    assert_eq!(
        (request.presence_penalty, request.frequency_penalty),
        (Some(-1.5), Some(2.0))
    );
    assert_eq!(
        (request.seed, request.stop),
        (Some(7), vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(decode(&with(r#""stopSequences":"x""#)).unwrap().stop, ["x"]);
}

#[test]
fn each_mistake_has_its_code_and_a_sentence_that_helps() {
    let table: &[(String, &str, &str)] = &[
        (
            String::new(),
            "invalid_json",
            "the body is not valid JSON (line 1, column 0): send a JSON object with messages",
        ),
        (
            "{".into(),
            "invalid_json",
            "the body is not valid JSON (line 1, column 1): send a JSON object with messages",
        ),
        (
            "\u{feff}{}".into(),
            "invalid_json",
            "the body is not valid JSON (line 1, column 1): send a JSON object with messages",
        ),
        (
            "[]".into(),
            "wrong_type",
            "the body must be an object, but it is an array",
        ),
        (
            "{}".into(),
            "no_messages",
            "messages is missing or empty: send at least one message, such as {\"role\":\"user\",\"content\":\"Hello\"}",
        ),
        (
            r#"{"messages":[]}"#.into(),
            "no_messages",
            "messages is missing or empty: send at least one message, such as {\"role\":\"user\",\"content\":\"Hello\"}",
        ),
        (
            r#"{"messages":"Hello"}"#.into(),
            "wrong_type",
            "messages must be an array of messages, but it is a string",
        ),
        (
            r#"{"messages":["Hello"]}"#.into(),
            "wrong_type",
            "messages[0] must be an object, but it is a string",
        ),
        (
            r#"{"messages":[{"content":"a"}]}"#.into(),
            "wrong_type",
            "messages[0].role must be system, user or assistant, but it is null",
        ),
        (
            r#"{"messages":[{"role":"tool","content":"a"}]}"#.into(),
            "unknown_role",
            "messages[0].role is not a role that is accepted here: use system, user or assistant",
        ),
        (
            r#"{"messages":[{"role":"user"}]}"#.into(),
            "no_text",
            "messages[0] has no text: give it a content string, a content array or parts with a text",
        ),
        (
            user("\"\""),
            "no_text",
            "messages[0] has no text: give it a content string, a content array or parts with a text",
        ),
        (
            user("[]"),
            "no_text",
            "messages[0] has no text: give it a content string, a content array or parts with a text",
        ),
        (
            user(r#"[{"type":"text","text":""}]"#),
            "no_text",
            "messages[0] has no text: give it a content string, a content array or parts with a text",
        ),
        (
            r#"{"messages":[{"role":"assistant","content":""}]}"#.into(),
            "no_text",
            "messages has no text: give it a content string, a content array or parts with a text",
        ),
        (
            user("7"),
            "wrong_type",
            "messages[0].content must be a string or an array of parts, but it is a number",
        ),
        (
            user(r#"["a"]"#),
            "wrong_type",
            "messages[0].content[0] must be an object, but it is a string",
        ),
        (
            user(r#"[{"type":"text"}]"#),
            "wrong_type",
            "messages[0].content[0].text must be a string, but it is null",
        ),
        (
            user(r#"[{"type":"file"}]"#),
            "wrong_type",
            "messages[0].content[0].url must be a data: URL, but it is null",
        ),
        (
            user(r#"[{"type":"text","text":"a"},{"type":"file","url":"https://a/b.png"}]"#),
            "remote_url",
            "messages[0].content[1].url: only data: URLs are accepted, nothing is fetched: put the file into the request as base64",
        ),
        (
            user(r#"[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]"#),
            "remote_url",
            "messages[0].content[0].image_url.url: only data: URLs are accepted, nothing is fetched: put the file into the request as base64",
        ),
        (
            user(r#"[{"type":"image_url","image_url":"file:///etc/passwd"}]"#),
            "remote_url",
            "messages[0].content[0].image_url: only data: URLs are accepted, nothing is fetched: put the file into the request as base64",
        ),
        (
            user(r#"[{"type":"file","url":"data:image/png,abc"}]"#),
            "invalid_data_url",
            "messages[0].content[0].url: the data: URL is malformed: send data:<type>/<subtype>;base64,<base64>",
        ),
        (
            with(r#""model":7"#),
            "wrong_type",
            "model must be a string, but it is a number",
        ),
        (
            with(r#""model":"""#),
            "out_of_range",
            "model must be a model's name of 1 to 256 bytes without control characters",
        ),
        (
            with(r#""model":"a\nb""#),
            "out_of_range",
            "model must be a model's name of 1 to 256 bytes without control characters",
        ),
        (
            with(r#""stream":"true""#),
            "wrong_type",
            "stream must be true or false, but it is a string",
        ),
        (
            with(r#""temperature":"1""#),
            "wrong_type",
            "temperature must be a number from 0 to 2, but it is a string",
        ),
        (
            with(r#""temperature":2.1"#),
            "out_of_range",
            "temperature must be a number from 0 to 2",
        ),
        (
            with(r#""temperature":-0.1"#),
            "out_of_range",
            "temperature must be a number from 0 to 2",
        ),
        (
            with(r#""temperature":18446744073709551615"#),
            "out_of_range",
            "temperature must be a number from 0 to 2",
        ),
        (
            with(r#""temperature":1e999"#),
            "invalid_json",
            "the body is not valid JSON (line 1, column 67): send a JSON object with messages",
        ),
        (
            with(r#""temperature":NaN"#),
            "invalid_json",
            "the body is not valid JSON (line 1, column 63): send a JSON object with messages",
        ),
        (
            with(r#""topP":1.5"#),
            "out_of_range",
            "topP must be a number from 0 to 1",
        ),
        (
            with(r#""topK":-1"#),
            "out_of_range",
            "topK must be an integer from 0 to 4294967295",
        ),
        (
            with(r#""topK":1.5"#),
            "out_of_range",
            "topK must be an integer from 0 to 4294967295",
        ),
        (
            with(r#""max_tokens":0"#),
            "out_of_range",
            "max_tokens must be an integer from 1 to 4294967295",
        ),
        (
            with(r#""max_tokens":4294967296"#),
            "out_of_range",
            "max_tokens must be an integer from 1 to 4294967295",
        ),
        (
            with(r#""max_tokens":"5""#),
            "wrong_type",
            "max_tokens must be an integer from 1 to 4294967295, but it is a string",
        ),
        (
            with(r#""seed":9223372036854775808"#),
            "out_of_range",
            "seed must be an integer from 0 to 9223372036854775807",
        ),
        (
            with(r#""stop":[""]"#),
            "out_of_range",
            "stop[0] must be a text of 1 to 256 bytes",
        ),
        (
            with(r#""stop":[1]"#),
            "wrong_type",
            "stop[0] must be a string, but it is a number",
        ),
        (
            with(&format!(r#""stop":[{}"a"]"#, r#""a","#.repeat(16))),
            "out_of_range",
            "stop must be at most 16 texts of 1 to 256 bytes",
        ),
        (
            with(r#""model":"a","model":"b""#),
            "duplicate_key",
            "the key model stands twice in one object: send it once",
        ),
        (
            with(&format!(r#""x":{}"#, "[".repeat(100))),
            "body_too_deep",
            "the body nests deeper than 64 levels: flatten it",
        ),
    ];
    for (body, code, sentence) in table {
        let error = decode(body).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (*code, *sentence),
            "{body}"
        );
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn a_body_beyond_a_limit_is_refused_without_being_read() {
    let mut limits = RequestLimits::default();
    (limits.max_body, limits.max_values) = (40, 4);
    let config = RequestConfig {
        limits,
        ..RequestConfig::default()
    };
    let code = |body: &str| {
        Dialect::DGrid
            .decode_request(body.as_bytes(), &config)
            .unwrap_err()
            .code()
    };
    assert_eq!(code(&"x".repeat(41)), "body_too_large");
    assert_eq!(code(r#"{"messages":[1,2,3,4,5]}"#), "body_too_many_values");
}

#[test]
fn a_json_bomb_costs_no_more_than_its_bytes() {
    let mut body = user("\"Hello\"");
    body.truncate(body.len() - 1);
    body.push_str(",\"unknown\":[");
    body.push_str(&"0,".repeat(1_000_000));
    body.push_str("0]}");
    assert!(
        decode(&body).is_ok(),
        "values that nobody reads are not stored"
    );
    let known = format!(r#"{{"messages":[{}0]}}"#, "0,".repeat(1_000_000));
    assert_eq!(decode(&known).unwrap_err().code(), "body_too_many_values");
    let deep = "[".repeat(3_000_000);
    assert_eq!(decode(&deep).unwrap_err().code(), "body_too_deep");
}
