//! Whether a write would change anything.
//!
//! A write that changes nothing costs the server as much as one that does. Whether it would is known from the
//! cache, and where that is not certain the write is sent: a wrong "no" costs a request, a wrong "yes" would be a
//! bug.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value};

/// Whether the object, as the cache has it, has everything that the applied configuration says.
pub(super) fn holds(live: &Value, config: &Value) -> bool {
    let (Some(live), Some(config)) = (live.as_object(), config.as_object()) else {
        return false;
    };
    // The cache leaves out what the kind implies.
    let said = config
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind"));
    said.into_iter().all(|(name, config)| {
        live.get(name)
            .map_or(config.is_null(), |live| contains(live, config))
    })
}

/// Defaults that the server added do not matter. Lists must have the same length and agree element by element:
/// which lists merge by key is known to the server alone.
fn contains(live: &Value, config: &Value) -> bool {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            config.iter().all(|(name, config)| match live.get(name) {
                Some(live) => contains(live, config),
                None => config.is_null(),
            })
        }
        (Value::Array(live), Value::Array(config)) => {
            live.len() == config.len()
                && live
                    .iter()
                    .zip(config)
                    .all(|(live, config)| contains(live, config))
        }
        (live, config) => live == config,
    }
}

/// Whether a merge patch (RFC 7386) leaves the object as it is.
pub(super) fn merges_to_nothing(live: &Value, patch: &Value) -> bool {
    match (live, patch) {
        (Value::Object(live), Value::Object(patch)) => {
            patch.iter().all(|(name, patch)| match live.get(name) {
                Some(live) => !patch.is_null() && merges_to_nothing(live, patch),
                // An empty object would be added, unless all that it says is to remove.
                None => patch.is_null(),
            })
        }
        (live, patch) => live == patch,
    }
}

/// Whether an applied configuration says all of the fields that its manager owns, and no other: then nothing that was
/// applied before has to go, and nothing is still to be owned. `fields` is the text of a `fieldsV1`.
pub(super) fn owns(fields: &str, config: &Value) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(fields) else {
        return false;
    };
    let Some(config) = config.as_object() else {
        return false;
    };
    let metadata = config.get("metadata").and_then(Value::as_object);
    // What names the object is owned by nobody.
    let mut said = config.clone();
    said.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
    let mut metadata = metadata.cloned().unwrap_or_default();
    metadata.retain(|name, _| !matches!(name.as_str(), "name" | "namespace"));
    if !metadata.is_empty() {
        said.insert("metadata".to_owned(), metadata.into());
    }
    object_owned(&fields, &said)
}

type Fields = Map<String, Value>;

/// Whether a value says what the fields below it do. A field with none below it is a scalar or owned as a whole.
fn owned(fields: &Value, config: &Value) -> bool {
    match (fields.as_object(), config) {
        (Some(fields), _) if fields.is_empty() => true,
        (Some(fields), Value::Object(config)) => object_owned(fields, config),
        (Some(fields), Value::Array(config)) => list_owned(fields, config),
        _ => false,
    }
}

fn object_owned(fields: &Fields, config: &Fields) -> bool {
    let config = || config.iter().filter(|(_, value)| !value.is_null());
    let fields = || fields.iter().filter(|(name, _)| *name != ".");
    let field = |name: &str| fields().find(|(field, _)| field.strip_prefix("f:") == Some(name));
    fields().count() == config().count()
        && config().all(|(name, value)| field(name).is_some_and(|(_, below)| owned(below, value)))
}

/// The elements of a list that is merged by keys (`k:`) or is a set (`v:`). A key that the configuration leaves to its
/// default is not known here, so the element is not recognized.
fn list_owned(fields: &Fields, config: &[Value]) -> bool {
    let element = |name: &str, value: &Value| match name.split_once(':') {
        Some(("k", keys)) => serde_json::from_str::<Fields>(keys)
            .is_ok_and(|keys| keys.iter().all(|(key, wanted)| value.get(key) == Some(wanted))),
        Some(("v", wanted)) => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value),
        _ => false,
    };
    let fields = || fields.iter().filter(|(name, _)| *name != ".");
    fields().count() == config.len()
        && config.iter().all(|value| {
            fields()
                .find(|(name, _)| element(name, value))
                .is_some_and(|(_, below)| owned(below, value))
        })
}

