//! The rules of metadata that hold for every kind.

use super::names;
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::resource::NameRule;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const MAX_ANNOTATIONS: usize = 256 * 1024;

/// An object's metadata; where there is none, it is made.
pub(crate) fn of_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object["metadata"];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        // Just made to be a map; the borrow checker takes no form that makes and gives it in one match.
        _ => unreachable!("metadata is a map"),
    }
}

/// A text of an object's metadata; empty where it is missing.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

/// Sets a field of metadata, or removes it where the value is null.
pub(crate) fn set(object: &mut Value, key: &str, value: Value) {
    let metadata = of_mut(object);
    if value.is_null() {
        metadata.remove(key);
    } else {
        metadata.insert(key.to_owned(), value);
    }
}

/// The finalizers of an object.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Sets a condition in a status; its time changes only when the condition's status does.
pub(crate) fn set_condition(status: &mut Value, mut condition: Value, now: &Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    condition["lastTransitionTime"] = now.clone();
    match conditions
        .iter_mut()
        .find(|there| there["type"] == condition["type"])
    {
        Some(there) => {
            let since = &there["lastTransitionTime"];
            if there["status"] == condition["status"] && !since.is_null() {
                condition["lastTransitionTime"] = since.clone();
            }
            *there = condition;
        }
        None => conditions.push(condition),
    }
}

/// Drops what is empty from metadata, as the real server's encoding does.
pub(crate) fn normalise(object: &mut Value) {
    let metadata = of_mut(object);
    metadata.retain(|key, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(number) => key == "deletionGracePeriodSeconds" || number.as_i64() != Some(0),
        Value::Bool(_) => true,
    });
    metadata.remove("selfLink");
}

/// Removes the owner references that are there twice; the warning, where there were any.
pub(crate) fn dedup_owners(object: &mut Value) -> Option<String> {
    let owners = object
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("ownerReferences"))
        .and_then(Value::as_array_mut)?;
    let mut seen: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice: BTreeSet<String> = BTreeSet::new();
    owners.retain(|owner| {
        let new = !seen.contains(owner);
        if new {
            seen.push(owner.clone());
        } else {
            twice.insert(owner["uid"].as_str().unwrap_or_default().to_owned());
        }
        new
    });
    if twice.is_empty() {
        return None;
    }
    let uids: Vec<String> = twice.into_iter().collect();
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        uids.join(", ")
    ))
}

fn name_errors(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::Subdomain => names::subdomain(name),
        NameRule::Label1123 => names::label_1123(name),
        NameRule::Label1035 => names::label_1035(name),
        NameRule::PathSegment => names::path_segment(name),
    }
}

/// Judges the metadata of a new object.
pub(crate) fn validate(object: &Value, namespaced: bool, rule: NameRule) -> FieldErrors {
    let at = Path::new("metadata");
    let metadata = &object["metadata"];
    let mut errors = FieldErrors::new();
    let prefix = text(object, "generateName");
    if !prefix.is_empty() {
        // A dash at the end is followed by what is generated.
        let masked = match prefix.strip_suffix('-') {
            Some(start) if start.len() > 1 || !start.is_empty() => format!("{start}a"),
            _ => prefix.to_owned(),
        };
        for said in name_errors(rule, &masked) {
            errors.push(FieldError::invalid(
                &at.child("generateName"),
                &metadata["generateName"],
                said,
            ));
        }
    }
    let name = text(object, "name");
    if name.is_empty() {
        errors.push(FieldError::required(
            &at.child("name"),
            "name or generateName is required",
        ));
    } else {
        for said in name_errors(rule, name) {
            errors.push(FieldError::invalid(&at.child("name"), &metadata["name"], said));
        }
    }
    let namespace = text(object, "namespace");
    let namespace_at = at.child("namespace");
    if namespaced && namespace.is_empty() {
        errors.push(FieldError::required(&namespace_at, ""));
    } else if namespaced {
        for said in names::label_1123(namespace) {
            errors.push(FieldError::invalid(&namespace_at, &metadata["namespace"], said));
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(&namespace_at, "not allowed on this type"));
    }
    labels(&metadata["labels"], &at.child("labels"), &mut errors);
    annotations(&metadata["annotations"], &at.child("annotations"), &mut errors);
    owner_references(
        &metadata["ownerReferences"],
        &at.child("ownerReferences"),
        &mut errors,
    );
    validate_finalizers(&metadata["finalizers"], &at.child("finalizers"), &mut errors);
    crate::apply::validate_managed_fields(
        &metadata["managedFields"],
        &at.child("managedFields"),
        &mut errors,
    );
    errors
}

