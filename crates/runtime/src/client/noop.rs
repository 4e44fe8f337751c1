//! Whether a write would change anything.
//!
//! A write that changes nothing costs the server as much as one that does. Whether it would is known from the
//! cache, and where that is not certain the write is sent: a wrong "no" costs a request, a wrong "yes" would be a
//! bug.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

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
    fn a_hash_depends_on_content_and_manager_only() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap();
        assert_eq!(hash("m", &one), hash("m", &two));
        assert_ne!(hash("m", &one), hash("n", &one));
        assert_ne!(hash("m", &one), hash("m", &json!({ "a": 1 })));
    }
}
