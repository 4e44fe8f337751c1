//! Metadata of custom resources is typed though the rest is not: the real server reads it as Go's `ObjectMeta`, and
//! refuses what it cannot read in the decoder's words.

use crate::builtin::codec::{self, Reader};
use crate::builtin::definitions;
use crate::field::{FieldError, Path};
use crate::schema::Schema;
use serde_json::Value;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Reads the metadata of a custom resource, and of the objects embedded in it.
///
/// # Errors
/// What of it has another type, in the text that goes after `cannot be handled as a …`.
pub fn typed(schema: &Schema, object: &mut Value) -> Result<(), String> {
    if let Some(metadata) = object.get_mut("metadata") {
        codec::typed(&definitions::schema(OBJECT_META), metadata, Reader::Json)?;
    }
    within(schema, object, &Path::root(), true)
}

fn within(schema: &Schema, value: &mut Value, path: &Path, root: bool) -> Result<(), String> {
    match value {
        Value::Object(_) if schema.embedded && !root => embedded(value, path)?,
        Value::Array(items) => {
            if let Some(below) = schema.items.as_ref().filter(|below| holds_objects(below)) {
                for (index, item) in items.iter_mut().enumerate() {
                    within(below, item, &path.index(index), false)?;
                }
            }
            return Ok(());
        }
        _ => {}
    }
    let Value::Object(map) = value else { return Ok(()) };
    for (name, field) in map {
        if schema.embedded && name == "metadata" {
            continue;
        }
        match (schema.properties.get(name.as_str()), &schema.additional) {
            (Some(below), _) if holds_objects(below) => within(below, field, &path.child(name), false)?,
            (None, Some(below)) if holds_objects(below) => within(below, field, &path.key(name), false)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether there may be an embedded object here or below; scalars are passed over.
fn holds_objects(schema: &Schema) -> bool {
    schema.embedded || !schema.properties.is_empty() || schema.additional.is_some() || schema.items.is_some()
}

fn embedded(value: &mut Value, path: &Path) -> Result<(), String> {
    for name in ["apiVersion", "kind"] {
        if let Some(there) = value.get(name).filter(|there| !there.is_string()) {
            return Err(FieldError::invalid(&path.child(name), there, "must be a string").to_string());
        }
    }
    let Some(metadata) = value.get_mut("metadata") else {
        return Ok(());
    };
    let before = metadata.clone();
    codec::typed(&definitions::schema(OBJECT_META), metadata, Reader::Json)
        .map_err(|why| FieldError::invalid(&path.child("metadata"), &before, why).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refuses_metadata_of_other_types() {
        let schema = Schema::for_custom_resource(Some(
            &json!({"type": "object", "properties": {"t": {"type": "object",
            "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}),
        ))
        .unwrap();
        let mut object = json!({"metadata": {"name": "a", "labels": {"x": 1}}});
        assert_eq!(
            typed(&schema, &mut object).unwrap_err(),
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
        );
        let mut object = json!({"metadata": {"name": "a"}, "t": {"metadata": {"labels": {"x": 1}}}});
        assert_eq!(
            typed(&schema, &mut object).unwrap_err(),
            r#"t.metadata: Invalid value: {"labels":{"x":1}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"#
        );
        let mut object = json!({"metadata": {"name": "a", "creationTimestamp": null}, "t": {"kind": 1}});
        assert_eq!(
            typed(&schema, &mut object).unwrap_err(),
            "t.kind: Invalid value: 1: must be a string"
        );
    }
}
