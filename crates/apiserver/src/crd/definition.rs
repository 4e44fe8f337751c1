//! The strategy of `CustomResourceDefinition` objects themselves.

use super::paths::{flag, list, text};
use super::validation;
use crate::field::FieldErrors;
use crate::resource::{Strategy, Surroundings};
use crate::schema::is_recognized_format;
use serde_json::{Value, json};

/// The strategy of CRDs.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrdStrategy;

impl Strategy for CrdStrategy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return;
        };
        spec.entry("conversion")
            .or_insert_with(|| json!({"strategy": "None"}));
        if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
            let kind = names
                .get("kind")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let missing = |names: &serde_json::Map<String, Value>, key: &str| {
                names.get(key).and_then(Value::as_str).is_none_or(str::is_empty)
            };
            if !kind.is_empty() && missing(names, "singular") {
                names.insert("singular".to_owned(), json!(kind.to_lowercase()));
            }
            if !kind.is_empty() && missing(names, "listKind") {
                names.insert("listKind".to_owned(), json!(format!("{kind}List")));
            }
        }
        let conversion = spec.get_mut("conversion");
        let service =
            conversion.and_then(|c| c.get_mut("webhook")?.get_mut("clientConfig")?.get_mut("service"));
        if let Some(service) = service.and_then(Value::as_object_mut) {
            service.entry("port").or_insert(json!(443));
        }
    }

    fn prepare_create(&self, object: &mut Value, _around: &dyn Surroundings) {
        drop_false_preserve(object);
        let stored = storage_version(object);
        if let Some(map) = object.as_object_mut() {
            map.insert(
                "status".to_owned(),
                json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""},
                    "storedVersions": stored.map_or(Value::Null, |name| json!([name]))}),
            );
        }
    }

    fn validate_create(&self, object: &Value, _around: &dyn Surroundings) -> FieldErrors {
        validation::validate(object)
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, subresource: &str, _around: &dyn Surroundings) {
        if subresource == "status" {
            object["spec"] = old["spec"].clone();
            return;
        }
        drop_false_preserve(object);
        object["status"] = old["status"].clone();
        let counted = old["metadata"]["generation"].as_i64().unwrap_or(0);
        let changed = i64::from(object["spec"] != old["spec"]);
        object["metadata"]["generation"] = json!(counted + changed);
        if let Some(stored) = storage_version(object) {
            match &mut object["status"]["storedVersions"] {
                Value::Array(versions) if versions.iter().any(|version| *version == stored) => {}
                Value::Array(versions) => versions.push(json!(stored)),
                other => *other = json!([stored]),
            }
        }
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        subresource: &str,
        _around: &dyn Surroundings,
    ) -> FieldErrors {
        if subresource == "status" {
            validation::validate_status(object)
        } else {
            validation::validate_update(object, old)
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, _: &str) -> Vec<String> {
        let known = old.map(formats).unwrap_or_default();
        formats(object)
            .into_iter()
            .filter(|format| !known.contains(format))
            .map(|format| format!("unrecognized format {format:?}"))
            .collect()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}

fn storage_version(crd: &Value) -> Option<String> {
    list(&crd["spec"]["versions"])
        .iter()
        .find(|version| flag(version, "storage"))
        .map(|version| text(version, "name").to_owned())
}

/// `preserveUnknownFields: false` is the same as none, and is not stored.
fn drop_false_preserve(crd: &mut Value) {
    if let Some(spec) = crd.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("preserveUnknownFields") == Some(&json!(false))
    {
        spec.remove("preserveUnknownFields");
    }
}

/// The formats in a CRD's schemas that mean nothing.
fn formats(crd: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(&crd["spec"]["versions"]) {
        collect(&version["schema"]["openAPIV3Schema"], &mut found);
    }
    found
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    let format = text(schema, "format");
    if !format.is_empty() && !is_recognized_format(text(schema, "type"), format) {
        found.push(format.to_owned());
    }
    for key in ["items", "additionalProperties", "not"] {
        if schema[key].is_object() {
            collect(&schema[key], found);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for below in list(&schema[key]) {
            collect(below, found);
        }
    }
    for below in schema["properties"].as_object().into_iter().flatten() {
        collect(below.1, found);
    }
}
