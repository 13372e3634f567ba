//! The request body.

use bytes::Bytes;
use serde::Serialize;

use crate::data_url::DataUrl;
use crate::dialect::RequestConfig;
use crate::error::RequestError;
use crate::json::{self, Node, Object, Path};
use crate::request::{ChatRequest, Message, Part, Role};

/// The model that DGrid documents as its default.
pub const DEFAULT_MODEL: &str = "anthropic/claude-opus-4.5";

const DEFAULT_TEMPERATURE: f64 = 1.0;
const DEFAULT_TOP_P: f64 = 1.0;
const DEFAULT_TOP_K: u32 = 40;

const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
const MAX_MODEL_BYTES: usize = 256;

macro_rules! known_keys {
    ($($key:literal)*) => {
        /// The keys that this dialect reads, at any level. All others are skipped.
        fn known(key: &str) -> Option<&'static str> {
            match key {
                $($key => Some($key),)*
                _ => None,
            }
        }
    };
}

known_keys! {
    "model" "messages" "stream" "temperature" "topP" "top_p" "topK" "top_k"
    "max_tokens" "maxTokens" "max_output_tokens" "maxOutputTokens" "max_completion_tokens"
    "frequencyPenalty" "frequency_penalty" "presencePenalty" "presence_penalty" "seed" "stop" "stopSequences"
    "role" "content" "parts" "type" "text" "url" "image_url"
}

/// Reads a body, whatever its content type says, and fills in DGrid's defaults: the configured model, `stream`
/// true, `temperature` 1, `topP` 1, `topK` 40. A `null` is as good as no value.
///
/// * Unknown keys and unknown kinds of parts are ignored.
/// * `parts` go before `content` where they hold something that is carried.
/// * A message of the assistant with nothing to carry (only tool calls, say) is left out.
/// * Of several limits on the output, the smallest holds.
/// * Files are carried as base64 `data:` URLs; any other URL in a `file` or `image_url` part is refused
///   ([`DataUrl`]).
///
/// # Errors
/// [`RequestError`], to be blamed on the caller.
pub fn decode_request(body: &[u8], config: &RequestConfig) -> Result<ChatRequest, RequestError> {
    let root = Path::Root;
    let mut object = object(json::parse(body, &config.limits, known)?, &root)?;
    let mut request = ChatRequest::new(messages(object.take("messages"), &root.key("messages"))?);
    request.model =
        Some(model(&mut object, &root)?.unwrap_or_else(|| config.default_model.clone()));
    request.stream = match object.take("stream") {
        None => true,
        Some(Node::Bool(stream)) => stream,
        Some(other) => return Err(root.key("stream").wrong_type("true or false", &other)),
    };
    let mut scalars = Scalars {
        object: &mut object,
        root: &root,
    };
    const TEMPERATURE: &str = "a number from 0 to 2";
    const UNIT: &str = "a number from 0 to 1";
    const PENALTY: &str = "a number from -2 to 2";
    request.temperature = Some(
        scalars
            .float(&["temperature"], 0.0, 2.0, TEMPERATURE)?
            .unwrap_or(DEFAULT_TEMPERATURE),
    );
    request.top_p = Some(
        scalars
            .float(&["topP", "top_p"], 0.0, 1.0, UNIT)?
            .unwrap_or(DEFAULT_TOP_P),
    );
    request.top_k = Some(scalars.top_k()?.unwrap_or(DEFAULT_TOP_K));
    request.frequency_penalty = scalars.float(
        &["frequencyPenalty", "frequency_penalty"],
        -2.0,
        2.0,
        PENALTY,
    )?;
    request.presence_penalty =
        scalars.float(&["presencePenalty", "presence_penalty"], -2.0, 2.0, PENALTY)?;
    request.seed = scalars.seed()?;
    request.max_output_tokens = scalars.max_output_tokens()?;
    request.stop = stops(&mut object, &root)?;
    Ok(request)
}

fn object<'a>(node: Node<'a>, path: &Path<'_>) -> Result<Object<'a>, RequestError> {
    match node {
        Node::Object(object) => Ok(object),
        other => Err(path.wrong_type("an object", &other)),
    }
}

fn model(object: &mut Object<'_>, root: &Path<'_>) -> Result<Option<String>, RequestError> {
    let path = root.key("model");
    match object.take("model") {
        None => Ok(None),
        Some(Node::Text(name)) => {
            if name.is_empty() || name.len() > MAX_MODEL_BYTES || name.chars().any(char::is_control)
            {
                return Err(path
                    .out_of_range("a model's name of 1 to 256 bytes without control characters"));
            }
            Ok(Some(name.into_owned()))
        }
        Some(other) => Err(path.wrong_type("a string", &other)),
    }
}

