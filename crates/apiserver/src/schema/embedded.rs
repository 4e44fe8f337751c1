//! Whole objects inside others (`x-kubernetes-embedded-resource`): their apiVersion, kind and metadata are judged
//! though the schema says nothing of them.

use super::Schema;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names::{label_1035, path_segment};
use serde_json::Value;

/// Judges the apiVersion, kind and metadata of objects inside `value`, and of itself with `root`.
pub fn validate_embedded(schema: &Schema, value: &Value, path: &Path, root: bool, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            if root {
                validate_object(value, path, errors);
            }
            for (name, field) in map {
                match (schema.properties.get(name.as_str()), &schema.additional) {
                    (Some(below), _) if holds_objects(below) => {
                        validate_embedded(below, field, &path.child(name), below.embedded, errors);
                    }
                    (None, Some(below)) if holds_objects(below) => {
                        validate_embedded(below, field, &path.key(name), below.embedded, errors);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_ref().filter(|below| holds_objects(below)) else {
                return;
            };
            for (index, item) in items.iter().enumerate() {
                validate_embedded(below, item, &path.index(index), below.embedded, errors);
            }
        }
        _ => {}
    }
}

/// Whether there may be an object of its own here or below; scalars and bare maps are passed over.
fn holds_objects(schema: &Schema) -> bool {
    schema.embedded || !schema.properties.is_empty() || schema.additional.is_some() || schema.items.is_some()
}

fn validate_object(value: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in ["apiVersion", "kind"] {
        if value.get(name).is_none() {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    if let Some(version) = value.get("apiVersion") {
        let path = path.child("apiVersion");
        match version.as_str() {
            None => errors.push(FieldError::invalid(&path, version, "must be a string")),
            Some("") => errors.push(FieldError::invalid(&path, version, "must not be empty")),
            Some(text) if text.matches('/').count() > 1 => errors.push(FieldError::invalid(
                &path,
                version,
                format!("unexpected GroupVersion string: {text}"),
            )),
            Some(_) => {}
        }
    }
    if let Some(kind) = value.get("kind") {
        let path = path.child("kind");
        match kind.as_str() {
            None => errors.push(FieldError::invalid(&path, kind, "must be a string")),
            Some("") => errors.push(FieldError::invalid(&path, kind, "must not be empty")),
            Some(text) => {
                let why = label_1035(&text.to_lowercase());
                if !why.is_empty() {
                    let detail = format!(
                        "may have mixed case, but should otherwise match: {}",
                        why.join(",")
                    );
                    errors.push(FieldError::invalid(&path, kind, detail));
                }
            }
        }
    }
    if let Some(metadata) = value.get("metadata") {
        let path = path.child("metadata");
        if !metadata.is_object() {
            errors.push(FieldError::invalid(&path, metadata, "must be an object"));
            return;
        }
        for name in ["name", "generateName", "namespace"] {
            let Some(field) = metadata.get(name) else { continue };
            match field.as_str() {
                Some(text) => {
                    for why in path_segment(text) {
                        errors.push(FieldError::invalid(&path.child(name), field, why));
                    }
                }
                None => errors.push(FieldError::invalid(
                    &path,
                    metadata,
                    format!("{name} must be a string"),
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn judges_objects_within() {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {"t": {"type": "array",
            "items": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true}}}}))
        .unwrap();
        let mut errors = FieldErrors::new();
        let value = json!({"t": [{"apiVersion": "a/b/c", "metadata": {"name": "a/b"}},
            {"apiVersion": "v1", "kind": "K_"}]});
        validate_embedded(&schema, &value, &Path::root(), false, &mut errors);
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "t[0].kind: Required value");
        assert_eq!(
            said[1],
            r#"t[0].apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#
        );
        assert_eq!(
            said[2],
            r#"t[0].metadata.name: Invalid value: "a/b": may not contain '/'"#
        );
        assert!(said[3].starts_with(r#"t[1].kind: Invalid value: "K_": may have mixed case"#));
    }
}
