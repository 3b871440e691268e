//! Strict JSON for untrusted input (RFC 8259, read as I-JSON, RFC 7493).
//!
//! A gateway that decides on one reading of a message while the upstream acts on another can be
//! walked around. So whatever parsers may disagree about is refused here: duplicate member names,
//! invalid UTF-8, lone surrogates, numbers out of range, trailing bytes, and nesting beyond a limit.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text was not accepted as JSON.
#[derive(Debug, thiserror::Error)]
pub enum StrictJsonError {
    /// The text is longer than allowed.
    #[error("the message is {length} bytes long, the limit is {limit}")]
    TooLong {
        /// How long it is, in bytes.
        length: usize,
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// The text is not JSON as this module reads it.
    #[error("not acceptable JSON: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Limits of [`parse`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest text, in bytes.
    pub bytes: usize,
    /// Deepest nesting of arrays and objects; at most 120.
    pub depth: usize,
}

/// Parses one JSON text strictly.
///
/// # Errors
/// [`StrictJsonError`] when the text is longer than `limits.bytes`, nested deeper than
/// `limits.depth`, has two members of one name in an object, or is not JSON.
pub fn parse(text: &[u8], limits: Limits) -> Result<Value, StrictJsonError> {
    if text.len() > limits.bytes {
        return Err(StrictJsonError::TooLong {
            length: text.len(),
            limit: limits.bytes,
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict {
        depth: limits.depth,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        self.depth
            .checked_sub(1)
            .map(|depth| Self { depth })
            .ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(de::Error::custom(
                    "a member name stands twice in one object",
                ));
            }
            let value = access.next_value_seed(inner)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        bytes: 1 << 16,
        depth: 8,
    };

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for bad in [
            &b"{\"a\":1,\"a\":2}"[..],
            b"{\"a\":1,\"\\u0061\":2}",
            b"[{\"x\":{\"m\":1,\"m\":1}}]",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"1e999",
            b"{} {}",
            b"{}\0",
            b"[[[[[[[[[]]]]]]]]]",
            b"NaN",
            b"",
        ] {
            assert!(
                parse(bad, LIMITS).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
        assert!(parse(b"[[[[[[[[]]]]]]]]", LIMITS).is_ok());
    }

    #[test]
    fn length_is_checked_before_anything_else() {
        let long = vec![b'['; LIMITS.bytes + 1];
        assert!(matches!(
            parse(&long, LIMITS),
            Err(StrictJsonError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, LIMITS);
        }

        #[test]
        fn agrees_with_serde_json_on_what_it_accepts(text in "[\\[\\]{}\",:0-9a ]{0,24}") {
            if let Ok(value) = parse(text.as_bytes(), LIMITS) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
