//! What makes a schema structural: types are said once, outside of `allOf`, `anyOf`, `oneOf` and `not`, for all that
//! these speak of.

use super::{flag, list, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::schema::Pattern;
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Finds what is not structural, sorted by text.
pub(super) fn validate(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut found = FieldErrors::new();
    invariants(schema, Level::Root, path, &mut found);
    complete(schema, path, &mut found);
    found.sort_by_cached_key(ToString::to_string);
    errors.append(&mut found);
}

fn is_schema(value: &Value) -> bool {
    value.is_object()
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut FieldErrors) {
    let kind = text(schema, "type");
    let items = &schema["items"];
    if kind == "array" && !is_schema(items) {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if is_schema(items) {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        invariants(
            property,
            Level::Field,
            &path.child("properties").key(name),
            errors,
        );
    }
    let additional_path = path.child("additionalProperties");
    if let Some(additional) = schema.get("additionalProperties").filter(|v| !v.is_null()) {
        if level == Level::Root {
            errors.push(FieldError::forbidden(
                &additional_path,
                "must not be used at the root",
            ));
        }
        if is_schema(additional) {
            invariants(additional, Level::Field, &additional_path, errors);
        }
        if flag(schema, "x-kubernetes-embedded-resource") {
            errors.push(FieldError::forbidden(
                &additional_path,
                "must not be used if x-kubernetes-embedded-resource is set",
            ));
        }
    }
    extensions(schema, path, errors);
    let first_all_of = &schema["allOf"][0];
    let (skip_any, skip_first) = (is_int_or_string(schema), is_int_or_string(first_all_of));
    combined(schema, skip_any, skip_first, path, errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
    if flag(schema, "x-kubernetes-embedded-resource")
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
        && schema["properties"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
    {
        errors.push(FieldError::required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, which int-or-string values may have.
fn is_int_or_string(schema: &Value) -> bool {
    schema["anyOf"] == json!([{"type": "integer"}, {"type": "string"}])
}

fn extensions(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if flag(schema, key) {
            errors.push(FieldError::invalid(
                &path.child(key),
                &json!(true),
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }
}

fn types(schema: &Value, level: Level, path: &Path, errors: &mut FieldErrors) {
    let kind = text(schema, "type");
    let path = path.child("type");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required(&path, detail)
        } else {
            FieldError::invalid(&path, &json!(kind), detail)
        });
    } else if kind.is_empty()
        && !flag(schema, "x-kubernetes-int-or-string")
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
    {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&path, detail));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(
            &path,
            &json!(kind),
            "must be object at the root",
        ));
    }
}

fn metadata(schema: &Value, level: Level, path: &Path, errors: &mut FieldErrors) {
    let whole = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    let properties = &schema["properties"];
    let path = path.child("properties");
    for name in ["kind", "apiVersion"] {
        if let Some(property) = properties.get(name).filter(|_| whole)
            && text(property, "type") != "string"
        {
            errors.push(FieldError::invalid(
                &path.key(name).child("type"),
                &json!(text(property, "type")),
                "must be string",
            ));
        }
    }
    let Some(metadata) = properties.get("metadata") else {
        return;
    };
    let path = path.key("metadata");
    if whole && text(metadata, "type") != "object" {
        errors.push(FieldError::invalid(
            &path.child("type"),
            &json!(text(metadata, "type")),
            "must be object",
        ));
    }
    if level == Level::Root {
        let only_names = metadata["properties"]
            .as_object()
            .is_none_or(|names| names.keys().all(|name| name == "name" || name == "generateName"));
        let others = metadata.as_object().is_some_and(|map| {
            map.keys()
                .any(|key| !["type", "properties", "default"].contains(&key.as_str()))
        });
        if !only_names || others {
            errors.push(FieldError::forbidden(
                &path,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
}

/// `allOf`, `anyOf`, `oneOf`, `not` and the pattern of a schema.
fn combined(schema: &Value, skip_any: bool, skip_first: bool, path: &Path, errors: &mut FieldErrors) {
    if !skip_any {
        for (index, below) in list(&schema["anyOf"]).iter().enumerate() {
            nested(below, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, below) in list(&schema["allOf"]).iter().enumerate() {
        let skip = skip_first && index == 0;
        nested(below, skip, &path.child("allOf").index(index), errors);
    }
    for (index, below) in list(&schema["oneOf"]).iter().enumerate() {
        nested(below, false, &path.child("oneOf").index(index), errors);
    }
    if is_schema(&schema["not"]) {
        nested(&schema["not"], false, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Some(why) = Pattern::new(pattern).error()
    {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(
            &path.child("pattern"),
            &json!(pattern),
            detail,
        ));
    }
}

/// What stands within `allOf` and the like, where nothing structural may be said.
fn nested(schema: &Value, skip_any: bool, path: &Path, errors: &mut FieldErrors) {
    combined(schema, skip_any, false, path, errors);
    if is_schema(&schema["items"]) {
        nested(&schema["items"], false, &path.child("items"), errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    for (key, detail) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let said = match schema.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        };
        if said {
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    }
    if schema["properties"].get("metadata").is_some() {
        errors.push(FieldError::forbidden(
            &path.child("properties").key("metadata"),
            "must not be specified in a nested context",
        ));
    }
}

/// All that the root's value rules speak of must be there in the structure. (Those of fields are not looked at.)
fn complete(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    covered(schema, Some(schema), path, path, errors);
}

fn covered(rules: &Value, schema: Option<&Value>, at: &Path, said: &Path, errors: &mut FieldErrors) {
    if is_schema(&rules["not"]) {
        nested_covered(&rules["not"], schema, at, &said.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, below) in list(&rules[key]).iter().enumerate() {
            nested_covered(below, schema, at, &said.child(key).index(index), errors);
        }
    }
}

fn nested_covered(rules: &Value, schema: Option<&Value>, at: &Path, said: &Path, errors: &mut FieldErrors) {
    let Some(schema) = schema else {
        errors.push(FieldError::required(
            at,
            format!("because it is defined in {said}"),
        ));
        return;
    };
    covered(rules, Some(schema), at, said, errors);
    if is_schema(&rules["items"]) {
        let items = Some(&schema["items"]).filter(|items| is_schema(items));
        nested_covered(
            &rules["items"],
            items,
            &at.child("items"),
            &said.child("items"),
            errors,
        );
    }
    for (name, below) in rules["properties"].as_object().into_iter().flatten() {
        let at = at.child("properties").key(name);
        let said = said.child("properties").key(name);
        nested_covered(below, schema["properties"].get(name), &at, &said, errors);
    }
}
