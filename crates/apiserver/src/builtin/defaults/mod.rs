//! Defaults of built-in kinds. As in the real server they belong to types, not to kinds: a container gets the same
//! ones in a Pod and in a Deployment's template, so that one walk along the schema serves every kind.

mod core;
mod pods;
mod workloads;

pub(super) use pods::quality_of_service;

use super::codec;
use crate::schema::{Schema, Type};
use serde_json::{Map, Value, json};

/// The fields of an object.
type Fields = Map<String, Value>;

/// Fills in what is missing, then writes the object as its Go type would.
pub(super) fn apply(schema: &Schema, object: &mut Value) {
    walk(schema, object);
    codec::encode(schema, object);
}

fn walk(schema: &Schema, value: &mut Value) {
    match value {
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for item in items {
                    walk(of, item);
                }
            }
        }
        Value::Object(map) => {
            if let Some(values) = &schema.additional {
                map.values_mut().for_each(|item| walk(values, item));
                return;
            }
            let name = schema.definition.map_or("", |definition| definition.name);
            of_type(name, map);
            fields(schema, map);
            after(name, map);
        }
        _ => {}
    }
}

/// The defaults that the schema says, then those below.
fn fields(schema: &Schema, map: &mut Fields) {
    for (name, field) in &schema.properties {
        if let Some(default) = &field.default
            && is_said(default)
            && is_empty(map.get(&**name))
        {
            map.insert(name.to_string(), default.clone());
        }
        let is_struct =
            field.kind == Some(Type::Object) && field.default.as_ref().is_some_and(Value::is_object);
        if is_struct && map.get(&**name).is_none_or(Value::is_null) {
            map.insert(name.to_string(), json!({}));
        }
        if let Some(value) = map.get_mut(&**name) {
            walk(field, value);
        }
    }
}

/// Whether a default in a schema is a value, and not just what a Go type starts with.
fn is_said(default: &Value) -> bool {
    match default {
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(flag) => *flag,
        _ => false,
    }
}

/// Whether a field has the value that a Go type starts with.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

/// Sets a field that is missing or an empty text.
fn set(map: &mut Fields, name: &str, value: impl Into<Value>) {
    if is_empty(map.get(name)) {
        map.insert(name.to_owned(), value.into());
    }
}

/// Sets a number that is missing or zero.
fn set_number(map: &mut Fields, name: &str, value: i64) {
    if map.get(name).and_then(Value::as_i64).unwrap_or_default() == 0 {
        map.insert(name.to_owned(), value.into());
    }
}

/// The object in this field, made where it is missing.
fn object<'a>(map: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    let value = map.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

fn text<'a>(map: &'a Fields, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What a type sets before those below it.
fn of_type(name: &str, map: &mut Fields) {
    let Some((package, name)) = name.rsplit_once('.') else {
        return;
    };
    match package {
        "io.k8s.api.core.v1" => {
            pods::of_type(name, map);
            core::of_type(name, map);
        }
        "io.k8s.api.apps.v1" | "io.k8s.api.batch.v1" => workloads::of_type(name, map),
        "io.k8s.api.policy.v1" | "io.k8s.api.coordination.v1" => {}
        _ => core::of_other(name, map),
    }
}

/// What a type sets after those below it.
fn after(name: &str, map: &mut Fields) {
    if name == "io.k8s.api.core.v1.Pod" {
        pods::of_pod(map);
    }
}

#[cfg(test)]
mod tests;
