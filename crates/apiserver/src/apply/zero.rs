//! An object before its first field is set, against which a creation is compared.

use super::Target;
use crate::schema::{Schema, Type};
use serde_json::{Map, Value};

/// The object that a creation starts from. A custom resource starts from nothing; a built-in kind has its
/// structs (which the schema tells by an empty map as their default) and its required fields from the start.
pub(super) fn object(target: &Target<'_>) -> Value {
    let mut fields = if target.custom {
        Map::new()
    } else {
        structure(target.schema)
    };
    fields.insert("apiVersion".to_owned(), target.api_version.into());
    fields.insert("kind".to_owned(), target.kind.into());
    Value::Object(fields)
}

fn structure(schema: &Schema) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, property) in &schema.properties {
        let is_struct = property
            .default
            .as_ref()
            .is_some_and(|default| default.as_object().is_some_and(Map::is_empty));
        let value = if is_struct {
            Value::Object(structure(property))
        } else if schema.required.contains(name) {
            match property.kind {
                Some(Type::String) if property.format.is_none() => Value::String(String::new()),
                Some(Type::Integer) => 0.into(),
                Some(Type::Boolean) => false.into(),
                _ => Value::Null,
            }
        } else {
            continue;
        };
        fields.insert(name.to_string(), value);
    }
    fields
}