/// Judges changed metadata against what it was.
pub(crate) fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let at = Path::new("metadata");
    let metadata = &new["metadata"];
    let mut errors = FieldErrors::new();
    if is_deleting(old) {
        let before: BTreeSet<&str> = finalizers(old).into_iter().collect();
        let added: BTreeSet<&str> = finalizers(new)
            .into_iter()
            .filter(|finalizer| !before.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
            errors.push(FieldError::forbidden(
                &at.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            ));
        }
    }
    if text(new, "resourceVersion").is_empty() {
        errors.push(FieldError::invalid(
            &at.child("resourceVersion"),
            &json!(""),
            "must be specified for an update",
        ));
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (new, old) = (&metadata[key], &old["metadata"][key]);
        if new != old {
            let shown = if new.is_null() && matches!(key, "name" | "namespace" | "uid") {
                json!("")
            } else {
                new.clone()
            };
            errors.push(FieldError::invalid(&at.child(key), &shown, "field is immutable"));
        }
    }
    labels(&metadata["labels"], &at.child("labels"), &mut errors);
    annotations(&metadata["annotations"], &at.child("annotations"), &mut errors);
    owner_references(
        &metadata["ownerReferences"],
        &at.child("ownerReferences"),
        &mut errors,
    );
    crate::apply::validate_managed_fields(
        &metadata["managedFields"],
        &at.child("managedFields"),
        &mut errors,
    );
    errors
}

fn labels(labels: &Value, at: &Path, errors: &mut FieldErrors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for said in names::qualified(key) {
            errors.push(FieldError::invalid(at, &json!(key), said));
        }
        for said in names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(at, value, said));
        }
    }
}

fn annotations(annotations: &Value, at: &Path, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        for said in names::qualified(&key.to_ascii_lowercase()) {
            errors.push(FieldError::invalid(at, &json!(key), said));
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::new(
            Kind::TooLong,
            at,
            &Value::Null,
            format!("may not be more than {MAX_ANNOTATIONS} bytes"),
        ));
    }
}

fn owner_references(owners: &Value, at: &Path, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let field = |key: &str| owner[key].as_str().unwrap_or_default();
        let api_version = field("apiVersion");
        let version = match api_version.split('/').collect::<Vec<_>>().as_slice() {
            [version] | [_, version] => *version,
            _ => "",
        };
        let mut refuse = |key: &str, said: &str| {
            errors.push(FieldError::invalid(&at.child(key), &json!(field(key)), said));
        };
        if version.is_empty() {
            refuse("apiVersion", "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if field(key).is_empty() {
                refuse(key, "must not be empty");
            }
        }
        if api_version == "v1" && field("kind") == "Event" {
            let said = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(at, owner, said).showing(owner_text(owner)));
        }
        if owner["controller"] == json!(true) {
            let this = format!("{}/{}", field("kind"), field("name"));
            match &controller {
                Some(first) => {
                    let said = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(FieldError::invalid(at, owners, said).showing(owners_text(owners)));
                }
                None => controller = Some(this),
            }
        }
    }
}

/// Owner references in the order of fields that the real server writes.
fn owners_text(owners: &Value) -> String {
    let list: Vec<String> = owners.as_array().into_iter().flatten().map(owner_text).collect();
    format!("[{}]", list.join(","))
}

fn owner_text(owner: &Value) -> String {
    let mut fields = Vec::new();
    for key in [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ] {
        let value = &owner[key];
        let required = !matches!(key, "controller" | "blockOwnerDeletion");
        if !value.is_null() {
            fields.push(format!("\"{key}\":{value}"));
        } else if required {
            fields.push(format!("\"{key}\":\"\""));
        }
    }
    format!("{{{}}}", fields.join(","))
}

/// Metadata in the order in which the real server writes its fields, for messages that show them.
pub(crate) fn in_order(metadata: &Value) -> String {
    const FIELDS: [&str; 14] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    const ENTRY: [&str; 7] = [
        "manager",
        "operation",
        "apiVersion",
        "time",
        "fieldsType",
        "fieldsV1",
        "subresource",
    ];
    fn ordered(value: &Value, keys: &[&str]) -> String {
        let fields = keys.iter().filter(|key| !value[**key].is_null()).map(|key| {
            let field = &value[*key];
            match (*key, field) {
                ("ownerReferences", owners) => format!("\"ownerReferences\":{}", owners_text(owners)),
                ("managedFields", Value::Array(list)) => {
                    let list: Vec<String> = list.iter().map(|entry| ordered(entry, &ENTRY)).collect();
                    format!("\"managedFields\":[{}]", list.join(","))
                }
                (key, field) => format!("\"{key}\":{field}"),
            }
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
    ordered(metadata, &FIELDS)
}

/// The rule for finalizers that built-in kinds have beyond that of all.
pub(crate) fn validate_builtin_finalizers(object: &Value) -> FieldErrors {
    let at = Path::new("metadata").child("finalizers");
    let mut errors = FieldErrors::new();
    for (index, name) in finalizers(object).into_iter().enumerate() {
        for said in names::builtin_finalizer(name) {
            errors.push(FieldError::invalid(&at.index(index), &json!(name), said));
        }
    }
    errors
}

fn validate_finalizers(list: &Value, at: &Path, errors: &mut FieldErrors) {
    let mut both = 0;
    for finalizer in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
        for said in names::qualified(finalizer) {
            errors.push(FieldError::invalid(at, &json!(finalizer), said));
        }
        if matches!(finalizer, "orphan" | "foregroundDeletion") {
            both += 1;
        }
    }
    if both > 1 {
        errors.push(FieldError::invalid(
            at,
            list,
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}
