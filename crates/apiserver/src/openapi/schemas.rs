//! The schemas of a document: all that its paths refer to.

use super::Document;
use crate::builtin::definitions;
use crate::crd::openapi as custom;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

pub(super) const REFERENCE: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The schemas that `paths` lead to, with descriptions where the published documents are at hand.
pub(super) fn of(
    document: &Document<'_>,
    paths: &Value,
    name: &str,
    documents: Option<&Path>,
) -> Map<String, Value> {
    let mut found = Map::new();
    for resource in document
        .resources
        .iter()
        .filter(|resource| resource.custom.is_some())
    {
        found.extend(custom::components(resource));
    }
    let mut waiting = Vec::new();
    references(paths, &mut waiting);
    for schema in found.values() {
        references(schema, &mut waiting);
    }
    while let Some(name) = waiting.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let schema = with_kinds(&name, document, definitions::published(&name));
        if schema.is_null() {
            continue;
        }
        references(&schema, &mut waiting);
        found.insert(name, schema);
    }
    let file = if document.is_custom() { "api/v1" } else { name };
    if let Some(described) = documents.and_then(|folder| described(folder, file)) {
        for (name, schema) in &mut found {
            if let Some(published) = described.get(name) {
                describe(schema, published);
            }
        }
    }
    found
}

/// The names that a value refers to.
fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(REFERENCE))
            {
                into.push(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, into));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, into)),
        _ => {}
    }
}

/// Two definitions are kinds of every group; they are told for the document's own.
fn with_kinds(name: &str, document: &Document<'_>, mut schema: Value) -> Value {
    let Some(kind @ ("DeleteOptions" | "WatchEvent")) =
        name.strip_prefix(META).and_then(|n| n.strip_prefix('.'))
    else {
        return schema;
    };
    let mut kinds = vec![json!({"group": "", "kind": kind, "version": "v1"})];
    if let Some(group) = document.group.filter(|group| !group.is_empty()) {
        kinds.push(json!({"group": group, "kind": kind, "version": document.version}));
    }
    if let Some(map) = schema.as_object_mut() {
        map.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
    }
    schema
}

/// The schemas of a published document.
fn described(folder: &Path, name: &str) -> Option<Map<String, Value>> {
    let file = format!("{}_openapi.json", name.replace('/', "__"));
    let text = fs::read(folder.join(file)).ok()?;
    let mut document: Value = serde_json::from_slice(&text).ok()?;
    match document["components"]["schemas"].take() {
        Value::Object(schemas) => Some(schemas),
        _ => None,
    }
}

/// Puts descriptions back, where they stand in a schema of the same structure.
fn describe(schema: &mut Value, published: &Value) {
    match (schema, published) {
        (Value::Object(map), Value::Object(published)) => {
            for (key, value) in map.iter_mut() {
                if let Some(published) = published.get(key) {
                    describe(value, published);
                }
            }
            if let Some(text @ Value::String(_)) = published.get("description") {
                map.entry("description").or_insert_with(|| text.clone());
            }
        }
        (Value::Array(items), Value::Array(published)) => {
            for (item, published) in items.iter_mut().zip(published) {
                describe(item, published);
            }
        }
        _ => {}
    }
}
