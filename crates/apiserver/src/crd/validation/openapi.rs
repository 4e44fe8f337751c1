//! The schemas of a CRD: what no structural schema may have, the rules for lists and maps, the CEL rules.

use super::{fieldpath, flag, list, shown, structural, text};
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::schema::{Schema, SchemaRef, cel};
use serde_json::{Map, Value, json};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];
/// What may stand at the root of a schema beside a status subresource: the real server's name and ours.
const AT_ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// Judges `schema.openAPIV3Schema` of a version.
pub(super) fn validate(validation: &Value, status: bool, path: &Path, errors: &mut FieldErrors) {
    let Some(schema) = validation.get("openAPIV3Schema").and_then(Value::as_object) else {
        return;
    };
    let whole = &validation["openAPIV3Schema"];
    let path = path.child("openAPIV3Schema");
    let mut found = FieldErrors::new();
    if status {
        root(whole, schema, &path, &mut found);
    }
    if flag(whole, "nullable") {
        found.push(FieldError::forbidden(
            &path.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let mut unreadable = None;
    let mut rules_count = false;
    let parsed = Schema::from_openapi(whole).map(SchemaRef::new);
    match &parsed {
        Err(error) => unreadable = Some(FieldError::invalid(&path, &json!(""), error.to_string())),
        Ok(parsed) => {
            let before = found.len();
            structural::validate(whole, &path, &mut found);
            if found.len() == before {
                super::defaults::validate(parsed, &path, &mut found);
                rules_count = found.len() == before;
            }
        }
    }
    let mut walker = Walker {
        schema_errors: FieldErrors::new(),
        rule_errors: FieldErrors::new(),
    };
    let place = Place {
        typed: parsed.as_ref().ok().filter(|_| rules_count).map(|node| &**node),
        root: true,
        ..Place::default()
    };
    walker.node(whole, &path, &place);
    found.append(&mut walker.schema_errors);
    found.append(&mut walker.rule_errors);
    if found.is_empty() {
        found.extend(unreadable);
    }
    errors.append(&mut found);
}

/// Whether a schema has a default anywhere.
pub(super) fn has_default(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("default") && map.get("type").is_none_or(Value::is_string)
                || map
                    .iter()
                    .filter(|(key, _)| *key != "default" && *key != "enum" && *key != "example")
                    .any(|(_, value)| has_default(value))
        }
        Value::Array(items) => items.iter().any(has_default),
        _ => false,
    }
}

fn root(whole: &Value, schema: &Map<String, Value>, path: &Path, errors: &mut FieldErrors) {
    if !text(whole, "type").is_empty() && text(whole, "type") != "object" {
        errors.push(FieldError::invalid(
            &path.child("type"),
            &whole["type"],
            r#"only "object" is allowed as the type at the root of the schema if the status subresource is enabled"#,
        ));
    }
    let stranger = |(key, value): (&String, &Value)| {
        !AT_ROOT.iter().any(|(_, known)| known == key)
            && !matches!(value, Value::Null | Value::Bool(false))
            && *key != "nullable"
            || key == "nullable" && *value == json!(true)
    };
    if schema.iter().any(stranger) {
        let names: Vec<&str> = AT_ROOT.iter().map(|(name, _)| *name).collect();
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(FieldError::invalid(path, &Value::Null, detail).showing(shown::schema(whole)));
    }
}

/// Where in a schema a node stands.
#[derive(Clone, Default)]
struct Place<'a> {
    /// The node as the server reads it, where its rules can be compiled.
    typed: Option<&'a Schema>,
    root: bool,
    /// Why defaults are forbidden, if they are.
    no_defaults: Option<String>,
    inside_meta: bool,
    /// The list or map below which values have no old ones.
    uncorrelated: Option<Path>,
}

struct Walker {
    schema_errors: FieldErrors,
    rule_errors: FieldErrors,
}

