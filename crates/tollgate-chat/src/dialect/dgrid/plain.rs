//! The plain answer: a `chat.completion`.

use bytes::Bytes;
use serde::Serialize;

use crate::completion::Completion;
use crate::event::{FinishReason, ReportedUsage};
use crate::finish::FinishMetadata;

/// The body of a plain answer. `usage` is what was charged for, `created` the seconds since 1970. The facts
/// of the charge go under `messageMetadata`, as in the stream; readers of `chat.completion` skip it.
pub fn plain_answer(
    completion: &Completion,
    usage: &ReportedUsage,
    created: u64,
    metadata: Option<&FinishMetadata>,
) -> Bytes {
    crate::write::json(&Body {
        id: &completion.id,
        object: "chat.completion",
        created,
        model: &completion.model,
        choices: [Choice {
            index: 0,
            message: Message {
                role: "assistant",
                content: &completion.text,
                reasoning_content: (!completion.reasoning.is_empty())
                    .then_some(&completion.reasoning),
            },
            finish_reason: completion
                .finish
                .unwrap_or(FinishReason::Other)
                .openai_name(),
        }],
        usage: Usage {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
        },
        message_metadata: metadata,
    })
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Usage,
    #[serde(rename = "messageMetadata", skip_serializing_if = "Option::is_none")]
    message_metadata: Option<&'a FinishMetadata>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a String>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}
