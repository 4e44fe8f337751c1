//! ConfigMaps.

use super::Rules;
use super::check::config_key;
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use serde_json::Value;

/// The most bytes that the values of a ConfigMap or Secret may have.
pub(super) const LARGEST: i64 = 1024 * 1024;

pub(super) struct ConfigMaps;

fn bytes_of(encoded: &str) -> usize {
    encoded.trim_end_matches('=').len() * 3 / 4
}

/// The bytes of all values; those that are encoded count decoded.
pub(super) fn size(values: &Value, encoded: bool) -> i64 {
    let values = values
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, value)| value.as_str());
    let size: usize = values
        .map(|text| if encoded { bytes_of(text) } else { text.len() })
        .sum();
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn validate(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (name, value) in [("data", &object["data"]), ("binaryData", &object["binaryData"])] {
        for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
            let path = Path::new(name).key(key);
            config_key(&path, key, &mut errors);
            if name == "data" && object["binaryData"].get(key).is_some() {
                let why = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(&path, &Value::from(key.as_str()), why));
            }
        }
    }
    if size(&object["data"], false) + size(&object["binaryData"], true) > LARGEST {
        errors.push(FieldError::too_long(&Path::new("[]"), LARGEST));
    }
    errors
}

/// What may not change once `immutable` is set.
pub(super) fn validate_immutable(object: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != true {
        return;
    }
    if object["immutable"] != true {
        errors.push(FieldError::forbidden(&Path::new("immutable"), WHY));
    }
    for field in fields {
        if object[*field] != old[*field] {
            errors.push(FieldError::forbidden(&Path::new(*field), WHY));
        }
    }
}

impl Rules for ConfigMaps {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_immutable(object, old, &["data", "binaryData"], &mut errors);
        errors.extend(validate(object));
        errors
    }
}
