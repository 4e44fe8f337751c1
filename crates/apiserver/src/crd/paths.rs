//! Small readers of JSON values that may lack what is asked for.

use serde_json::Value;

/// The text of a field, empty where there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list, none where it is not one.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A flag, false where there is none.
pub(super) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The value at a dotted path such as `.spec.replicas`.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.strip_prefix('.')
        .unwrap_or(path)
        .split('.')
        .try_fold(value, |value, name| value.get(name))
}