impl Walker {
    fn invalid(&mut self, path: &Path, value: &Value, detail: &str) {
        self.schema_errors.push(FieldError::invalid(path, value, detail));
    }

    fn forbid(&mut self, path: &Path, detail: impl Into<String>) {
        self.schema_errors.push(FieldError::forbidden(path, detail));
    }

    fn require(&mut self, path: &Path, detail: &str) {
        self.schema_errors.push(FieldError::required(path, detail));
    }

    fn node(&mut self, schema: &Value, path: &Path, place: &Place<'_>) {
        if !schema.is_object() {
            return;
        }
        let own_errors = self.schema_errors.len();
        self.standard(schema, path, place);
        if flag(schema, "uniqueItems") {
            self.forbid(
                &path.child("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        self.below(schema, path, place);
        self.extensions(schema, path);
        self.list_map_keys(schema, path);
        self.map_list(schema, path);
        self.rules(schema, path, place, own_errors);
    }

    /// Keywords that no structural schema has.
    fn standard(&mut self, schema: &Value, path: &Path, place: &Place<'_>) {
        let kind = text(schema, "type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.schema_errors.push(FieldError::not_supported(
                &path.child("type"),
                &json!(kind),
                &TYPES,
            ));
        }
        if schema.get("default").is_some_and(|v| !v.is_null())
            && let Some(reason) = &place.no_defaults
        {
            self.forbid(&path.child("default"), format!("must not be set {reason}"));
        }
        for key in [
            "id",
            "additionalItems",
            "patternProperties",
            "definitions",
            "dependencies",
            "$ref",
        ] {
            let there = schema.get(key).is_some_and(|value| match value {
                Value::Object(map) => !map.is_empty(),
                Value::String(text) => key == "$ref" || !text.is_empty(),
                Value::Null => false,
                _ => true,
            });
            if there {
                self.forbid(&path.child(key), format!("{key} is not supported"));
            }
        }
        if kind == "null" {
            self.forbid(
                &path.child("type"),
                "type cannot be set to null, use nullable as an alternative",
            );
        }
        if schema.get("items").is_some_and(Value::is_array) {
            self.forbid(
                &path.child("items"),
                "items must be a schema object and not an array",
            );
        }
        if place.inside_meta && flag(schema, "x-kubernetes-embedded-resource") {
            self.forbid(
                &path.child("x-kubernetes-embedded-resource"),
                "must not be used inside of resource meta",
            );
        }
    }

    fn below(&mut self, schema: &Value, path: &Path, place: &Place<'_>) {
        let plain = Place {
            typed: None,
            root: false,
            ..place.clone()
        };
        if let Some(additional) = schema.get("additionalProperties") {
            let properties = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
            if properties && *additional != json!(true) {
                self.forbid(
                    &path.child("additionalProperties"),
                    "additionalProperties and properties are mutual exclusive",
                );
            }
            let mut below = Place {
                typed: place.typed.and_then(|node| node.additional.as_deref()),
                ..plain.clone()
            };
            if place.inside_meta {
                below.no_defaults =
                    Some("inside additionalProperties applying to object metadata".to_owned());
            }
            self.node(additional, &path.child("additionalProperties"), &below);
        }
        if let Some(properties) = schema["properties"].as_object() {
            let whole = place.root || flag(schema, "x-kubernetes-embedded-resource");
            for (name, property) in properties {
                let mut below = Place {
                    typed: place
                        .typed
                        .and_then(|node| node.properties.get(name.as_str()))
                        .map(|n| &**n),
                    ..plain.clone()
                };
                if whole && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
                    below.inside_meta = true;
                    if place.root {
                        below.no_defaults = Some(format!("in top-level {name}"));
                    }
                }
                self.node(property, &path.child("properties").key(name), &below);
            }
        }
        self.node(&schema["not"], &path.child("not"), &plain);
        for key in ["allOf", "oneOf", "anyOf"] {
            for (index, below) in list(&schema[key]).iter().enumerate() {
                self.node(below, &path.child(key).index(index), &plain);
            }
        }
        let mut below = Place {
            typed: place.typed.and_then(|node| node.items.as_deref()),
            ..plain
        };
        if text(schema, "x-kubernetes-list-type") != "map" {
            below.uncorrelated.get_or_insert_with(|| path.clone());
        }
        self.node(&schema["items"], &path.child("items"), &below);
    }

