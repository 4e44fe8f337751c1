//! Checks that many kinds share.

use crate::builtin::quantity::Quantity;
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::metadata::names;
use serde_json::{Value, json};
use std::net::IpAddr;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const IMMUTABLE: &str = "field is immutable";

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The items of a list, none where there is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// One error for each complaint about a value.
pub(super) fn complaints(path: &Path, value: &Value, complaints: Vec<String>, errors: &mut FieldErrors) {
    errors.extend(
        complaints
            .into_iter()
            .map(|why| FieldError::invalid(path, value, why)),
    );
}

pub(super) fn label(path: &Path, name: &str, errors: &mut FieldErrors) {
    complaints(path, &json!(name), names::label_1123(name), errors);
}

pub(super) fn subdomain(path: &Path, name: &str, errors: &mut FieldErrors) {
    complaints(path, &json!(name), names::subdomain(name), errors);
}

pub(super) fn qualified(path: &Path, name: &str, errors: &mut FieldErrors) {
    complaints(path, &json!(name), names::qualified(name), errors);
}

/// A number that may not be negative; missing is zero.
pub(super) fn not_negative(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.push(FieldError::invalid(path, value, NOT_NEGATIVE));
    }
}

pub(super) fn not_negative_fields(path: &Path, object: &Value, names: &[&str], errors: &mut FieldErrors) {
    for name in names {
        not_negative(&path.child(name), &object[*name], errors);
    }
}

/// Whether a number is one of a port.
pub(super) fn port_number(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if !value
        .as_i64()
        .is_some_and(|number| (1..=65_535).contains(&number))
    {
        let number = if value.is_null() { json!(0) } else { value.clone() };
        errors.push(FieldError::invalid(
            path,
            &number,
            "must be between 1 and 65535, inclusive",
        ));
    }
}

/// What is wrong with a port's name (IANA service name).
pub(super) fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.chars().all(plain) || name.is_empty() {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A port given by number or name.
pub(super) fn port_reference(path: &Path, value: &Value, errors: &mut FieldErrors) {
    match value {
        Value::String(name) => complaints(path, value, port_name(name), errors),
        _ => port_number(path, value, errors),
    }
}

/// A whole number that is not negative, or a percentage.
pub(super) fn number_or_percent(path: &Path, value: &Value, errors: &mut FieldErrors) {
    match value {
        Value::String(text) if percent(text).is_none() => {
            errors.push(FieldError::invalid(path, value, PERCENT));
        }
        Value::Number(_) => not_negative(path, value, errors),
        _ => {}
    }
}

pub(super) fn at_most_all(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if value
        .as_str()
        .and_then(percent)
        .is_some_and(|percent| percent > 100)
    {
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
}

pub(super) fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// A key of a ConfigMap or Secret.
pub(super) fn config_key(path: &Path, key: &str, errors: &mut FieldErrors) {
    let mut wrong = Vec::new();
    if key.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty()
        || !key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        wrong.push(CONFIG_KEY.to_owned());
    }
    if key == "." {
        wrong.push("must not be '.'".to_owned());
    } else if key == ".." {
        wrong.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        wrong.push("must not start with '..'".to_owned());
    }
    complaints(path, &json!(key), wrong, errors);
}

/// An IP address.
pub(super) fn ip(path: &Path, value: &Value, errors: &mut FieldErrors) -> Option<IpAddr> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    if address.is_none() {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
    address
}

pub(super) fn not_supported(path: &Path, value: &Value, supported: &[&str], errors: &mut FieldErrors) {
    if !value.as_str().is_some_and(|text| supported.contains(&text)) {
        let value = if value.is_null() { json!("") } else { value.clone() };
        errors.push(FieldError::not_supported(path, &value, supported));
    }
}

/// An error whose message shows the server's own form of a value, given as text because its fields keep their order.
pub(super) fn shown_as(kind: Kind, path: &Path, shown: &str, why: &str) -> FieldError {
    FieldError::new(kind, path, &Value::Null, format!("{shown}: {why}")).omitting_value()
}

pub(super) fn immutable(path: &Path, new: &Value, old: &Value, errors: &mut FieldErrors) {
    if new != old {
        errors.push(FieldError::invalid(path, new, IMMUTABLE));
    }
}

pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}
