//! Model servers that speak OpenAI's chat completions: OpenAI, vLLM, SGLang, llama.cpp, Ollama and most others.

mod request;
mod response;
mod stream;

pub use request::{MaxTokensKey, OpenAiOptions};
pub use response::{ErrorObject, decode_completion, decode_error};
pub use stream::OpenAiStream;
