//! One object, encoded once.

use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::Arc;

/// An object as it is stored: JSON with its resource version inside. Reads, lists, events and watchers share it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its resource version.
    pub(crate) version: u64,
    /// The form it is written in: which version of which definition of its kind.
    pub(crate) form: u32,
    /// Where the part after `apiVersion` and `kind` starts.
    body: u32,
    json: Box<[u8]>,
}

impl Entry {
    /// What an earlier server stored, in a form that is not known here.
    pub(crate) fn restored(version: u64, json: Box<[u8]>) -> Self {
        Self {
            version,
            form: u32::MAX,
            body: 0,
            json,
        }
    }

    /// The whole object.
    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }

    /// The object without its opening brace, `apiVersion` and `kind`, as items of built-in lists are written.
    pub(crate) fn untyped(&self) -> &[u8] {
        self.json.get(self.body as usize..).unwrap_or_default()
    }

    /// The object for work on it.
    pub(crate) fn value(&self) -> Value {
        // What is stored was written by `encode`, so that it always parses.
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// Whether the encoding contains `text`: a quick way to rule something out.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.json
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    /// The whole object as a body that shares the entry.
    pub(crate) fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Shared(self.clone()))
    }
}

struct Shared(Arc<Entry>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.json
    }
}

/// An encoded object that lacks only its resource version.
#[derive(Debug)]
pub(crate) struct Draft {
    json: Vec<u8>,
    version_at: usize,
    body: u32,
    form: u32,
}

impl Draft {
    /// The entry of this version.
    pub(crate) fn finish(&self, version: u64) -> Entry {
        let digits = version.to_string();
        let mut json = Vec::with_capacity(self.json.len() + digits.len());
        json.extend_from_slice(&self.json[..self.version_at]);
        json.extend_from_slice(digits.as_bytes());
        json.extend_from_slice(&self.json[self.version_at..]);
        Entry {
            version,
            form: self.form,
            body: self.body,
            json: json.into_boxed_slice(),
        }
    }

    /// Whether `entry` holds just this, its version aside.
    pub(crate) fn same(&self, entry: &Entry) -> bool {
        let (front, back) = self.json.split_at(self.version_at);
        self.form == entry.form
            && entry.json.len() > self.json.len()
            && entry.json.starts_with(front)
            && entry.json.ends_with(back)
            && entry.json.len() - self.json.len() == entry.version.to_string().len()
    }

    /// Bytes of the encoding, about.
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }
}

/// Encodes an object for storage in `form`. Any resource version in it is ignored.
pub(crate) fn encode(object: &Value, form: u32) -> Draft {
    let nothing = Map::new();
    let object = object.as_object().unwrap_or(&nothing);
    let mut json = Vec::with_capacity(512);
    json.extend_from_slice(b"{\"apiVersion\":");
    write(&mut json, object.get("apiVersion").unwrap_or(&Value::Null));
    json.extend_from_slice(b",\"kind\":");
    write(&mut json, object.get("kind").unwrap_or(&Value::Null));
    json.push(b',');
    let body = u32::try_from(json.len()).unwrap_or_default();
    json.extend_from_slice(b"\"metadata\":{");
    if let Some(Value::Object(metadata)) = object.get("metadata") {
        for (key, value) in metadata {
            if key != "resourceVersion" {
                write_field(&mut json, key, value);
                json.push(b',');
            }
        }
    }
    json.extend_from_slice(b"\"resourceVersion\":\"");
    let version_at = json.len();
    json.extend_from_slice(b"\"}");
    for (key, value) in object {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            json.push(b',');
            write_field(&mut json, key, value);
        }
    }
    json.push(b'}');
    Draft {
        json,
        version_at,
        body,
        form,
    }
}

fn write_field(json: &mut Vec<u8>, key: &str, value: &Value) {
    write(json, key);
    json.push(b':');
    write(json, value);
}

fn write(json: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Writing a JSON value into memory has no way to fail.
    let _ = serde_json::to_writer(json, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn takes_its_version_late_and_knows_when_nothing_changed() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "\"b\""},
            "metadata": {"name": "x", "resourceVersion": "7"}});
        let draft = encode(&object, 3);
        let entry = draft.finish(1234);
        let mut expected = object.clone();
        expected["metadata"]["resourceVersion"] = json!("1234");
        assert_eq!(entry.value(), expected);
        assert!(draft.same(&entry));
        assert!(!encode(&object, 4).same(&entry));
        expected["data"]["a"] = json!("c");
        assert!(!encode(&expected, 3).same(&entry));
        let mut item = b"{".to_vec();
        item.extend_from_slice(entry.untyped());
        let item: Value = serde_json::from_slice(&item).unwrap();
        assert!(item.get("kind").is_none());
        assert_eq!(item["metadata"]["name"], "x");
    }
}
