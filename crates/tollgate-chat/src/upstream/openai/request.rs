//! The request to the model server.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::request::{ChatRequest, Message, Part, Role};
use crate::write::json;

/// What a model server takes, and how it names its models.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenAiOptions {
    /// From the seller's public names to the server's. A name that is not here goes out as it is.
    pub models: BTreeMap<String, String>,
    /// How the limit on the output is called.
    pub max_tokens_key: MaxTokensKey,
    /// Whether `temperature`, `top_p`, the penalties and `seed` are sent; OpenAI's reasoning models refuse them.
    pub sampling: bool,
    /// Whether `top_k` is sent: llama.cpp, vLLM, SGLang and Ollama take it, OpenAI refuses it.
    pub top_k: bool,
    /// Whether pictures are sent, as `image_url` with a `data:` URL. Without it files are left out: look at
    /// [`ChatRequest::files`] before to refuse them instead.
    pub images: bool,
}

/// The name of the limit on the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaxTokensKey {
    /// `max_tokens`, which every compatible server takes.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models demand.
    MaxCompletionTokens,
}

/// For a local server: `max_tokens`, sampling and `top_k` sent, no pictures.
impl Default for OpenAiOptions {
    fn default() -> Self {
        Self {
            models: BTreeMap::new(),
            max_tokens_key: MaxTokensKey::default(),
            sampling: true,
            top_k: true,
            images: false,
        }
    }
}

impl OpenAiOptions {
    /// The server's name of a model.
    pub fn upstream_model<'a>(&'a self, public: &'a str) -> &'a str {
        self.models.get(public).map_or(public, String::as_str)
    }

    /// The body that asks for a stream, with usage in it. The caller's own wish for a stream does not matter:
    /// a stream can be metered and cut, and [`Completion`](crate::Completion) makes a plain answer of it.
    pub fn encode_request(&self, request: &ChatRequest) -> Bytes {
        self.encode(request, true)
    }

    /// The body that asks for a plain answer.
    pub fn encode_plain_request(&self, request: &ChatRequest) -> Bytes {
        self.encode(request, false)
    }

    fn encode(&self, request: &ChatRequest, stream: bool) -> Bytes {
        let (max_tokens, max_completion_tokens) = match self.max_tokens_key {
            MaxTokensKey::MaxTokens => (request.max_output_tokens, None),
            MaxTokensKey::MaxCompletionTokens => (None, request.max_output_tokens),
        };
        let sampled = |value: Option<f64>| value.filter(|_| self.sampling);
        json(&Body {
            model: request
                .model
                .as_deref()
                .map(|public| self.upstream_model(public)),
            messages: request
                .messages
                .iter()
                .filter_map(|message| self.turn(message))
                .collect(),
            stream,
            stream_options: stream.then_some(StreamOptions {
                include_usage: true,
            }),
            max_tokens,
            max_completion_tokens,
            temperature: sampled(request.temperature),
            top_p: sampled(request.top_p),
            top_k: request.top_k.filter(|_| self.top_k),
            frequency_penalty: sampled(request.frequency_penalty),
            presence_penalty: sampled(request.presence_penalty),
            seed: request.seed.filter(|_| self.sampling),
            stop: &request.stop,
        })
    }

    /// `None` for a message of which nothing is carried.
    fn turn<'a>(&self, message: &'a Message) -> Option<Turn<'a>> {
        let pictures = self.images && message.role == Role::User;
        let carried = |part: &&Part| match part {
            Part::Text(_) => true,
            Part::File(file) => pictures && file.is_image(),
        };
        let parts: Vec<&Part> = message.content.iter().filter(carried).collect();
        let content = match parts.as_slice() {
            [] => return None,
            [Part::Text(text)] => Content::One(text),
            parts if parts.iter().all(|part| matches!(part, Part::Text(_))) => Content::Joined(
                // Servers join an array with a line feed; not all of them take an array.
                message
                    .content
                    .iter()
                    .filter_map(|part| match part {
                        Part::Text(text) => Some(text.as_str()),
                        Part::File(_) => None,
                    })
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
            parts => Content::Array(parts.iter().map(|part| Piece::from(*part)).collect()),
        };
        Some(Turn {
            role: message.role.name(),
            content,
        })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    messages: Vec<Turn<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    One(&'a str),
    Joined(String),
    Array(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: &'a str,
}

impl<'a> From<&'a Part> for Piece<'a> {
    fn from(part: &'a Part) -> Self {
        match part {
            Part::Text(text) => Self::Text { text },
            Part::File(file) => Self::ImageUrl {
                image_url: ImageUrl { url: file.as_str() },
            },
        }
    }
}
