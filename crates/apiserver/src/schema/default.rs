//! Defaults: what a missing value becomes, and what happens to nulls.

use super::Schema;
use serde_json::Value;

/// Drops nulls that the schema does not allow and that have no default; those with a default are left for
/// [`apply_defaults`].
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, field| match schema.field(name) {
            Some(below) if field.is_null() => below.nullable || below.default.is_some(),
            Some(below) => {
                drop_nulls(below, field);
                true
            }
            None => true,
        }),
        Value::Array(items) => {
            if let Some(below) = &schema.items {
                for item in items {
                    drop_nulls(below, item);
                }
            }
        }
        _ => {}
    }
}

/// Fills in defaults, from the outside in, so that what a default brings is completed as well. A null that is not
/// allowed counts as missing.
pub fn apply_defaults(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, below) in &schema.properties {
                let Some(default) = &below.default else { continue };
                match map.get_mut(&**name) {
                    Some(Value::Null) if below.nullable => {}
                    Some(field @ Value::Null) => field.clone_from(default),
                    Some(_) => {}
                    None => {
                        map.insert(name.to_string(), default.clone());
                    }
                }
            }
            for (name, field) in map.iter_mut() {
                let Some(below) = schema.field(name) else { continue };
                if !schema.properties.contains_key(&**name) {
                    fill_null(below, field);
                }
                apply_defaults(below, field);
            }
        }
        Value::Array(items) => {
            if let Some(below) = &schema.items {
                for item in items {
                    fill_null(below, item);
                    apply_defaults(below, item);
                }
            }
        }
        _ => {}
    }
}

fn fill_null(schema: &Schema, value: &mut Value) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.clone().unwrap_or(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fills_in_from_the_outside_and_treats_nulls_as_the_real_server() {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}},
            "null": {"type": "string", "nullable": true, "default": "x"},
            "null2": {"type": "string", "default": "y"},
            "null3": {"type": "string"},
            "map": {"type": "object", "additionalProperties": {"type": "string", "default": "z"}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}}}
        }}))
        .unwrap();
        let mut value =
            json!({"null": null, "null2": null, "null3": null, "map": {"k": null}, "list": [{}, {"n": 2}]});
        drop_nulls(&schema, &mut value);
        apply_defaults(&schema, &mut value);
        assert_eq!(
            value,
            json!({"a": {"b": 3}, "null": null, "null2": "y", "map": {"k": "z"}, "list": [{"n": 1}, {"n": 2}]})
        );
    }
}
