//! The names of a CRD, wanted or accepted.

use super::{list, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names::label_1035;
use serde_json::Value;

const MIXED: &str = "may have mixed case, but should otherwise match: ";

pub(super) fn validate(names: &Value, path: &Path, errors: &mut FieldErrors) {
    for (key, prefix) in [
        ("plural", ""),
        ("singular", ""),
        ("kind", MIXED),
        ("listKind", MIXED),
    ] {
        let name = text(names, key);
        let judged = if prefix.is_empty() {
            name.to_owned()
        } else {
            name.to_lowercase()
        };
        let why = label_1035(&judged);
        if !name.is_empty() && !why.is_empty() {
            let detail = format!("{prefix}{}", why.join(","));
            errors.push(FieldError::invalid(&path.child(key), &names[key], detail));
        }
    }
    each(names, "shortNames", path, errors);
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        errors.push(FieldError::invalid(
            &path.child("listKind"),
            &names["listKind"],
            "kind and listKind may not be the same",
        ));
    }
    each(names, "categories", path, errors);
}

fn each(names: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    for (index, name) in list(&names[key]).iter().enumerate() {
        let why = label_1035(name.as_str().unwrap_or_default());
        if !why.is_empty() {
            errors.push(FieldError::invalid(
                &path.child(key).index(index),
                name,
                why.join(","),
            ));
        }
    }
}
