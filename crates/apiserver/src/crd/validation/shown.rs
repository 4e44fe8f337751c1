//! Values in the form of the real server's internal types, as some of its messages show them.

use crate::schema::gotext;
use serde_json::Value;
use std::fmt::Write as _;

/// How a field of the internal schema type is written when it is missing.
enum Zero {
    Null,
    Text,
    False,
}

/// The fields of the internal schema type in their order: internal name, name in a CRD, zero value.
const FIELDS: [(&str, &str, Zero); 43] = [
    ("ID", "id", Zero::Text),
    ("Schema", "$schema", Zero::Text),
    ("Ref", "$ref", Zero::Null),
    ("Description", "description", Zero::Text),
    ("Type", "type", Zero::Text),
    ("Nullable", "nullable", Zero::False),
    ("Format", "format", Zero::Text),
    ("Title", "title", Zero::Text),
    ("Default", "default", Zero::Null),
    ("Maximum", "maximum", Zero::Null),
    ("ExclusiveMaximum", "exclusiveMaximum", Zero::False),
    ("Minimum", "minimum", Zero::Null),
    ("ExclusiveMinimum", "exclusiveMinimum", Zero::False),
    ("MaxLength", "maxLength", Zero::Null),
    ("MinLength", "minLength", Zero::Null),
    ("Pattern", "pattern", Zero::Text),
    ("MaxItems", "maxItems", Zero::Null),
    ("MinItems", "minItems", Zero::Null),
    ("UniqueItems", "uniqueItems", Zero::False),
    ("MultipleOf", "multipleOf", Zero::Null),
    ("Enum", "enum", Zero::Null),
    ("MaxProperties", "maxProperties", Zero::Null),
    ("MinProperties", "minProperties", Zero::Null),
    ("Required", "required", Zero::Null),
    ("Items", "items", Zero::Null),
    ("AllOf", "allOf", Zero::Null),
    ("OneOf", "oneOf", Zero::Null),
    ("AnyOf", "anyOf", Zero::Null),
    ("Not", "not", Zero::Null),
    ("Properties", "properties", Zero::Null),
    ("AdditionalProperties", "additionalProperties", Zero::Null),
    ("PatternProperties", "patternProperties", Zero::Null),
    ("Dependencies", "dependencies", Zero::Null),
    ("AdditionalItems", "additionalItems", Zero::Null),
    ("Definitions", "definitions", Zero::Null),
    ("ExternalDocs", "externalDocs", Zero::Null),
    ("Example", "example", Zero::Null),
    (
        "XPreserveUnknownFields",
        "x-kubernetes-preserve-unknown-fields",
        Zero::Null,
    ),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Zero::False),
    ("XIntOrString", "x-kubernetes-int-or-string", Zero::False),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Zero::Null),
    ("XListType", "x-kubernetes-list-type", Zero::Null),
    ("XMapType", "x-kubernetes-map-type", Zero::Null),
];

/// A whole schema.
pub(super) fn schema(value: &Value) -> String {
    let mut out = String::from("{");
    for (name, key, zero) in &FIELDS {
        let _ = write!(out, "{}:", gotext::quote(name));
        match (value.get(*key), zero) {
            (Some(value), _) => out.push_str(&part(key, value)),
            (None, Zero::Null) => out.push_str("null"),
            (None, Zero::Text) => out.push_str("\"\""),
            (None, Zero::False) => out.push_str("false"),
        }
        out.push(',');
    }
    let rules = value.get("x-kubernetes-validations").and_then(Value::as_array);
    let rules = rules.map_or_else(|| "null".to_owned(), |rules| joined(rules.iter().map(rule)));
    let _ = write!(out, "\"XValidations\":{rules}}}");
    out
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.collect::<Vec<_>>().join(","))
}

fn part(key: &str, value: &Value) -> String {
    match (key, value) {
        ("items", value) => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(value)),
        ("not", value) => schema(value),
        ("allOf" | "oneOf" | "anyOf", Value::Array(list)) => joined(list.iter().map(schema)),
        ("properties", Value::Object(map)) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(name, value)| {
                    format!("{}:{}", gotext::json(&Value::from(name.as_str())), schema(value))
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        ("additionalProperties" | "additionalItems", Value::Bool(allows)) => {
            format!("{{\"Allows\":{allows},\"Schema\":null}}")
        }
        ("additionalProperties" | "additionalItems", value) => {
            format!("{{\"Allows\":true,\"Schema\":{}}}", schema(value))
        }
        (_, value) => gotext::json(value),
    }
}

/// A rule.
pub(super) fn rule(rule: &Value) -> String {
    let text = |key: &str| {
        gotext::json(&Value::from(
            rule.get(key).and_then(Value::as_str).unwrap_or_default(),
        ))
    };
    let pointer = |key: &str| gotext::json(rule.get(key).unwrap_or(&Value::Null));
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        pointer("reason"),
        text("fieldPath"),
        pointer("optionalOldSelf"),
    )
}

/// The list of versions; what they have in common is not shown.
pub(super) fn versions(versions: &[Value], common: &super::spec::Common<'_>) -> String {
    joined(versions.iter().map(|version| {
        let flag = |key: &str| version.get(key).and_then(Value::as_bool).unwrap_or(false);
        let own = |key: &str, hoisted: bool| match version.get(key) {
            Some(value) if !hoisted => gotext::json(value),
            _ => "null".to_owned(),
        };
        let schema_text = match version["schema"].get("openAPIV3Schema") {
            Some(value) if !common.schema => format!("{{\"OpenAPIV3Schema\":{}}}", schema(value)),
            _ => "null".to_owned(),
        };
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\
             \"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            gotext::json(&version["name"]),
            flag("served"),
            flag("storage"),
            flag("deprecated"),
            own("deprecationWarning", false),
            schema_text,
            own("subresources", common.subresources),
            own("additionalPrinterColumns", common.columns),
            own("selectableFields", common.selectable),
        )
    }))
}
