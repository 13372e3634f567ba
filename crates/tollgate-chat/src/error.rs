//! What can be wrong with what a caller sends, and with what an upstream answers.

use std::fmt;

use http::StatusCode;
use tollgate_sse::DecodeError;

use crate::data_url::DataUrlError;

/// Where in a JSON body: `messages[2].parts[0].url`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JsonPath(String);

impl JsonPath {
    pub(crate) fn key(&self, key: &str) -> Self {
        Self(if self.0.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.0)
        })
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path, empty for the body itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "the body"
        } else {
            &self.0
        })
    }
}

/// The caller's body is not a chat request. The texts are safe to send back: they quote nothing of the
/// body but its own keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The body is larger than [`RequestLimits::max_body`](crate::RequestLimits::max_body).
    #[error("the body is larger than {limit} bytes: send a shorter conversation")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// The body nests deeper than [`RequestLimits::max_depth`](crate::RequestLimits::max_depth).
    #[error("the body nests deeper than {limit} levels: flatten it")]
    TooDeep {
        /// The bound, in levels.
        limit: usize,
    },
    /// The body holds more values than [`RequestLimits::max_values`](crate::RequestLimits::max_values).
    #[error("the body holds more than {limit} values: send fewer messages or parts")]
    TooManyValues {
        /// The bound.
        limit: usize,
    },
    /// The body is not JSON.
    #[error(
        "the body is not valid JSON (line {line}, column {column}): send a JSON object with messages"
    )]
    NotJson {
        /// The line of the mistake, from 1.
        line: usize,
        /// The column of the mistake, in bytes.
        column: usize,
    },
    /// A key that is read stands twice in one object.
    #[error("the key {key} stands twice in one object: send it once")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// There is no message.
    #[error(
        "messages is missing or empty: send at least one message, such as {{\"role\":\"user\",\"content\":\"Hello\"}}"
    )]
    NoMessages,
    /// A value has another JSON type than it must have.
    #[error("{path} must be {expected}, but it is {found}")]
    WrongType {
        /// Where.
        path: JsonPath,
        /// What belongs there.
        expected: &'static str,
        /// The JSON type found.
        found: &'static str,
    },
    /// A value is outside its range.
    #[error("{path} must be {expected}")]
    OutOfRange {
        /// Where.
        path: JsonPath,
        /// The range.
        expected: &'static str,
    },
    /// A role that this dialect does not have.
    #[error("{path} is not a role that is accepted here: use system, user or assistant")]
    UnknownRole {
        /// Where.
        path: JsonPath,
    },
    /// A message says nothing.
    #[error("{path} has no text: give it a content string, a content array or parts with a text")]
    NoText {
        /// Where.
        path: JsonPath,
    },
    /// A file that is not carried.
    #[error("{path}: {reason}")]
    BadUrl {
        /// Where.
        path: JsonPath,
        /// Why not.
        reason: DataUrlError,
    },
}

impl RequestError {
    /// A stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "body_too_large",
            Self::TooDeep { .. } => "body_too_deep",
            Self::TooManyValues { .. } => "body_too_many_values",
            Self::NotJson { .. } => "invalid_json",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::NoMessages => "no_messages",
            Self::WrongType { .. } => "wrong_type",
            Self::OutOfRange { .. } => "out_of_range",
            Self::UnknownRole { .. } => "unknown_role",
            Self::NoText { .. } => "no_text",
            Self::BadUrl {
                reason: DataUrlError::Remote,
                ..
            } => "remote_url",
            Self::BadUrl { .. } => "invalid_data_url",
        }
    }

    /// 400: all of it is the caller's to mend.
    pub const fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

/// The answer broke off or makes no sense. To be blamed: the upstream, unless it was `Stopped`.
///
/// The text is for the caller and constant; what the upstream said may name hosts or accounts and is
/// only in [`detail`](Self::detail), for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The upstream reported an error.
    #[error("the model server reported an error: try again later")]
    Reported {
        /// Its code or type, at most 64 bytes.
        code: Option<String>,
        /// Its message, at most 512 bytes.
        message: String,
    },
    /// The upstream sent what is no event of its dialect.
    #[error("the model server sent an answer that cannot be read: try again later")]
    Malformed {
        /// Where the parser stopped; it quotes nothing.
        reason: String,
    },
    /// The upstream sent a line or an event beyond the limits.
    #[error("the model server sent an event that is too large: try again later")]
    TooLarge(
        /// The broken limit.
        #[from]
        DecodeError,
    ),
    /// The upstream's answer ended before its end.
    #[error("the answer of the model server broke off: try again later")]
    Truncated,
    /// The gateway itself stopped the answer, say because the payment was voided meanwhile.
    #[error("the answer was stopped: {reason}")]
    Stopped {
        /// The stable code.
        code: &'static str,
        /// Why, in words that the caller may read.
        reason: &'static str,
    },
}

impl StreamError {
    /// A stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Reported { .. } => "upstream_error",
            Self::Malformed { .. } => "upstream_malformed",
            Self::TooLarge(_) => "upstream_too_large",
            Self::Truncated => "upstream_truncated",
            Self::Stopped { code, .. } => code,
        }
    }

    /// What the operator wants to know; not for callers.
    pub fn detail(&self) -> String {
        match self {
            Self::Reported { code, message } => match code {
                Some(code) => format!("{code}: {message}"),
                None => message.clone(),
            },
            Self::Malformed { reason } => reason.clone(),
            Self::TooLarge(error) => error.to_string(),
            Self::Truncated => "no finish_reason before the end".to_owned(),
            Self::Stopped { reason, .. } => (*reason).to_owned(),
        }
    }
}
