//! The definitions of built-in kinds, read from the generated table one by one, when they are first looked at: a
//! process that touches five kinds pays for five.

use crate::schema::{Definition, ListType, PatchStrategy, Schema, SchemaRef, Type};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// One line for each definition: name, space, JSON.
const DEFINITIONS: &str = include_str!("tables/definitions.jsonl");
/// What the OpenAPI documents do not say.
const ENCODING: &str = include_str!("tables/encoding.txt");
/// The values of fields that have certain ones only.
const ENUMS: &str = include_str!("tables/enums.txt");
/// What references start with.
const REFERENCE: &str = "#/components/schemas/";

struct Entry {
    text: &'static str,
    definition: Definition,
    /// The definition itself.
    plain: SchemaRef,
    /// The same where an empty object is the default, which holds for most references.
    with_empty: SchemaRef,
}

type Table = HashMap<&'static str, Entry>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: Table = DEFINITIONS
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, text)| (name, entry(name, text)))
            .collect();
        for line in ENCODING.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let Some(entry) = words.next().and_then(|name| table.get_mut(name)) else {
                continue;
            };
            for (what, fields) in words.filter_map(|word| word.split_once('=')) {
                let fields = fields.split(',').collect();
                match what {
                    "keep" => entry.definition.keep = fields,
                    "null" => entry.definition.null = fields,
                    _ => entry.definition.drop = fields,
                }
            }
        }
        table
    })
}

fn entry(name: &'static str, text: &'static str) -> Entry {
    Entry {
        text,
        definition: Definition {
            name,
            ..Definition::default()
        },
        plain: SchemaRef::lazy(move || read(name)),
        with_empty: SchemaRef::lazy(move || Schema {
            default: Some(Value::Object(Map::new())),
            ..(*schema(name)).clone()
        }),
    }
}

/// The names of all definitions, in no order.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    table().keys().copied()
}

/// The structure of a definition as an OpenAPI schema, without prose; null where there is none of this name.
pub(crate) fn document(name: &str) -> Value {
    table()
        .get(name)
        .and_then(|entry| serde_json::from_str(entry.text).ok())
        .unwrap_or_default()
}

/// The JSON text of a definition.
#[cfg(test)]
pub(crate) fn text(name: &str) -> Option<&'static str> {
    table().get(name).map(|entry| entry.text)
}

/// The structure of a definition as it is published, which says the values of fields that have certain ones only.
pub(crate) fn published(name: &str) -> Value {
    let mut schema = document(name);
    let fields = ENUMS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    for (field, values) in fields
        .unwrap_or_default()
        .split(' ')
        .filter_map(|word| word.split_once('='))
    {
        let (field, inner) = match (field.strip_suffix("[]"), field.strip_suffix("{}")) {
            (Some(field), _) => (field, "/items"),
            (_, Some(field)) => (field, "/additionalProperties"),
            _ => (field, ""),
        };
        let place = schema["properties"]
            .get_mut(field)
            .and_then(|node| node.pointer_mut(inner));
        if let Some(place) = place.and_then(Value::as_object_mut) {
            place.insert("enum".to_owned(), values.split(',').collect());
        }
    }
    schema
}

/// The node of a definition; one that accepts anything where there is none of this name.
pub(crate) fn schema(name: &str) -> SchemaRef {
    table()
        .get(name)
        .map_or_else(|| SchemaRef::new(Schema::anything()), |entry| entry.plain.clone())
}

fn read(name: &str) -> Schema {
    let mut schema = parse(&document(name));
    schema.definition = table().get(name).map(|entry| &entry.definition);
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => schema.format = Some("quantity".into()),
        "MicroTime" => schema.format = Some("micro-time".into()),
        "RawExtension" => {
            schema.kind = None;
            schema.atomic_map = true;
            schema.preserve_unknown = true;
        }
        "FieldsV1" => schema.preserve_unknown = true,
        _ => {}
    }
    schema
}

/// A node out of an OpenAPI schema, which may be a reference with properties of its own beside it.
fn node(value: &Value) -> SchemaRef {
    if let Some(name) = reference(value) {
        return schema(name);
    }
    let Some(name) = value["allOf"].get(0).and_then(reference) else {
        return SchemaRef::new(parse(value));
    };
    let mut beside = value.as_object().cloned().unwrap_or_default();
    beside.remove("allOf");
    if beside.is_empty() {
        return schema(name);
    }
    if beside.len() == 1
        && beside.get("default") == Some(&Value::Object(Map::new()))
        && let Some(entry) = table().get(name)
    {
        return entry.with_empty.clone();
    }
    let name = name.to_owned();
    let beside = Value::Object(beside);
    SchemaRef::lazy(move || {
        let mut merged = (*schema(&name)).clone();
        let own = parse(&beside);
        merged.default = own.default.or(merged.default);
        merged.atomic_map |= own.atomic_map;
        if own.patch != PatchStrategy::default() {
            merged.patch = own.patch;
        }
        merged
    })
}

