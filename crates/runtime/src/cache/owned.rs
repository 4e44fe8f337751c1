//! What an earlier process of ours applied to an object, as the object's managedFields have it.
//!
//! A process that starts knows its configurations, but not what it applied before: a field that it no longer wants
//! may have to go. So the fields of our own entries are kept with an object until the first apply of this process,
//! and no longer.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields that our own applies own, each as the text of a `fieldsV1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnedFields {
    pub object: Option<Arc<str>>,
    pub status: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    api_version: String,
    #[serde(borrow, rename = "fieldsV1")]
    fields: Option<&'a RawValue>,
}

impl OwnedFields {
    /// Those of `manager` in the text of an object's managedFields; none where there is anything that is not
    /// understood. `version` is the API version in which configurations are written.
    pub fn of(json: &[u8], manager: &str, version: &str) -> Self {
        // Most objects are applied by nobody, and most kinds are never applied by us.
        if !std::str::from_utf8(json).is_ok_and(|json| json.contains("\"Apply\"")) {
            return Self::default();
        }
        let entries: Vec<Entry<'_>> = serde_json::from_slice(json).unwrap_or_default();
        let mut owned = Self::default();
        let ours = entries
            .into_iter()
            .filter(|entry| entry.manager == manager && entry.operation == "Apply");
        for entry in ours {
            let slot = match entry.subresource.as_str() {
                "" => &mut owned.object,
                "status" => &mut owned.status,
                _ => continue,
            };
            *slot = (entry.api_version == version)
                .then_some(entry.fields)
                .flatten()
                .map(|fields| fields.get().into());
        }
        owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_applies_of_that_version_count() {
        let managed = br#"[
            {"manager":"we","operation":"Update","apiVersion":"v1","fieldsV1":{"f:a":{}}},
            {"manager":"they","operation":"Apply","apiVersion":"v1","fieldsV1":{"f:b":{}}},
            {"manager":"we","operation":"Apply","apiVersion":"v1","fieldsV1":{"f:c":{}}},
            {"manager":"we","operation":"Apply","apiVersion":"v1","subresource":"status","fieldsV1":{"f:d":{}}},
            {"manager":"we","operation":"Apply","apiVersion":"v1","subresource":"scale","fieldsV1":{"f:e":{}}}]"#;
        let owned = OwnedFields::of(managed, "we", "v1");
        assert_eq!(owned.object.as_deref(), Some(r#"{"f:c":{}}"#));
        assert_eq!(owned.status.as_deref(), Some(r#"{"f:d":{}}"#));
        assert_eq!(OwnedFields::of(managed, "we", "v2"), OwnedFields::default());
        assert_eq!(
            OwnedFields::of(b"[{\"manager\":7}]", "we", "v1"),
            OwnedFields::default()
        );
    }
}
