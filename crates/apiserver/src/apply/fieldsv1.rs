//! The stored form of a set: `FieldsV1`, the JSON of `metadata.managedFields[].fieldsV1`.
//!
//! A key of a JSON map is a step: `f:NAME` a field, `k:{…}` the key fields of a list item, `v:VALUE` an item of a
//! set, `i:N` a position. A step with nothing below is a member; one that has steps below is a member when `.` is
//! among them. Steps of an unknown sort are dropped.

use super::element::{Element, Key};
use super::set::Set;
use serde_json::{Map, Value};
use std::borrow::Cow;
use thiserror::Error;

/// Why a stored set can't be read.
#[derive(Debug, Error)]
pub(super) enum FieldsError {
    /// A set, or what is below a step, is not a map.
    #[error("failed to read a field set: expected a map, got {0}")]
    NotAMap(Value),
    /// A step is malformed.
    #[error("failed to read the path element {0:?}")]
    Element(String),
}

/// Reads a set. Field names and keys borrow from `fields`.
pub(super) fn decode(fields: &Value) -> Result<Set<'_>, FieldsError> {
    Ok(level(fields)?.0)
}

/// What is below a step, and whether the step is a member.
fn level(fields: &Value) -> Result<(Set<'_>, bool), FieldsError> {
    let map = match fields {
        Value::Object(map) => map,
        Value::Null => return Ok((Set::default(), true)),
        other => return Err(FieldsError::NotAMap(other.clone())),
    };
    let mut set = Set::default();
    let mut member = false;
    for (key, value) in map {
        if key == "." {
            member = true;
            continue;
        }
        if let Some(element) = element(key)? {
            let (below, is_member) = level(value)?;
            set.add(element, is_member, below);
        }
    }
    member |= set.is_empty();
    Ok((set, member))
}

fn element(key: &str) -> Result<Option<Element<'_>>, FieldsError> {
    let malformed = || FieldsError::Element(key.to_owned());
    if !key.is_char_boundary(2) || key.as_bytes().get(1) != Some(&b':') {
        return Err(malformed());
    }
    let (sort, text) = key.split_at(2);
    Ok(Some(match sort {
        "f:" => Element::Field(text),
        "k:" => {
            let fields: Map<String, Value> = serde_json::from_str(text).map_err(|_| malformed())?;
            let key: Key<'_> = fields
                .into_iter()
                .map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)))
                .collect();
            Element::Key(key)
        }
        "v:" => Element::Value(Cow::Owned(serde_json::from_str(text).map_err(|_| malformed())?)),
        "i:" => Element::Index(text.parse().map_err(|_| malformed())?),
        _ => return Ok(None),
    }))
}

/// The stored form of a set.
pub(super) fn encode(set: &Set<'_>) -> Value {
    encode_level(set, false)
}

fn encode_level(set: &Set<'_>, member: bool) -> Value {
    let mut map = Map::new();
    if member && !set.is_empty() {
        map.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for node in &set.nodes {
        map.insert(
            encode_element(&node.element),
            encode_level(&node.below, node.member),
        );
    }
    Value::Object(map)
}

fn encode_element(element: &Element<'_>) -> String {
    match element {
        Element::Field(name) => {
            let mut text = String::with_capacity(2 + name.len());
            text.push_str("f:");
            text.push_str(name);
            text
        }
        Element::Key(fields) => {
            let mut text = String::with_capacity(48);
            text.push_str("k:{");
            for (position, (name, value)) in fields.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                push_quoted(&mut text, name);
                text.push(':');
                match value.as_ref() {
                    Value::String(value) => push_quoted(&mut text, value),
                    other => text.push_str(&other.to_string()),
                }
            }
            text.push('}');
            text
        }
        Element::Value(value) => format!("v:{value}"),
        Element::Index(index) => format!("i:{index}"),
    }
}

fn push_quoted(text: &mut String, value: &str) {
    if value
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&Value::String(value.to_owned()).to_string());
    }
}
