//! OpenAPI v2, as far as kubectl reads it: the definitions. It asks for them to validate what the server cannot
//! validate for it, such as a `List`, and takes them as protobuf only.

use super::{Document, schemas};
use crate::request::protobuf::message;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What a client asks for that wants protobuf.
const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What it gets; media types have no `@`.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The document of all groups and versions.
pub(super) fn answer(
    all: &BTreeMap<String, Document<'_>>,
    accept: &str,
    documents: Option<&Path>,
) -> Option<Response<Bytes>> {
    let mut definitions = Map::new();
    for (name, document) in all {
        let paths = document.paths(name);
        for (name, mut schema) in schemas::of(document, &paths, name, documents) {
            older(&mut schema);
            definitions.entry(name).or_insert(schema);
        }
    }
    let info = json!({"title": "Kubernetes", "version": "unversioned"});
    let (kind, body) = if accept.contains(ASKED) {
        (PROTOBUF, encoded(&info, &definitions))
    } else {
        let document = json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": definitions});
        ("application/json", document.to_string().into_bytes())
    };
    Response::builder()
        .status(StatusCode::OK)
        .header(CONTENT_TYPE, kind)
        .header(ETAG, format!("\"{}\"", super::hash_of(&body)))
        .body(Bytes::from(body))
        .ok()
}

/// Brings a schema of version 3 into the words of version 2, which has no choices and no null.
fn older(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::String(name)) = map.get_mut("$ref") {
        *name = name.replace(schemas::REFERENCE, "#/definitions/");
    }
    // A reference that has neighbours stands alone in `allOf`.
    if let Some(Value::Array(all)) = map.remove("allOf")
        && let [Value::Object(only)] = all.as_slice()
    {
        map.extend(only.clone());
        return older(schema);
    }
    let choices = map.remove("oneOf");
    if choices.is_some() && !map.contains_key("type") {
        map.insert("type".to_owned(), json!("string"));
    }
    map.remove("anyOf");
    map.remove("not");
    if map.remove("nullable") == Some(json!(true)) {
        for key in ["type", "items", "properties"] {
            map.remove(key);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            older(inner);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(older);
    }
}

/// The document in protobuf, in gnostic's messages.
fn encoded(info: &Value, definitions: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    message::text(&mut out, 1, "2.0");
    let mut inner = Vec::new();
    message::text(&mut inner, 1, info["title"].as_str().unwrap_or_default());
    message::text(&mut inner, 2, info["version"].as_str().unwrap_or_default());
    message::bytes(&mut out, 2, &inner);
    message::bytes(&mut out, 8, &[]);
    message::bytes(&mut out, 9, &named(definitions, schema));
    out
}

/// A map: a list of pairs of a name and a value.
fn named(map: &Map<String, Value>, encode: fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in map {
        let mut pair = Vec::new();
        message::text(&mut pair, 1, name);
        message::bytes(&mut pair, 2, &encode(value));
        message::bytes(&mut out, 1, &pair);
    }
    out
}

/// A value that may be anything is YAML, which JSON is too.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message::text(&mut out, 2, &value.to_string());
    out
}

fn schema(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |key: &str| value[key].as_str();
    for (number, key) in [(1, "$ref"), (2, "format"), (4, "description")] {
        if let Some(text) = text(key) {
            message::text(&mut out, number, text);
        }
    }
    if let Some(default) = value.get("default") {
        message::bytes(&mut out, 5, &any(default));
    }
    for name in value["required"].as_array().into_iter().flatten() {
        message::text(&mut out, 19, name.as_str().unwrap_or_default());
    }
    let wrapped = |number: u32, bytes: &[u8]| {
        let mut inner = Vec::new();
        message::bytes(&mut inner, number, bytes);
        inner
    };
    match value.get("additionalProperties") {
        Some(Value::Bool(any)) => message::bytes(&mut out, 21, &[2 << 3, u8::from(*any)]),
        Some(of) => message::bytes(&mut out, 21, &wrapped(1, &schema(of))),
        None => {}
    }
    if let Some(kind) = text("type") {
        message::bytes(&mut out, 22, &wrapped(1, kind.as_bytes()));
    }
    if let Some(of) = value.get("items") {
        message::bytes(&mut out, 23, &wrapped(1, &schema(of)));
    }
    if let Some(properties) = value["properties"].as_object() {
        message::bytes(&mut out, 25, &named(properties, schema));
    }
    let extensions = value.as_object().into_iter().flatten();
    for (name, value) in extensions.filter(|(name, _)| name.starts_with("x-")) {
        let mut pair = Vec::new();
        message::text(&mut pair, 1, name);
        message::bytes(&mut pair, 2, &any(value));
        message::bytes(&mut out, 31, &pair);
    }
    out
}
