//! Label selectors and maps of labels.

use super::check::{complaints, items, qualified, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names;
use serde_json::{Value, json};

/// The labels of a map, each at the map's own path.
pub(super) fn validate_labels(path: &Path, labels: &Value, errors: &mut FieldErrors) {
    for (name, value) in labels.as_object().into_iter().flatten() {
        qualified(path, name, errors);
        let label = value.as_str().unwrap_or_default();
        complaints(path, value, names::label_value(label), errors);
    }
}

/// A `metav1.LabelSelector`.
pub(super) fn validate_selector(path: &Path, selector: &Value, errors: &mut FieldErrors) {
    validate_labels(&path.child("matchLabels"), &selector["matchLabels"], errors);
    for (index, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let at = path.child("matchExpressions").index(index);
        let values = items(&expression["values"]);
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &at.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    errors.push(FieldError::forbidden(
                        &at.child("values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    ));
                }
            }
            other => errors.push(FieldError::invalid(
                &at.child("operator"),
                &json!(other),
                "not a valid selector operator",
            )),
        }
        qualified(&at.child("key"), text(expression, "key"), errors);
        for (index, value) in values.iter().enumerate() {
            let label = value.as_str().unwrap_or_default();
            complaints(
                &at.child("values").index(index),
                value,
                names::label_value(label),
                errors,
            );
        }
    }
}

/// Whether a selector is right, and so can be matched.
pub(super) fn is_valid(selector: &Value) -> bool {
    let mut errors = FieldErrors::new();
    validate_selector(&Path::root(), selector, &mut errors);
    errors.is_empty()
}

/// Whether a selector names nothing, which selects everything.
pub(super) fn is_empty(selector: &Value) -> bool {
    selector["matchLabels"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
        && items(&selector["matchExpressions"]).is_empty()
}

/// Whether labels match a selector.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = items(&selector["matchExpressions"]).iter();
    wanted
        .into_iter()
        .all(|(name, value)| labels.get(name) == Some(value))
        && expressions.all(|expression| {
            let label = labels.get(text(expression, "key"));
            let listed = label.is_some_and(|label| items(&expression["values"]).contains(label));
            match text(expression, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => label.is_some(),
                _ => label.is_none(),
            }
        })
}
