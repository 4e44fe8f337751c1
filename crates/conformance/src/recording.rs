//! The committed transcripts of the real server: one JSON file per area, laid out so that a change shows as few
//! changed lines.

use crate::run::Transcript;
use anyhow::Context;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// How wide a line may get before a value is spread over several.
const WIDTH: usize = 110;

/// Reads all recordings of a folder, by the scenario's id.
///
/// # Errors
/// When a file cannot be read or is not a recording.
pub fn load(folder: &Path) -> anyhow::Result<BTreeMap<String, Transcript>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let path = entry?.path();
        let read = || -> anyhow::Result<BTreeMap<String, Transcript>> {
            Ok(serde_json::from_str(&fs::read_to_string(&path)?)?)
        };
        all.extend(read().with_context(|| format!("failed to read {}", path.display()))?);
    }
    Ok(all)
}

/// Writes recordings, one file per area. Areas that are not in `transcripts` keep their files; within an area,
/// scenarios of `keep` that are not in `transcripts` keep their recording.
///
/// # Errors
/// When a file cannot be written.
pub fn save(
    folder: &Path,
    transcripts: &BTreeMap<String, Transcript>,
    keep: &BTreeSet<String>,
) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let area = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
    let areas: BTreeSet<_> = transcripts.keys().map(|id| area(id)).collect();
    let mut all = load(folder)?;
    all.retain(|id, _| keep.contains(id));
    all.extend(transcripts.clone());
    for name in areas {
        let mut text = String::from("{\n");
        let mut first = true;
        for (id, transcript) in all.iter().filter(|(id, _)| area(id) == name) {
            if !std::mem::take(&mut first) {
                text.push_str(",\n");
            }
            text.push_str(&Value::from(id.as_str()).to_string());
            text.push_str(": ");
            write(&Value::Array(transcript.clone()), 0, 0, &mut text);
        }
        text.push_str("\n}\n");
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Writes a value on one line where it fits, else its parts on lines of their own.
fn write(value: &Value, indent: usize, used: usize, out: &mut String) {
    let short = value.to_string();
    let spread = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    // The list of steps is always spread: a step is never on a line with another.
    if !spread || (indent > 0 && indent + used + short.len() <= WIDTH) {
        out.push_str(&short);
        return;
    }
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    out.push(open);
    let parts: Vec<(Option<&String>, &Value)> = match value {
        Value::Object(map) => {
            let mut parts: Vec<_> = map.iter().map(|(key, value)| (Some(key), value)).collect();
            if indent == 1 {
                // A step's entry begins with what was asked and how it went.
                parts.sort_by_key(|(key, _)| key.is_none_or(|key| key != "step" && key != "status"));
                parts.sort_by_key(|(key, _)| key.is_none_or(|key| key != "step"));
            }
            parts
        }
        Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
        _ => Vec::new(),
    };
    for (place, (key, part)) in parts.iter().enumerate() {
        out.push_str(if place == 0 { "\n" } else { ",\n" });
        out.extend(std::iter::repeat_n(' ', indent + 1));
        let label = key
            .map(|key| format!("{}: ", Value::from(key.as_str())))
            .unwrap_or_default();
        out.push_str(&label);
        write(part, indent + 1, label.len(), out);
    }
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let step = json!({"step": "GET a", "body": {"long": "x".repeat(100), "list": [1, 2, {"a": {}}]}});
        let all: BTreeMap<_, _> = [("a/x", vec![step.clone()]), ("a/y", vec![]), ("b/z", vec![step])]
            .map(|(id, transcript)| (id.to_owned(), transcript))
            .into();
        let ids: BTreeSet<_> = all.keys().cloned().collect();
        save(folder.path(), &all, &ids).unwrap();
        assert_eq!(load(folder.path()).unwrap(), all);

        let text = fs::read_to_string(folder.path().join("a.json")).unwrap();
        assert!(text.lines().count() > 5, "{text}");
        let some: BTreeMap<_, _> = all.clone().into_iter().take(1).collect();
        save(folder.path(), &some, &ids).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a.json")).unwrap(), text);
    }
}
