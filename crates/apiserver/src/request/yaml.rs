//! YAML bodies.

use super::body::{Decoded, Node, Step};
use serde::de::DeserializeSeed;
use serde_saphyr::options::DuplicateKeyPolicy;
use std::cell::RefCell;

/// Decodes the first document of a YAML body.
pub(crate) fn decode_yaml(body: &[u8]) -> Result<Decoded, String> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let duplicates = RefCell::default();
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Node {
            path: &Step::Root,
            duplicates: &duplicates,
        }
        .deserialize(reader)
    })
    .map_err(|error| said(&error.to_string()))?;
    Ok(Decoded {
        value,
        duplicates: duplicates.into_inner(),
    })
}

/// The first line of a decoder's error, in the form of the real one's.
fn said(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, what)) => match place.split_once(' ') {
            Some((number, _)) if number != "1" => format!("yaml: line {number}: {what}"),
            _ => format!("yaml: {what}"),
        },
        None => format!("yaml: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_documents_and_notes_duplicates() {
        let decoded = decode_yaml(b"a: 1\nb: [x, 'y', true, ~, 1.5]\nc: {d: e}\n1: one\na: 2\n").unwrap();
        assert_eq!(
            decoded.value,
            json!({"a": 2, "b": ["x", "y", true, null, 1.5], "c": {"d": "e"}, "1": "one"})
        );
        assert_eq!(decoded.duplicates, ["duplicate field \"a\""]);
        assert!(decode_yaml(b"a: [").is_err());
    }
}
