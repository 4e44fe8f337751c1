//! Uniqueness in lists that are sets or maps (`x-kubernetes-list-type`).

use super::{ListType, Schema};
use crate::field::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};

/// Finds items that are there twice. Each value is named once, at its second place.
pub fn validate_lists(schema: &Schema, value: &Value, path: &Path, errors: &mut FieldErrors) {
    if needs(schema) {
        walk(schema, value, &mut || path.clone(), errors);
    }
}

/// The same, but an object whose old state had such items may keep them.
pub fn validate_lists_changed(schema: &Schema, new: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let mut found = FieldErrors::new();
    validate_lists(schema, new, &Path::root(), &mut found);
    if found.is_empty() {
        return;
    }
    if let Some(old) = old {
        let mut before = FieldErrors::new();
        validate_lists(schema, old, &Path::root(), &mut before);
        if !before.is_empty() {
            return;
        }
    }
    errors.append(&mut found);
}

/// Whether there is anything to look for below: scalars are skipped without a path being built.
fn needs(schema: &Schema) -> bool {
    !schema.properties.is_empty() || schema.additional.is_some() || schema.items.is_some()
}

fn walk(schema: &Schema, value: &Value, path: &mut dyn FnMut() -> Path, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            for (name, field) in map {
                match (schema.properties.get(name.as_str()), &schema.additional) {
                    (Some(below), _) if needs(below) => {
                        walk(below, field, &mut || path().child(name), errors);
                    }
                    (None, Some(below)) if needs(below) => {
                        walk(below, field, &mut || path().key(name), errors);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            match &schema.list {
                ListType::Set => set(items, path, errors),
                ListType::Map(keys) => map(keys, items, path, errors),
                ListType::Atomic => {}
            }
            if let Some(below) = schema.items.as_ref().filter(|below| needs(below)) {
                for (index, item) in items.iter().enumerate() {
                    walk(below, item, &mut || path().index(index), errors);
                }
            }
        }
        _ => {}
    }
}

/// The places at which a value stands for the second time.
fn second_places<T: PartialEq>(values: &[T]) -> impl Iterator<Item = usize> + '_ {
    (1..values.len()).filter(|at| values[..*at].iter().filter(|v| **v == values[*at]).count() == 1)
}

fn set(items: &[Value], path: &mut dyn FnMut() -> Path, errors: &mut FieldErrors) {
    for at in second_places(items) {
        errors.push(FieldError::duplicate(&path().index(at), &items[at]));
    }
}

fn map(
    keys: &[std::sync::Arc<str>],
    items: &[Value],
    path: &mut dyn FnMut() -> Path,
    errors: &mut FieldErrors,
) {
    if let Some(at) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        errors.push(FieldError::invalid(
            &path().index(at),
            &items[at],
            "must be an object for an array of list-type map",
        ));
        return;
    }
    if items.len() < 2 {
        return;
    }
    let parts: Vec<Vec<Option<&Value>>> = items
        .iter()
        .map(|item| keys.iter().map(|key| item.get(&**key)).collect())
        .collect();
    for at in second_places(&parts) {
        let shown: Map<String, Value> = keys
            .iter()
            .zip(&parts[at])
            .filter_map(|(key, value)| Some((key.to_string(), (*value)?.clone())))
            .collect();
        errors.push(FieldError::duplicate(&path().index(at), &Value::Object(shown)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(new: &Value, old: Option<&Value>) -> Vec<String> {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}},
            "by": {"type": "object", "additionalProperties": {"type": "array", "x-kubernetes-list-type": "set",
                "items": {"type": "integer"}}}}}))
        .unwrap();
        let mut errors = FieldErrors::new();
        validate_lists_changed(&schema, new, old, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_the_second_of_equal_items() {
        let new = json!({"set": ["a", "b", "a", "a"], "map": [{"a": "x", "b": 1}, {"a": "x"}, {"a": "x", "b": 1}],
            "by": {"k": [1, 1]}});
        assert_eq!(
            found(&new, None),
            [
                r"by[k][1]: Duplicate value: 1",
                r#"map[2]: Duplicate value: {"a":"x","b":1}"#,
                r#"set[2]: Duplicate value: "a""#,
            ]
        );
        assert!(found(&new, Some(&json!({"set": ["z", "z"]}))).is_empty());
        assert_eq!(found(&new, Some(&json!({"set": ["z"]}))).len(), 3);
    }
}