fn messages(node: Option<Node<'_>>, path: &Path<'_>) -> Result<Vec<Message>, RequestError> {
    let items = match node {
        Some(Node::Array(items)) => items,
        None => return Err(RequestError::NoMessages),
        Some(other) => return Err(path.wrong_type("an array of messages", &other)),
    };
    if items.is_empty() {
        return Err(RequestError::NoMessages);
    }
    let mut messages = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        messages.extend(message(item, &path.index(index))?);
    }
    if messages.is_empty() {
        return Err(RequestError::NoText { path: path.owned() });
    }
    Ok(messages)
}

/// `None` for a message of the assistant with nothing to carry.
fn message(node: Node<'_>, path: &Path<'_>) -> Result<Option<Message>, RequestError> {
    let mut object = object(node, path)?;
    let role_path = path.key("role");
    let role = match object.take("role") {
        Some(Node::Text(name)) => {
            Role::from_name(&name).ok_or_else(|| RequestError::UnknownRole {
                path: role_path.owned(),
            })?
        }
        other => {
            return Err(
                role_path.wrong_type("system, user or assistant", &other.unwrap_or(Node::Null))
            );
        }
    };
    let mut parts = content(object.take("parts"), &path.key("parts"))?;
    if parts.is_empty() {
        parts = content(object.take("content"), &path.key("content"))?;
    }
    match (parts.is_empty(), role) {
        (false, _) => Ok(Some(Message {
            role,
            content: parts,
        })),
        (true, Role::Assistant) => Ok(None),
        (true, _) => Err(RequestError::NoText { path: path.owned() }),
    }
}

fn content(node: Option<Node<'_>>, path: &Path<'_>) -> Result<Vec<Part>, RequestError> {
    match node {
        None => Ok(Vec::new()),
        Some(Node::Text(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Node::Text(text)) => Ok(vec![Part::Text(text.into_owned())]),
        Some(Node::Array(items)) => {
            let mut parts = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                parts.extend(part(item, &path.index(index))?);
            }
            Ok(parts)
        }
        Some(other) => Err(path.wrong_type("a string or an array of parts", &other)),
    }
}

/// `None` for a part that is not carried.
fn part(node: Node<'_>, path: &Path<'_>) -> Result<Option<Part>, RequestError> {
    let mut object = object(node, path)?;
    let Some(Node::Text(kind)) = object.take("type") else {
        return Ok(None);
    };
    match kind.as_ref() {
        "text" => match object.take("text") {
            Some(Node::Text(text)) => Ok((!text.is_empty()).then(|| Part::Text(text.into_owned()))),
            other => Err(path
                .key("text")
                .wrong_type("a string", &other.unwrap_or(Node::Null))),
        },
        "file" => file(object.take("url"), &path.key("url")).map(Some),
        "image_url" => {
            let path = path.key("image_url");
            match object.take("image_url") {
                Some(Node::Object(mut inner)) => {
                    file(inner.take("url"), &path.key("url")).map(Some)
                }
                other => file(other, &path).map(Some),
            }
        }
        _ => Ok(None),
    }
}

fn file(node: Option<Node<'_>>, path: &Path<'_>) -> Result<Part, RequestError> {
    match node {
        Some(Node::Text(url)) => {
            DataUrl::parse(&url)
                .map(Part::File)
                .map_err(|reason| RequestError::BadUrl {
                    path: path.owned(),
                    reason,
                })
        }
        other => Err(path.wrong_type("a data: URL", &other.unwrap_or(Node::Null))),
    }
}

fn stops(object: &mut Object<'_>, root: &Path<'_>) -> Result<Vec<String>, RequestError> {
    const RANGE: &str = "at most 16 texts of 1 to 256 bytes";
    for key in ["stop", "stopSequences"] {
        let path = root.key(key);
        let items = match object.take(key) {
            None => continue,
            Some(text @ Node::Text(_)) => vec![text],
            Some(Node::Array(items)) => items,
            Some(other) => return Err(path.wrong_type("a string or an array of strings", &other)),
        };
        if items.len() > MAX_STOPS {
            return Err(path.out_of_range(RANGE));
        }
        let texts = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| match item {
                Node::Text(text) if !text.is_empty() && text.len() <= MAX_STOP_BYTES => {
                    Ok(text.into_owned())
                }
                Node::Text(_) => Err(path.index(index).out_of_range("a text of 1 to 256 bytes")),
                other => Err(path.index(index).wrong_type("a string", &other)),
            });
        return texts.collect();
    }
    Ok(Vec::new())
}

