//! DGrid's dialect: `POST /x402/v1`.
//!
//! In: `{model, messages, stream, temperature, topP, topK}`, messages with `content` as text or array, or
//! with the `parts` of AI SDK UI messages. Out: the AI SDK's UI message stream, or a `chat.completion`.

mod plain;
mod read;
mod request;
mod stream;

pub use plain::plain_answer;
pub use read::{ReceivedMetadata, UiEvent, UiReader};
pub use request::{DEFAULT_MODEL, decode_request, encode_request};
pub use stream::{UiStream, stream_headers};
