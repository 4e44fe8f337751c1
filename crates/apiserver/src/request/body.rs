//! Bodies decoded, with note taken of keys that are there twice.
//!
//! JSON is read once: the visitor builds the value and notes duplicates as it goes, so that the default of warning
//! about them costs nothing. A duplicate's last value stays, as in the real server.

use super::media::Format;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// A decoded body.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) value: Value,
    /// Complaints of strict decoding, as `duplicate field "spec.x"`.
    pub(crate) duplicates: Vec<String>,
}

/// Decodes a body; the error is the decoder's text.
pub(crate) fn decode(body: &[u8], format: Format) -> Result<Decoded, String> {
    match format {
        Format::Json => decode_json(body),
        Format::Yaml => crate::yaml::read(body),
    }
}

fn decode_json(body: &[u8]) -> Result<Decoded, String> {
    let duplicates = RefCell::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let node = Node {
        path: &Step::Root,
        duplicates: &duplicates,
    };
    let decoded = node
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match decoded {
        Ok(value) => Ok(Decoded {
            value,
            duplicates: duplicates.into_inner(),
        }),
        Err(error) => Err(super::gojson::syntax_error(body).unwrap_or_else(|| error.to_string())),
    }
}

/// Where the reader is; steps live on its stack.
enum Step<'a> {
    Root,
    Key(&'a Step<'a>, &'a str),
    Index(&'a Step<'a>, usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Node<'a> {
    path: &'a Step<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
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

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
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

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let item = Node {
                path: &Step::Index(self.path, list.len()),
                duplicates: self.duplicates,
            };
            match access.next_element_seed(item)? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let step = Step::Key(self.path, &key);
            let value = access.next_value_seed(Node {
                path: &step,
                duplicates: self.duplicates,
            })?;
            if map.contains_key(&key) {
                let said = format!("duplicate field \"{step}\"");
                let mut duplicates = self.duplicates.try_borrow_mut().map_err(A::Error::custom)?;
                if !duplicates.contains(&said) {
                    duplicates.push(said);
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keeps_the_last_of_duplicates_and_names_each_once() {
        let decoded = decode(
            br#"{"spec":{"a":1,"a":2,"a":3,"list":[{"x":1.5},{"x":-1,"x":null}]},"spec2":"q\u0041"}"#,
            Format::Json,
        )
        .unwrap();
        assert_eq!(
            decoded.value,
            json!({"spec": {"a": 3, "list": [{"x": 1.5}, {"x": null}]}, "spec2": "qA"})
        );
        assert_eq!(
            decoded.duplicates,
            ["duplicate field \"spec.a\"", "duplicate field \"spec.list[1].x\""]
        );
    }

    #[test]
    fn refuses_what_is_not_json() {
        assert!(decode(b"{\"a\":1} x", Format::Json).is_err());
        assert!(decode(b"", Format::Json).is_err());
    }
}
