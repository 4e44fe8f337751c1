//! Whether two definitions mean the same. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Fields that the API server leaves out where they are false.
const FALSE_IS_ABSENT: [&str; 8] = [
    "deprecated",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "nullable",
    "preserveUnknownFields",
    "uniqueItems",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
];

/// The paths of the fields of `spec` in which two definitions differ, whatever the API server fills in aside.
pub(super) fn differences(
    wanted: &CustomResourceDefinition,
    present: &CustomResourceDefinition,
) -> Vec<String> {
    let (wanted, present) = (normal_spec(wanted), normal_spec(present));
    let mut paths = Vec::new();
    compare("spec", &wanted, &present, &mut paths);
    paths
}

fn normal_spec(crd: &CustomResourceDefinition) -> Value {
    // A definition has only text keys and finite numbers, so it always has a JSON form.
    let mut spec = serde_json::to_value(&crd.spec).unwrap_or_default();
    strip(&mut spec);
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        names.retain(|key, name| match key.as_str() {
            "singular" => *name != kind.to_lowercase(),
            "listKind" => *name != format!("{kind}List"),
            _ => true,
        });
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, value| key != "conversion" || value["strategy"] != "None");
    }
    spec
}

/// Removes what the API server would not store. Values under `default`, `enum` and `example` are data, not schema.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if !matches!(key.as_str(), "default" | "enum" | "example") {
                    strip(field);
                }
            }
            fields.retain(|key, field| match field {
                Value::Null => false,
                Value::Bool(false) => !FALSE_IS_ABSENT.contains(&key.as_str()),
                Value::Number(number) => key != "priority" || number.as_i64() != Some(0),
                Value::Array(items) => !items.is_empty() || key == "default",
                Value::String(text) => !text.is_empty() || key == "default",
                Value::Object(_) | Value::Bool(true) => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn compare(path: &str, wanted: &Value, present: &Value, paths: &mut Vec<String>) {
    match (wanted, present) {
        (Value::Object(wanted), Value::Object(present)) => {
            let fields: BTreeSet<&String> = wanted.keys().chain(present.keys()).collect();
            for key in fields {
                let path = format!("{path}.{key}");
                match (wanted.get(key), present.get(key)) {
                    (Some(wanted), Some(present)) => compare(&path, wanted, present, paths),
                    _ => paths.push(path),
                }
            }
        }
        (Value::Array(wanted), Value::Array(present)) => match (by_name(wanted), by_name(present)) {
            (Some(wanted), Some(present)) => {
                let names: BTreeSet<&str> = wanted.keys().chain(present.keys()).copied().collect();
                for name in names {
                    let path = format!("{path}[{name}]");
                    match (wanted.get(name), present.get(name)) {
                        (Some(wanted), Some(present)) => compare(&path, wanted, present, paths),
                        _ => paths.push(path),
                    }
                }
            }
            _ if wanted.len() == present.len() => {
                for (index, (wanted, present)) in wanted.iter().zip(present).enumerate() {
                    compare(&format!("{path}[{index}]"), wanted, present, paths);
                }
            }
            _ => paths.push(path.to_owned()),
        },
        // The API server may write 1.0 as 1.
        (Value::Number(wanted), Value::Number(present)) if wanted.as_f64() == present.as_f64() => {}
        _ if wanted == present => {}
        _ => paths.push(path.to_owned()),
    }
}

/// The items of a list by their names, where each has one of its own: versions and printer columns.
fn by_name(items: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let named: BTreeMap<&str, &Value> = items
        .iter()
        .filter_map(|item| Some((item.get("name")?.as_str()?, item)))
        .collect();
    (named.len() == items.len() && !items.is_empty()).then_some(named)
}
