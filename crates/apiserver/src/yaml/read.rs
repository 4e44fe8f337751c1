//! YAML bodies.

use crate::request::body::Decoded;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;
use std::fmt;

/// How the complaint about keys that are there twice starts; a line for each follows.
pub(crate) const DUPLICATES: &str = "yaml: unmarshal errors:\n";

/// Decodes the first document of a YAML body. A key's last value stays; all keys that are there twice make one
/// complaint.
pub(crate) fn read(body: &[u8]) -> Result<Decoded, String> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let node: Node = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Node::deserialize(reader)
    })
    .map_err(|error| said(text, &error))?;
    let mut twice = Vec::new();
    let value = node.value(&mut twice);
    let duplicates = if twice.is_empty() {
        Vec::new()
    } else {
        vec![format!("{DUPLICATES}{}", twice.join("\n"))]
    };
    Ok(Decoded { value, duplicates })
}

/// A node, before its duplicate keys are gone; items know their lines.
enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl Node {
    /// The node as JSON; `twice` takes the complaints, in the order in which the nodes end.
    fn value(self, twice: &mut Vec<String>) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => items.into_iter().map(|item| item.value(twice)).collect(),
            Self::Map(items) => {
                let mut map = Map::new();
                for (key, item) in items {
                    let line = item.referenced.line();
                    let value = item.value.value(twice);
                    if map.contains_key(&key) {
                        twice.push(format!("  line {line}: key {key:?} already set in map"));
                    }
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(|number| Node::Scalar(number.into()))
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_entry()? {
            items.push(item);
        }
        Ok(Node::Map(items))
    }
}

/// Our parser's words for what the real one says otherwise.
const WORDS: [(&str, &str); 5] = [
    ("unclosed quote", "found unexpected end of stream"),
    ("expected ',' or ']'", "did not find expected ',' or ']'"),
    (
        "unexpected character",
        "found character that cannot start any token",
    ),
    ("simple key expected ':'", "could not find expected ':'"),
    ("simple key expect ':'", "could not find expected ':'"),
];

/// A parser's error in the form of the real one's, which counts lines from zero and does not name the first.
fn said(text: &str, error: &serde_saphyr::Error) -> String {
    let line = error.location().map_or(1, |place| place.line());
    let words = error.without_snippet().to_string();
    let words = words.lines().next().unwrap_or_default();
    let words = words.strip_prefix("error: ").unwrap_or(words);
    // The place is said before the words or after them.
    let words = match words.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => words.split(" at line ").next().unwrap_or(words),
    };
    if let Some(open) = words.strip_prefix("unclosed bracket '") {
        return unclosed(text, open, line);
    }
    let known = WORDS.iter().find(|(ours, _)| words.contains(ours));
    let words = known.map_or(words, |(_, theirs)| theirs);
    // What was being parsed is not said.
    let words = match words.split_once(", ") {
        Some((context, rest)) if context.starts_with("while ") => rest,
        _ => words,
    };
    if line > 1 {
        format!("yaml: line {line}: {words}")
    } else {
        format!("yaml: {words}")
    }
}

/// What is said of a flow collection that does not end: more of it was expected where the text ends.
fn unclosed(text: &str, open: &str, line: u64) -> String {
    let bracket = if open.starts_with('{') { '}' } else { ']' };
    if text.trim_end().ends_with(['{', '[', ',', ':']) {
        format!(
            "yaml: line {}: did not find expected node content",
            text.lines().count()
        )
    } else {
        let line = if line > 1 {
            line - 1
        } else {
            u64::try_from(text.lines().count()).unwrap_or(line)
        };
        format!("yaml: line {line}: did not find expected ',' or '{bracket}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_documents_and_notes_duplicates() {
        let decoded =
            read(b"a: 1\nb: [x, 'y', true, ~, 1.5]\nc: {d: e}\n1: one\na:\n  f: g\n  f: 2\n").unwrap();
        assert_eq!(
            decoded.value,
            json!({"a": {"f": 2}, "b": ["x", "y", true, null, 1.5], "c": {"d": "e"}, "1": "one"})
        );
        assert_eq!(
            decoded.duplicates,
            [
                "yaml: unmarshal errors:\n  line 7: key \"f\" already set in map\n  line 6: key \"a\" already set in map"
            ]
        );
    }

    #[test]
    fn says_what_the_real_decoder_says() {
        for (text, said) in [
            ("{", "line 1: did not find expected node content"),
            ("a: [", "line 1: did not find expected node content"),
            ("not: [yaml", "line 1: did not find expected ',' or ']'"),
            ("not: {yaml: b\n", "line 1: did not find expected ',' or '}'"),
            ("a: b: c", "mapping values are not allowed in this context"),
            (
                "x: y\na: b: c",
                "line 2: mapping values are not allowed in this context",
            ),
            ("a: \"b", "found unexpected end of stream"),
            (
                "x: y\na: @b",
                "line 2: found character that cannot start any token",
            ),
        ] {
            assert_eq!(
                read(text.as_bytes()).unwrap_err(),
                format!("yaml: {said}"),
                "{text}"
            );
        }
    }
}
