//! Whether a CRD may be stored, with the real server's texts.
//!
//! The real server judges an internal form in which what all versions have in common (schema, subresources, columns,
//! selectable fields) stands once, above them; paths and values in its errors are those of that form, and so here.

mod approval;
mod defaults;
mod fieldpath;
mod names;
mod openapi;
mod shown;
mod spec;
mod structural;
mod webhook;

pub(super) use approval::{approval, is_protected};

use super::paths::{flag, list, text};
use crate::field::{FieldError, FieldErrors, Path};
use serde_json::{Value, json};

/// Judges a new CRD, beyond its metadata.
pub(super) fn validate(crd: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = &crd["spec"];
    let name = text(&crd["metadata"], "name");
    if name != format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group")) {
        let path = Path::new("metadata").child("name");
        errors.push(FieldError::invalid(
            &path,
            &json!(name),
            r#"must be spec.names.plural+"."+spec.group"#,
        ));
    }
    judge(crd, None, &mut errors);
    errors
}

/// Judges a changed CRD, beyond its metadata.
pub(super) fn validate_update(crd: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    judge(crd, Some(old), &mut errors);
    errors
}

/// Judges a changed status.
pub(super) fn validate_status(crd: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    judge_status(crd, &mut errors);
    errors
}

fn judge(crd: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = &crd["spec"];
    spec::validate(spec, errors);
    if let Some(old) = old {
        immutable(spec, old, errors);
    }
    judge_status(crd, errors);
    stored_versions(crd, errors);
    if let Some(error) = approval::judge(crd, old) {
        errors.push(error);
    }
    let preserved = |spec: &Value| flag(spec, "preserveUnknownFields");
    if preserved(spec) && !old.is_some_and(|old| preserved(&old["spec"])) {
        errors.push(FieldError::invalid(
            &Path::new("spec").child("preserveUnknownFields"),
            &json!(true),
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
}

fn immutable(spec: &Value, old: &Value, errors: &mut FieldErrors) {
    let established = super::is_established(old);
    let old = &old["spec"];
    for (keys, always) in [
        (&["scope"][..], false),
        (&["names", "kind"], false),
        (&["group"], true),
        (&["names", "plural"], true),
    ] {
        if !always && !established {
            continue;
        }
        let read = |spec: &Value| keys.iter().fold(spec.clone(), |value, key| value[*key].clone());
        let path = keys.iter().fold(Path::new("spec"), |path, key| path.child(key));
        let (new, old) = (read(spec), read(old));
        if new != old {
            errors.push(FieldError::invalid(&path, &new, "field is immutable"));
        }
    }
}

fn judge_status(crd: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status").child("acceptedNames");
    names::validate(&crd["status"]["acceptedNames"], &path, errors);
}

fn stored_versions(crd: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status").child("storedVersions");
    let value = &crd["status"]["storedVersions"];
    let stored = list(value);
    if stored.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            &Value::Null,
            "must have at least one stored version",
        ));
        return;
    }
    let versions = list(&crd["spec"]["versions"]);
    for version in versions {
        let name = &version["name"];
        if flag(version, "storage") && !stored.contains(name) {
            let detail = format!("must have the storage version {}", text(version, "name"));
            errors.push(FieldError::invalid(&path, value, detail));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if versions.iter().all(|version| version["name"] != *name) {
            let shown = name.as_str().unwrap_or_default();
            errors.push(FieldError::invalid(
                &path.index(index),
                name,
                format!(
                    "missing from spec.versions; {shown} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {shown} and removes \
                     {shown} from status.storedVersions"
                ),
            ));
        }
    }
}

#[cfg(test)]
#[path = "../validation_tests.rs"]
mod tests;