    fn extensions(&mut self, schema: &Value, path: &Path) {
        let kind = text(schema, "type");
        let preserve = "x-kubernetes-preserve-unknown-fields";
        if schema.get(preserve) == Some(&json!(false)) {
            self.invalid(&path.child(preserve), &json!(false), "must be true or undefined");
        }
        for (key, wanted, known) in [
            ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
            ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
        ] {
            let Some(value) = schema.get(key).and_then(Value::as_str) else {
                continue;
            };
            if kind != wanted {
                let detail = format!("must be {wanted} if {key} is specified");
                let path = path.child("type");
                if kind.is_empty() {
                    self.require(&path, &detail);
                } else {
                    self.invalid(&path, &json!(kind), &detail);
                }
            } else if value == "set" {
                self.atomic_items(&schema["items"], path);
            }
            if !known.contains(&value) {
                let error = FieldError::not_supported(&path.child(key), &json!(value), known);
                self.schema_errors.push(error);
            }
        }
    }

    fn atomic_items(&mut self, items: &Value, path: &Path) {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let list_type = items
            .get("x-kubernetes-list-type")
            .cloned()
            .unwrap_or(Value::Null);
        let path = path.child("items");
        match text(items, "type") {
            "array" if !list_type.is_null() && list_type != "atomic" => {
                self.invalid(&path.child("x-kubernetes-list-type"), &list_type, detail);
            }
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
                self.invalid(&path.child("x-kubernetes-map-type"), &list_type, detail);
            }
            _ => {}
        }
    }

    fn list_map_keys(&mut self, schema: &Value, path: &Path) {
        let keys = list(&schema["x-kubernetes-list-map-keys"]);
        let keys_path = path.child("x-kubernetes-list-map-keys");
        let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
        if !keys.is_empty() && list_type != Some("map") {
            let path = path.child("x-kubernetes-list-type");
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            match list_type {
                None => self.require(&path, detail),
                Some(other) => self.invalid(&path, &json!(other), detail),
            }
        }
        if list_type != Some("map") {
            return;
        }
        if keys.is_empty() {
            self.require(&keys_path, "must not be empty if x-kubernetes-list-type is map");
        }
        let items = &schema["items"];
        if !items.is_object() {
            self.require(
                &path.child("items"),
                "must have a schema if x-kubernetes-list-type is map",
            );
            return;
        }
        if text(items, "type") != "object" {
            self.invalid(
                &path.child("items").child("type"),
                &json!(text(items, "type")),
                "must be object if parent array's x-kubernetes-list-type is map",
            );
            return;
        }
        let whole = &schema["x-kubernetes-list-map-keys"];
        for (index, key) in keys.iter().enumerate() {
            let name = key.as_str().unwrap_or_default();
            match items["properties"].get(name) {
                Some(property) if matches!(text(property, "type"), "array" | "object") => {
                    let path = path.child("items").child("properties").key(name).child("type");
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    self.invalid(&path, &json!("object"), detail);
                }
                Some(_) => {}
                None => self.invalid(&keys_path, whole, "entries must all be names of item properties"),
            }
            if keys[..index].contains(key) {
                self.invalid(&keys_path, whole, "must not contain duplicate entries");
            }
        }
    }

    /// Items and keys of lists that are sets or maps are never null, and keys are always there.
    fn map_list(&mut self, schema: &Value, path: &Path) {
        let list_type = text(schema, "x-kubernetes-list-type");
        let items = &schema["items"];
        if !items.is_object() || !matches!(list_type, "set" | "map") {
            return;
        }
        let path = path.child("items");
        if flag(items, "nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            self.forbid(&path.child("nullable"), detail);
        }
        if list_type != "map" {
            return;
        }
        for key in list(&schema["x-kubernetes-list-map-keys"]) {
            let name = key.as_str().unwrap_or_default();
            let Some(property) = items["properties"].get(name) else {
                continue;
            };
            let path = path.child("properties").key(name);
            let required = list(&items["required"]).contains(key);
            if !required && property.get("default").is_none_or(Value::is_null) {
                self.require(
                    &path.child("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                );
            }
            if flag(property, "nullable") {
                self.forbid(
                    &path.child("nullable"),
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                );
            }
        }
    }

    fn rules(&mut self, schema: &Value, path: &Path, place: &Place<'_>, own_errors: usize) {
        let rules = list(&schema["x-kubernetes-validations"]);
        let path = path.child("x-kubernetes-validations");
        for (index, rule) in rules.iter().enumerate() {
            self.rule_texts(rule, schema, &path.index(index));
        }
        let Some(typed) = place.typed.filter(|_| self.schema_errors.len() == own_errors) else {
            return;
        };
        let compiled = typed.checks.iter().flat_map(|checks| &checks.rules);
        for (index, (rule, compiled)) in rules.iter().zip(compiled).enumerate() {
            let path = path.index(index);
            let checked = cel::check(compiled, typed, place.root);
            let refuse = |path: &Path, why: String| {
                FieldError::invalid(path, &Value::Null, why).showing(shown::rule(rule))
            };
            if let Some(why) = checked.rule_error {
                self.rule_errors.push(refuse(&path.child("rule"), why));
            }
            if let Some(why) = checked.message_error {
                self.rule_errors
                    .push(refuse(&path.child("messageExpression"), why));
            }
            if checked.uses_old_self {
                if let Some(within) = &place.uncorrelated {
                    let detail = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
                    );
                    self.rule_errors
                        .push(FieldError::invalid(&path.child("rule"), &rule["rule"], detail));
                }
            } else if let Some(optional) = rule.get("optionalOldSelf") {
                self.rule_errors.push(FieldError::invalid(
                    &path.child("optionalOldSelf"),
                    optional,
                    "may not be set if oldSelf is not used in rule",
                ));
            }
        }
    }

    fn rule_texts(&mut self, rule: &Value, schema: &Value, path: &Path) {
        let broken = |text: &str| text.contains(['\n', '\r']);
        let (source, message) = (text(rule, "rule"), text(rule, "message"));
        let message_path = path.child("message");
        if source.trim().is_empty() {
            self.require(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            self.invalid(&message_path, &json!(message), "must be non-empty if specified");
        } else if broken(message.trim()) {
            self.invalid(&message_path, &json!(message), "must not contain line breaks");
        } else if broken(source.trim()) && message.trim().is_empty() {
            self.require(
                &message_path,
                "message must be specified if rule contains line breaks",
            );
        }
        let expression = text(rule, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            self.require(
                &path.child("messageExpression"),
                "messageExpression must be non-empty if specified",
            );
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            let error = FieldError::not_supported(&path.child("reason"), &json!(reason), &REASONS);
            self.schema_errors.push(error);
        }
        let field = text(rule, "fieldPath");
        if field.is_empty() {
            return;
        }
        let field_path = path.child("fieldPath");
        if field.trim().is_empty() {
            self.invalid(&field_path, &json!(field), "must be non-empty if specified");
        }
        if broken(field) {
            self.invalid(&field_path, &json!(field), "must not contain line breaks");
        }
        if fieldpath::follow(field, schema, true).is_err() {
            let error = FieldError::new(Kind::Invalid, &field_path, &json!(field), "must be a valid path");
            self.schema_errors.push(error);
        }
    }
}
