//! Schemas of types that come from Kubernetes itself, and what makes a derived schema read like one that a
//! person wrote: no `nullable` (an absent field says the same), no formats that Kubernetes does not know.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// `resource.Quantity`. (controller-gen adds an `anyOf` that `x-kubernetes-int-or-string` implies.)
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    quantity_value()
        .try_into()
        .unwrap_or_else(|_| json_schema!({"x-kubernetes-int-or-string": true}))
}

fn quantity_value() -> Value {
    json!({
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        "x-kubernetes-int-or-string": true,
    })
}

/// `core/v1.ResourceRequirements`.
pub(crate) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = json!({"type": "object", "additionalProperties": quantity_value()});
    json_schema!({
        "type": "object",
        "properties": {
            "claims": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "request": {"type": "string"}},
                    "required": ["name"],
                },
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
            "limits": quantities,
            "requests": quantities,
        },
    })
}

fn volume_items() -> Value {
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "key": {"type": "string"},
                "mode": {"type": "integer", "format": "int32"},
                "path": {"type": "string"},
            },
            "required": ["key", "path"],
        },
        "x-kubernetes-list-type": "atomic",
    })
}

/// `core/v1.ConfigMapVolumeSource`.
pub(crate) fn config_map_volume(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "defaultMode": {"type": "integer", "format": "int32"},
            "items": volume_items(),
            "name": {"type": "string", "default": ""},
            "optional": {"type": "boolean"},
        },
    })
}

/// `core/v1.SecretVolumeSource`.
pub(crate) fn secret_volume(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "defaultMode": {"type": "integer", "format": "int32"},
            "items": volume_items(),
            "optional": {"type": "boolean"},
            "secretName": {"type": "string"},
        },
    })
}

/// A list of `metav1.Condition`.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The latest observations, one per type.",
        "type": "array",
        "items": {
            "type": "object",
            "description": "One aspect of the object's present state.",
            "properties": {
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
                "message": {"type": "string", "maxLength": 32768, "description": "Details for people."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The generation that the condition was made from."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "description": "The reason of the status, one word of a closed list."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown."},
                "type": {"type": "string", "maxLength": 316, "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$", "description": "What is observed."},
            },
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        },
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// `metav1.Time`.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// `metav1.Duration`: a Go duration such as `48h` or `1h30m`.
pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 64,
        "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$",
    })
}

/// An object whose fields are somebody else's API: kept whole.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// The metadata of a template: labels and annotations only, as Cluster API has it.
pub(crate) fn template_metadata(_: &mut SchemaGenerator) -> Schema {
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json_schema!({
        "type": "object",
        "description": "Labels and annotations for the objects made from the template.",
        "properties": {"annotations": map, "labels": map},
    })
}

/// Takes out of a derived schema what only restates Rust's `Option`.
pub(crate) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Writes numbers such as 1.0, which come from schemas' limits being floating point, as 1.
pub(crate) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            if let Some(whole) = text
                .strip_suffix(".0")
                .and_then(|whole| whole.parse::<i64>().ok())
            {
                *value = whole.into();
            }
        }
        _ => {}
    }
}