fn reference(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix(REFERENCE)
}

fn texts(value: &Value) -> Vec<Arc<str>> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(Arc::from).collect()
}

fn parse(value: &Value) -> Schema {
    let kind = value["type"].as_str().and_then(Type::from_name);
    let mut strategy = value["x-kubernetes-patch-strategy"]
        .as_str()
        .unwrap_or_default()
        .split(',');
    let mut patch = PatchStrategy {
        merge_key: value["x-kubernetes-patch-merge-key"].as_str().map(Arc::from),
        ..PatchStrategy::default()
    };
    patch.merge = strategy.clone().any(|word| word == "merge");
    patch.retain_keys = strategy.any(|word| word == "retainKeys");
    let properties: BTreeMap<Arc<str>, SchemaRef> = value["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, property)| (Arc::from(name.as_str()), node(property)))
        .collect();
    let format = value["format"].as_str();
    Schema {
        kind,
        int_or_string: format == Some("int-or-string"),
        preserve_unknown: kind.is_none(),
        list: list_type(value, &patch),
        atomic_map: value["x-kubernetes-map-type"] == "atomic",
        patch,
        additional: value.get("additionalProperties").map(node),
        items: value.get("items").map(node),
        default: value.get("default").cloned(),
        required: texts(&value["required"]),
        format: format.map(Arc::from),
        properties,
        ..Schema::default()
    }
}

/// How a list merges: as its list type says or, where it has none, as strategic merge patches treat it.
fn list_type(value: &Value, patch: &PatchStrategy) -> ListType {
    match value["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(texts(&value["x-kubernetes-list-map-keys"])),
        None if patch.merge && value["type"] == "array" => match &patch.merge_key {
            Some(key) => ListType::Map(vec![key.clone()]),
            None => ListType::Set,
        },
        _ => ListType::Atomic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_definition() {
        assert!(names().count() > 500);
        for name in names() {
            assert!(document(name).is_object(), "{name} is not JSON");
            let schema = schema(name);
            assert_eq!(schema.definition.map(|d| d.name), Some(name));
            for node in schema.properties.values() {
                let _ = node.kind;
            }
        }
    }

    #[test]
    fn keeps_what_stands_beside_a_reference() {
        let pod = schema("io.k8s.api.core.v1.Pod");
        let spec = pod.field("spec").expect("pods have a spec");
        assert_eq!(spec.default, Some(Value::Object(Map::new())));
        let containers = spec.field("containers").expect("containers");
        assert_eq!(containers.list, ListType::Map(vec!["name".into()]));
        assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
        let ports = containers
            .items
            .as_ref()
            .expect("items")
            .field("ports")
            .expect("ports");
        let protocol = ports
            .items
            .as_ref()
            .expect("items")
            .field("protocol")
            .expect("protocol");
        assert_eq!(protocol.default, Some(Value::from("TCP")));
        let props = schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        let deep = props
            .field("properties")
            .and_then(|p| p.additional.clone())
            .expect("values");
        assert!(deep.field("x-kubernetes-list-type").is_some());
    }

    #[test]
    fn publishes_the_values_of_fields() {
        let port = published("io.k8s.api.core.v1.ContainerPort");
        assert_eq!(
            port["properties"]["protocol"]["enum"],
            serde_json::json!(["SCTP", "TCP", "UDP"])
        );
        let claim = published("io.k8s.api.core.v1.PersistentVolumeClaimSpec");
        assert!(claim["properties"]["accessModes"]["items"]["enum"].is_array());
        assert!(published("io.k8s.api.core.v1.Nothing").is_null());
    }

    #[test]
    fn knows_what_go_types_say() {
        let definition = schema("io.k8s.api.apps.v1.DeploymentSpec")
            .definition
            .expect("definition");
        assert!(definition.keep.contains(&"replicas"));
        assert_eq!(definition.null, ["selector"]);
        assert_eq!(definition.type_name(), "DeploymentSpec");
    }
}