/// A hash of a configuration that is the same for equal ones: `Value` keeps its keys in order.
pub(super) fn hash(manager: &str, config: &Value) -> u64 {
    struct Text<'a>(&'a mut DefaultHasher);
    impl std::io::Write for Text<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = DefaultHasher::new();
    manager.hash(&mut hasher);
    // Neither a Value nor a hasher can fail here.
    let _ = serde_json::to_writer(Text(&mut hasher), config);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_do_not_count_as_differences() {
        let live =
            json!({ "spec": { "a": 1, "default": true, "list": [{ "x": 1, "default": 2 }] }, "status": {} });
        assert!(contains(
            &live,
            &json!({ "spec": { "a": 1, "none": null, "list": [{ "x": 1 }] } })
        ));
        assert!(!contains(&live, &json!({ "spec": { "a": 2 } })));
        assert!(!contains(&live, &json!({ "spec": { "list": [] } })));
        assert!(!contains(&live, &json!({ "spec": { "b": {} } })));
    }

    #[test]
    fn a_merge_patch_that_restates_the_object_does_nothing() {
        let live = json!({ "a": { "b": [1] }, "c": "d" });
        assert!(merges_to_nothing(
            &live,
            &json!({ "a": { "b": [1] }, "gone": null })
        ));
        assert!(!merges_to_nothing(&live, &json!({ "c": null })));
        assert!(!merges_to_nothing(&live, &json!({ "a": { "b": [] } })));
        assert!(!merges_to_nothing(&live, &json!({ "new": {} })));
    }

    #[test]
    fn the_fields_of_a_configuration_are_recognized() {
        let config = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "a", "namespace": "b", "labels": { "l": "1" }, "finalizers": ["x/y"] },
            "spec": { "none": null, "atomic": { "deep": 1 }, "ports": [{ "port": 80, "name": "http" }], "set": [] },
        });
        let fields = json!({
            "f:metadata": { "f:labels": { ".": {}, "f:l": {} }, "f:finalizers": { ".": {}, "v:\"x/y\"": {} } },
            "f:spec": {
                "f:atomic": {}, "f:set": {},
                "f:ports": { "k:{\"port\":80}": { ".": {}, "f:port": {}, "f:name": {} } },
            },
        });
        let ours = |fields: &Value, config: &Value| owns(&fields.to_string(), config);
        assert!(ours(&fields, &config));
        let changed = |pointer: &str, value: Value| {
            let mut config = config.clone();
            *config.pointer_mut(pointer).unwrap() = value;
            ours(&fields, &config)
        };
        assert!(
            changed("/spec/atomic/deep", json!(2)),
            "values are looked at elsewhere"
        );
        assert!(
            !changed("/metadata/labels", json!({})),
            "what was applied before has to go"
        );
        assert!(
            !changed("/metadata/labels", json!({ "l": "1", "m": "1" })),
            "what is new is not owned"
        );
        assert!(!changed("/metadata/finalizers/0", json!("x/z")));
        assert!(!changed("/spec/ports/0/port", json!(81)));
        assert!(!changed("/spec/ports/0", json!({ "port": 80 })));
        assert!(!changed("/spec/ports", json!([])));
        assert!(!changed("/spec/none", json!(1)));
        assert!(!owns("{", &config));
        assert!(!owns("{}", &config));
    }

    #[test]
    fn a_hash_depends_on_content_and_manager_only() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap();
        assert_eq!(hash("m", &one), hash("m", &two));
        assert_ne!(hash("m", &one), hash("n", &one));
        assert_ne!(hash("m", &one), hash("m", &json!({ "a": 1 })));
    }
}
