//! From the OpenAPI v3 schema of a CRD to nodes.

use super::{Checks, Format, ListType, Pattern, Schema, SchemaRef, Type, cel, meta};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a schema could not be read. The messages are those of the real server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A keyword of JSON Schema that structural schemas do not have.
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Unsupported(&'static str),
    /// A list of schemas where one belongs.
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    ItemsArray,
    /// `x-kubernetes-preserve-unknown-fields: false`.
    #[error("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")]
    PreserveFalse,
}

const UNSUPPORTED: [&str; 7] = [
    "id",
    "schema",
    "$ref",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
];

impl Schema {
    /// Reads a structural schema, as in `spec.versions[].schema.openAPIV3Schema` of a CRD.
    ///
    /// # Errors
    /// Keywords that structural schemas do not have.
    pub fn from_openapi(schema: &Value) -> Result<Self, SchemaError> {
        let Some(map) = schema.as_object() else {
            return Ok(Self::default());
        };
        for keyword in UNSUPPORTED {
            let key = if keyword == "schema" { "$schema" } else { keyword };
            if map.get(key).is_some_and(|v| !is_empty(v)) {
                return Err(SchemaError::Unsupported(keyword));
            }
        }
        let mut node = Self {
            kind: text(map, "type").and_then(Type::from_name),
            nullable: flag(map, "nullable"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            embedded: flag(map, "x-kubernetes-embedded-resource"),
            atomic_map: text(map, "x-kubernetes-map-type") == Some("atomic"),
            default: map.get("default").filter(|v| !v.is_null()).cloned(),
            required: texts(map, "required"),
            format: text(map, "format").map(Arc::from),
            list: match text(map, "x-kubernetes-list-type") {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(texts(map, "x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            ..Self::default()
        };
        match map.get("x-kubernetes-preserve-unknown-fields") {
            Some(Value::Bool(true)) => node.preserve_unknown = true,
            Some(Value::Bool(false)) => return Err(SchemaError::PreserveFalse),
            _ => {}
        }
        match map.get("items") {
            Some(Value::Array(_)) => return Err(SchemaError::ItemsArray),
            Some(items @ Value::Object(_)) => node.items = Some(reference(items)?),
            _ => {}
        }
        if let Some(properties) = map.get("properties").and_then(Value::as_object) {
            node.properties = fields(properties)?;
        }
        let mut closed = false;
        match map.get("additionalProperties") {
            Some(Value::Bool(allowed)) => {
                closed = !allowed;
                node.additional = Some(SchemaRef::new(Self::default()));
            }
            Some(schema @ Value::Object(_)) => node.additional = Some(reference(schema)?),
            _ => {}
        }
        node.checks = checks(map, &node, closed)?.map(Box::new);
        Ok(node)
    }

    /// The schema of whole objects of a custom resource: as [`Schema::from_openapi`] reads it, with apiVersion, kind
    /// and metadata, which are there always. Without a schema anything goes.
    ///
    /// # Errors
    /// As for [`Schema::from_openapi`].
    pub fn for_custom_resource(schema: Option<&Value>) -> Result<Self, SchemaError> {
        let mut root = match schema {
            Some(schema) => Self::from_openapi(schema)?,
            None => Self::anything(),
        };
        root.embedded = true;
        for name in ["apiVersion", "kind"] {
            root.properties.entry(name.into()).or_insert_with(|| {
                SchemaRef::new(Self {
                    kind: Some(Type::String),
                    ..Self::default()
                })
            });
        }
        let mut metadata: Self = (**meta::object_meta()).clone();
        if let Some(own) = root.properties.get("metadata") {
            metadata.checks.clone_from(&own.checks);
            metadata.required.clone_from(&own.required);
            // A CRD may restrict the name and the prefix of generated names, nothing else.
            for (name, node) in &own.properties {
                metadata.properties.insert(name.clone(), node.clone());
            }
        }
        root.properties
            .insert("metadata".into(), SchemaRef::new(metadata));
        Ok(root)
    }
}

fn reference(schema: &Value) -> Result<SchemaRef, SchemaError> {
    Schema::from_openapi(schema).map(SchemaRef::new)
}

fn references(map: &Map<String, Value>, key: &str) -> Result<Vec<SchemaRef>, SchemaError> {
    let list = map.get(key).and_then(Value::as_array);
    list.into_iter().flatten().map(reference).collect()
}

fn fields(properties: &Map<String, Value>) -> Result<BTreeMap<Arc<str>, SchemaRef>, SchemaError> {
    properties
        .iter()
        .map(|(name, schema)| Ok((Arc::from(name.as_str()), reference(schema)?)))
        .collect()
}

fn checks(map: &Map<String, Value>, node: &Schema, closed: bool) -> Result<Option<Checks>, SchemaError> {
    let mut checks = Checks {
        format: node
            .format
            .as_deref()
            .and_then(|format| Format::of(node.kind, format)),
        minimum: number(map, "minimum"),
        exclusive_minimum: flag(map, "exclusiveMinimum"),
        maximum: number(map, "maximum"),
        exclusive_maximum: flag(map, "exclusiveMaximum"),
        multiple_of: number(map, "multipleOf"),
        min_length: whole(map, "minLength"),
        max_length: whole(map, "maxLength"),
        pattern: text(map, "pattern").filter(|p| !p.is_empty()).map(Pattern::new),
        min_items: whole(map, "minItems"),
        max_items: whole(map, "maxItems"),
        unique_items: flag(map, "uniqueItems"),
        min_properties: whole(map, "minProperties"),
        max_properties: whole(map, "maxProperties"),
        closed,
        one_of_values: map
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        all_of: references(map, "allOf")?,
        any_of: references(map, "anyOf")?,
        one_of: references(map, "oneOf")?,
        not: match map.get("not") {
            Some(not @ Value::Object(_)) => Some(reference(not)?),
            _ => None,
        },
        ..Checks::default()
    };
    let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
    checks.rules = rules
        .into_iter()
        .flatten()
        .map(|rule| Arc::new(cel::Rule::new(rule)))
        .collect();
    checks.untyped = node.kind.is_none() && !node.int_or_string && !node.preserve_unknown;
    let below = || {
        node.properties
            .values()
            .chain(&node.additional)
            .chain(&node.items)
            .chain(&checks.all_of)
            .any(|below| below.has_rules())
    };
    checks.has_rules = !checks.rules.is_empty() || below();
    let wanted = checks.has_rules
        || checks.format.is_some()
        || closed
        || checks.unique_items
        || checks.pattern.is_some()
        || checks.not.is_some()
        || !checks.one_of_values.is_empty()
        || ![&checks.all_of, &checks.any_of, &checks.one_of]
            .iter()
            .all(|list| list.is_empty())
        || [checks.minimum, checks.maximum, checks.multiple_of]
            .iter()
            .any(Option::is_some)
        || [
            checks.min_length,
            checks.max_length,
            checks.min_items,
            checks.max_items,
            checks.min_properties,
            checks.max_properties,
        ]
        .iter()
        .any(Option::is_some);
    Ok(wanted.then_some(checks))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<Arc<str>> {
    let list = map.get(key).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Arc::from)
        .collect()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn number(map: &Map<String, Value>, key: &str) -> Option<f64> {
    map.get(key).and_then(Value::as_f64)
}

fn whole(map: &Map<String, Value>, key: &str) -> Option<i64> {
    map.get(key).and_then(Value::as_i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refuses_what_structural_schemas_do_not_have() {
        for (schema, error) in [
            (json!({"$ref": "#/x"}), "OpenAPIV3Schema '$ref' is not supported"),
            (
                json!({"type": "array", "items": [{"type": "string"}]}),
                "OpenAPIV3Schema 'items' must be a schema, but is an array",
            ),
            (
                json!({"properties": {"a": {"x-kubernetes-preserve-unknown-fields": false}}}),
                "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined",
            ),
        ] {
            assert_eq!(Schema::from_openapi(&schema).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn reads_structure_and_rules() {
        let schema = Schema::for_custom_resource(Some(&json!({"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
            "spec": {"type": "object", "required": ["a"], "properties": {
                "a": {"type": "integer", "format": "int32", "minimum": 1},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}}})))
        .unwrap();
        let meta = &schema.properties["metadata"];
        assert_eq!(
            meta.properties["name"].checks.as_ref().unwrap().max_length,
            Some(5)
        );
        assert!(meta.properties.contains_key("labels"));
        let spec = &schema.properties["spec"];
        assert_eq!(
            spec.properties["a"].checks.as_ref().unwrap().format,
            Some(Format::Int32)
        );
        assert_eq!(spec.properties["list"].list, ListType::Map(vec!["k".into()]));
    }
}
