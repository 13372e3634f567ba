//! JSON in, strictly; JSON out, in ASCII.
//!
//! What comes in is read once, by a reader that counts the depth and refuses a key that is there
//! twice: two readers of such an object may see two different payments. What goes out is ASCII,
//! since some clients take each byte of a header for a character.

use core::{cell::Cell, fmt};
use std::io;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess},
};
use serde_json::{Map, Number, Value};

/// A piece of JSON that this crate carries along and does not interpret.
///
/// `Debug` tells its size only: it may hold another party's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(pub(crate) Value);

/// A JSON object that this crate carries along and does not interpret.
///
/// `Debug` tells its keys only: a value may hold another party's signature.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct JsonObject(pub(crate) Map<String, Value>);

/// Why bytes are not the JSON that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON (RFC 8259), or not UTF-8, or with something after its end.
    #[error("this is not JSON in UTF-8; send one JSON object and nothing after it")]
    Syntax,
    /// An object has the same key twice.
    #[error("a JSON object has the same key twice; send each key once")]
    DuplicateKey,
    /// Nested deeper than the limit.
    #[error("the JSON is nested too deep")]
    TooDeep,
    /// More bytes than the limit.
    #[error("the JSON is too long")]
    TooLong,
}

impl Json {
    /// The JSON of a text, by the same rules as everything that comes in: at most 16 levels deep,
    /// no key twice.
    ///
    /// # Errors
    /// [`JsonError::Syntax`], [`JsonError::DuplicateKey`], [`JsonError::TooDeep`].
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        parse(text.as_bytes(), crate::Limits::DEFAULT.depth).map(Self)
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_str()
    }
}

impl JsonObject {
    /// An object without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<Json> {
        self.0.get(key).cloned().map(Json)
    }

    /// Sets a key, and gives what it held before.
    pub fn insert(&mut self, key: impl Into<String>, value: Json) -> Option<Json> {
        self.0.insert(key.into(), value.0).map(Json)
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(Value::String(text.into()))
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self(Value::Number(number.into()))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}

impl From<JsonObject> for Json {
    fn from(object: JsonObject) -> Self {
        Self(Value::Object(object.0))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_ascii(&self.0))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", to_ascii(&self.0).len())
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let state = State::new();
        Strict {
            left: crate::Limits::DEFAULT.depth,
            state: &state,
        }
        .deserialize(deserializer)
        .map(Self)
    }
}

/// The value of these bytes, at most `depth` containers deep, with no key twice in any object.
pub(crate) fn parse(bytes: &[u8], depth: usize) -> Result<Value, JsonError> {
    let state = State::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict {
        left: depth,
        state: &state,
    }
    .deserialize(&mut deserializer);
    let ended = deserializer.end();
    match (value, ended) {
        (Ok(value), Ok(())) => Ok(value),
        _ => Err(state.violation.get().unwrap_or(JsonError::Syntax)),
    }
}

/// JSON in ASCII: what is not ASCII is written as `\uXXXX`.
pub(crate) fn to_ascii<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, AsciiFormatter);
    // Our types have string keys and no failing serializers, and a Vec takes every write.
    if value.serialize(&mut serializer).is_err() {
        return String::from("null");
    }
    String::from_utf8(out).unwrap_or_else(|_| String::from("null"))
}

struct AsciiFormatter;

impl serde_json::ser::Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        let mut units = [0; 2];
        for c in fragment.chars() {
            if c.is_ascii() {
                write!(writer, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// What the reader found wrong, beside the error of serde_json, which is a text.
struct State {
    violation: Cell<Option<JsonError>>,
}

impl State {
    const fn new() -> Self {
        Self {
            violation: Cell::new(None),
        }
    }

    fn refuse<E: de::Error>(&self, error: JsonError) -> E {
        self.violation.set(Some(error));
        E::custom(error)
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    /// How many containers may still be opened.
    left: usize,
    state: &'a State,
}

impl Strict<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(self.state.refuse(JsonError::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(self.state.refuse(JsonError::DuplicateKey));
            }
            let value = access.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
