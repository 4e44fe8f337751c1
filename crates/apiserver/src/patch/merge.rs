//! JSON merge patches (RFC 7386).

use crate::status::{ApiError, ApiResult};
use serde_json::{Map, Value};

/// The object with the patch merged in.
pub(crate) fn apply(object: &Value, patch: &Value) -> ApiResult<Value> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::bad_request("Invalid JSON Patch"));
    };
    let mut patched = object.clone();
    merge(&mut patched, patch);
    Ok(patched)
}

fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                map.remove(key);
            }
            Value::Object(inner) => merge(map.entry(key.clone()).or_insert(Value::Null), inner),
            other => {
                map.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merges_maps_and_replaces_the_rest() {
        let object = json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"});
        let patch = json!({"a": {"b": null, "c": [3], "e": {"f": null, "g": 1}}, "d": {"h": 1}});
        assert_eq!(
            apply(&object, &patch).unwrap(),
            json!({"a": {"c": [3], "e": {"g": 1}}, "d": {"h": 1}})
        );
        assert!(apply(&object, &json!([1])).is_err());
    }
}
