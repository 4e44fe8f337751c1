//! JSON patches (RFC 6902).

use super::kind_name;
use crate::status::{ApiError, ApiResult};
use http::StatusCode;
use serde_json::{Value, json};

const MOST_OPERATIONS: usize = 10_000;

/// The object with the operations of the patch done in turn, or the refusal of the first that fails: the real
/// server does not say which one or why.
pub(crate) fn apply(object: &Value, patch: &Value) -> ApiResult<Value> {
    let operations = patch.as_array().ok_or_else(|| {
        ApiError::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            kind_name(patch)
        ))
    })?;
    if operations.len() > MOST_OPERATIONS {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
                operations.len()
            ),
        ));
    }
    let mut patched = object.clone();
    operations
        .iter()
        .try_for_each(|operation| run(&mut patched, operation))
        .ok_or_else(|| {
            ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                "the server rejected our request due to an error in our request",
            )
            .with_details(json!({}))
        })?;
    Ok(patched)
}

/// Does one operation. Where the real server's library is more lenient than the standard, so is this: what is
/// replaced need not be there, and what is not there is null when it is tested.
fn run(document: &mut Value, operation: &Value) -> Option<()> {
    let op = operation["op"].as_str()?;
    let path = operation["path"].as_str()?;
    let mut operation = operation.clone();
    if matches!(op, "replace" | "test") && document.pointer(path).is_none() {
        let (parent, _) = path.rsplit_once('/')?;
        let in_map = document.pointer(parent).is_some_and(Value::is_object);
        if op == "test" {
            return (in_map && operation["value"].is_null()).then_some(());
        }
        if in_map {
            operation["op"] = "add".into();
        }
    }
    let operation = serde_json::from_value(operation).ok()?;
    json_patch::patch(document, &[operation]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_all_operations_or_refuses() {
        let object = json!({"a": {"b": 1}, "l": [1, 2]});
        let good = json!([
            {"op": "test", "path": "/a/b", "value": 1},
            {"op": "add", "path": "/l/-", "value": 8},
            {"op": "move", "from": "/a/b", "path": "/m"},
            {"op": "replace", "path": "/a/c", "value": 5},
            {"op": "test", "path": "/a/d", "value": null},
        ]);
        assert_eq!(
            apply(&object, &good),
            Ok(json!({"a": {"c": 5}, "l": [1, 2, 8], "m": 1}))
        );
        for bad in [
            json!([{"op": "test", "path": "/a/b", "value": 2}]),
            json!([{"op": "remove", "path": "/x"}]),
            json!([{"op": "pizza", "path": "/x"}]),
        ] {
            assert_eq!(
                apply(&object, &bad).unwrap_err().code,
                StatusCode::UNPROCESSABLE_ENTITY
            );
        }
        assert_eq!(
            apply(&object, &json!({})).unwrap_err().message,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        );
    }
}
