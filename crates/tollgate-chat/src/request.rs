//! The canonical request: what every caller's dialect is read into and every upstream is asked with.

use crate::data_url::DataUrl;

/// A chat request, free of any dialect. Values read from a caller were checked against the ranges given here.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The seller's public name of the model; `None` asks for the default.
    pub model: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Whether the caller wants a stream of events.
    pub stream: bool,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Candidates kept at each step; 0 keeps all.
    pub top_k: Option<u32>,
    /// Penalty on repeats by count, −2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Penalty on any repeat, −2 to 2.
    pub presence_penalty: Option<f64>,
    /// Seed for sampling that can be repeated.
    pub seed: Option<i64>,
    /// The most tokens the answer may have, reasoning included, at least 1.
    pub max_output_tokens: Option<u32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

impl ChatRequest {
    /// A streamed request that leaves everything else to the upstream.
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            model: None,
            messages,
            stream: true,
            temperature: None,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            presence_penalty: None,
            seed: None,
            max_output_tokens: None,
            stop: Vec::new(),
        }
    }

    /// One question by a user.
    pub fn ask(text: impl Into<String>) -> Self {
        Self::new(vec![Message::text(Role::User, text)])
    }

    /// All texts of the conversation in order, for counting tokens.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::File(_) => None,
        })
    }

    /// All files of the conversation in order.
    pub fn files(&self) -> impl Iterator<Item = &DataUrl> {
        self.parts().filter_map(|part| match part {
            Part::File(file) => Some(file),
            Part::Text(_) => None,
        })
    }

    /// The bytes of all texts and of all data URLs. An upper bound on their tokens
    /// ([`upper_bound_tokens`](crate::upper_bound_tokens)), without what a chat template adds.
    pub fn content_bytes(&self) -> usize {
        self.parts().fold(0, |sum, part| {
            // One more each: joined texts are parted by a line feed.
            sum.saturating_add(1).saturating_add(match part {
                Part::Text(text) => text.len(),
                Part::File(file) => file.as_str().len(),
            })
        })
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.messages.iter().flat_map(|message| &message.content)
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Part>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: vec![Part::Text(text.into())],
        }
    }
}

/// Who speaks. Tools come with the dialects that carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The instructions above the conversation; OpenAI's `developer` is read as this.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" => Some(Self::Assistant),
            _ => None,
        }
    }

    /// The name on the wire, the same in all dialects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text(String),
    /// A file inside the request. There is no variant for a file elsewhere: nobody here or upstream is
    /// made to fetch a URL that a caller chose.
    File(DataUrl),
}
