//! A request body read once, under limits, into the few keys that some dialect knows.
//!
//! Unknown keys are skipped without being stored. A known key that stands twice in one object is an
//! error: two readers of one body must not see two requests.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{JsonPath, RequestError};
use crate::limits::RequestLimits;

/// A JSON value that borrows from the body.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    Uint(u64),
    Number(f64),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Object<'a>),
}

/// The known keys of an object.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(&'static str, Node<'a>)>);

impl<'a> Node<'a> {
    /// What this is, for error texts.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Uint(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl<'a> Object<'a> {
    /// Takes the value of a key. A value of `null` is as good as none.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node<'a>> {
        let at = self.0.iter().position(|(other, _)| *other == key)?;
        let (_, node) = self.0.swap_remove(at);
        (!matches!(node, Node::Null)).then_some(node)
    }
}

/// Where the reader is, as a chain on the stack: it costs nothing unless an error wants it.
pub(crate) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'static str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    pub(crate) fn key(&self, key: &'static str) -> Path<'_> {
        Path::Key(self, key)
    }

    pub(crate) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    pub(crate) fn owned(&self) -> JsonPath {
        match self {
            Path::Root => JsonPath::default(),
            Path::Key(parent, key) => parent.owned().key(key),
            Path::Index(parent, index) => parent.owned().index(*index),
        }
    }

    pub(crate) fn wrong_type(&self, expected: &'static str, found: &Node<'_>) -> RequestError {
        RequestError::WrongType {
            path: self.owned(),
            expected,
            found: found.kind(),
        }
    }

    pub(crate) fn out_of_range(&self, expected: &'static str) -> RequestError {
        RequestError::OutOfRange {
            path: self.owned(),
            expected,
        }
    }
}

/// Reads a body.
pub(crate) fn parse<'a>(
    body: &'a [u8],
    limits: &RequestLimits,
    known: fn(&str) -> Option<&'static str>,
) -> Result<Node<'a>, RequestError> {
    if body.len() > limits.max_body {
        return Err(RequestError::TooLarge {
            limit: limits.max_body,
        });
    }
    let max_depth = limits.max_depth.min(127);
    if is_deeper(body, max_depth) {
        return Err(RequestError::TooDeep { limit: max_depth });
    }
    let state = State {
        known,
        left: Cell::new(limits.max_values),
        duplicate: Cell::new(None),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = Seed(&state)
        .deserialize(&mut deserializer)
        .and_then(|node| {
            deserializer.end()?;
            Ok(node)
        });
    parsed.map_err(|error| {
        if let Some(key) = state.duplicate.get() {
            RequestError::DuplicateKey { key }
        } else if state.left.get() == 0 {
            RequestError::TooManyValues {
                limit: limits.max_values,
            }
        } else {
            RequestError::NotJson {
                line: error.line(),
                column: error.column(),
            }
        }
    })
}

/// Whether arrays and objects nest deeper than `max`, in one pass and without a stack.
fn is_deeper(body: &[u8], max: usize) -> bool {
    // Counting brackets is many times faster than following strings, and settles it for most bodies.
    if body
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count()
        <= max
    {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

struct State {
    known: fn(&str) -> Option<&'static str>,
    left: Cell<usize>,
    duplicate: Cell<Option<&'static str>>,
}

#[derive(Clone, Copy)]
struct Seed<'s>(&'s State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Node<'de>, D::Error> {
        match self.0.left.get().checked_sub(1) {
            // The last one is never used, so that 0 always means that too many came.
            Some(left) if left > 0 => self.0.left.set(left),
            _ => {
                self.0.left.set(0);
                return Err(D::Error::custom("too many values"));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Uint(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node<'de>, E> {
        match u64::try_from(value) {
            Ok(value) => Ok(Node::Uint(value)),
            #[expect(
                clippy::as_conversions,
                reason = "no key that is read takes a negative integer beyond 2^53"
            )]
            Err(_) => Ok(Node::Number(value as f64)),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed(self.0.known))? {
            let Some(key) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if entries.iter().any(|(other, _)| *other == key) {
                self.0.duplicate.set(Some(key));
                return Err(A::Error::custom("duplicate key"));
            }
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Node::Object(Object(entries)))
    }
}

/// Reads a key into the static name of a known one, without storing it.
struct KeySeed(fn(&str) -> Option<&'static str>);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static str>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok((self.0)(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(key: &str) -> Option<&'static str> {
        ["a", "b"].into_iter().find(|known| *known == key)
    }

    fn limits() -> RequestLimits {
        RequestLimits {
            max_body: 1000,
            max_depth: 4,
            max_values: 6,
        }
    }

    fn error(body: &str) -> RequestError {
        parse(body.as_bytes(), &limits(), known).unwrap_err()
    }

    #[test]
    fn limits_come_before_the_grammar() {
        assert_eq!(
            error(&"[".repeat(1001)),
            RequestError::TooLarge { limit: 1000 }
        );
        assert_eq!(error(&"[".repeat(1000)), RequestError::TooDeep { limit: 4 });
        assert_eq!(
            error(r#"{"x":[[[[1]]]]}"#),
            RequestError::TooDeep { limit: 4 }
        );
        assert_eq!(
            error(r#"{"a":[1,2,3,4,5]}"#),
            RequestError::TooManyValues { limit: 6 }
        );
        assert!(parse(br#"{"a":[1,2,3]}"#, &limits(), known).is_ok());
        assert!(
            parse(br#"{"x":[1,2,3,4,5,6,7,8]}"#, &limits(), known).is_ok(),
            "unknown keys are not stored"
        );
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert!(!is_deeper(br#"{"a":"[[[[[[\"[[[[\\"}"#, 2));
        assert!(is_deeper(br#"{"a":"\\","b":[[1]]}"#, 2));
    }

    #[test]
    fn a_known_key_twice_is_an_error_and_an_unknown_one_is_not() {
        assert_eq!(
            error(r#"{"a":1,"a":1}"#),
            RequestError::DuplicateKey { key: "a" }
        );
        assert_eq!(
            error("{\"a\":1,\"\\u0061\":1}"),
            RequestError::DuplicateKey { key: "a" }
        );
        assert!(parse(br#"{"x":1,"x":1}"#, &limits(), known).is_ok());
    }

    #[test]
    fn what_is_no_json_is_located() {
        assert_eq!(error(""), RequestError::NotJson { line: 1, column: 0 });
        assert_eq!(
            error("{\n\"a\":}"),
            RequestError::NotJson { line: 2, column: 5 }
        );
        assert_eq!(error("{} x"), RequestError::NotJson { line: 1, column: 4 });
    }
}