/// The numbers of the request, each under its one or more names.
struct Scalars<'o, 'a> {
    object: &'o mut Object<'a>,
    root: &'o Path<'o>,
}

impl<'o, 'a> Scalars<'o, 'a> {
    /// The first of the keys that has a value.
    fn first(&mut self, keys: &[&'static str]) -> Option<(Path<'o>, Node<'a>)> {
        keys.iter()
            .find_map(|key| Some((self.root.key(key), self.object.take(key)?)))
    }

    fn float(
        &mut self,
        keys: &[&'static str],
        min: f64,
        max: f64,
        range: &'static str,
    ) -> Result<Option<f64>, RequestError> {
        let Some((path, node)) = self.first(keys) else {
            return Ok(None);
        };
        let value = match node {
            Node::Number(value) => value,
            // Every range here is far below 2^32: a larger integer is out of it anyhow.
            Node::Uint(value) => u32::try_from(value).map_or(f64::INFINITY, f64::from),
            other => return Err(path.wrong_type(range, &other)),
        };
        // NaN is in no range.
        if (min..=max).contains(&value) {
            Ok(Some(value))
        } else {
            Err(path.out_of_range(range))
        }
    }

    fn uint(
        &mut self,
        key: &'static str,
        min: u32,
        range: &'static str,
    ) -> Result<Option<u32>, RequestError> {
        let path = self.root.key(key);
        match self.object.take(key) {
            None => Ok(None),
            Some(Node::Uint(value)) => match u32::try_from(value) {
                Ok(value) if value >= min => Ok(Some(value)),
                _ => Err(path.out_of_range(range)),
            },
            Some(Node::Number(_)) => Err(path.out_of_range(range)),
            Some(other) => Err(path.wrong_type(range, &other)),
        }
    }

    fn top_k(&mut self) -> Result<Option<u32>, RequestError> {
        const RANGE: &str = "an integer from 0 to 4294967295";
        let camel = self.uint("topK", 0, RANGE)?;
        Ok(camel.or(self.uint("top_k", 0, RANGE)?))
    }

    fn max_output_tokens(&mut self) -> Result<Option<u32>, RequestError> {
        const RANGE: &str = "an integer from 1 to 4294967295";
        let mut least: Option<u32> = None;
        for key in [
            "max_tokens",
            "maxTokens",
            "max_output_tokens",
            "maxOutputTokens",
            "max_completion_tokens",
        ] {
            if let Some(limit) = self.uint(key, 1, RANGE)? {
                least = Some(least.map_or(limit, |least| least.min(limit)));
            }
        }
        Ok(least)
    }

    fn seed(&mut self) -> Result<Option<i64>, RequestError> {
        const RANGE: &str = "an integer from 0 to 9223372036854775807";
        let path = self.root.key("seed");
        match self.object.take("seed") {
            None => Ok(None),
            Some(Node::Uint(value)) => i64::try_from(value)
                .map(Some)
                .map_err(|_| path.out_of_range(RANGE)),
            Some(Node::Number(_)) => Err(path.out_of_range(RANGE)),
            Some(other) => Err(path.wrong_type(RANGE, &other)),
        }
    }
}

/// Writes a request as a paying client sends it. Files go out as `parts`, plain messages as `content`; a
/// value that is not set is left to the seller's default.
pub fn encode_request(request: &ChatRequest) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<&'a str>,
        messages: Vec<Turn<'a>>,
        stream: bool,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        max_output_tokens: Option<u32>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        stop: &'a [String],
    }
    #[derive(Serialize)]
    struct Turn<'a> {
        role: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        parts: Vec<Piece<'a>>,
    }
    #[derive(Serialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Piece<'a> {
        Text {
            text: &'a str,
        },
        File {
            #[serde(rename = "mediaType")]
            media_type: &'a str,
            url: &'a str,
        },
    }
    fn piece(part: &Part) -> Piece<'_> {
        match part {
            Part::Text(text) => Piece::Text { text },
            Part::File(file) => Piece::File {
                media_type: file.media_type(),
                url: file.as_str(),
            },
        }
    }
    fn turn(message: &Message) -> Turn<'_> {
        let role = message.role.name();
        match message.content.as_slice() {
            [Part::Text(text)] => Turn {
                role,
                content: Some(text),
                parts: Vec::new(),
            },
            parts => Turn {
                role,
                content: None,
                parts: parts.iter().map(piece).collect(),
            },
        }
    }
    crate::write::json(&Body {
        model: request.model.as_deref(),
        messages: request.messages.iter().map(turn).collect(),
        stream: request.stream,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        seed: request.seed,
        max_output_tokens: request.max_output_tokens,
        stop: &request.stop,
    })
}
