//! Secrets, whose types ask for certain keys.

use super::Rules;
use super::check::{complaints, config_key, immutable, text};
use super::configuration::{LARGEST, size, validate_immutable};
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account.name";

pub(super) struct Secrets;

fn validate(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let data = Path::new("data");
    for key in object["data"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        config_key(&data.key(key), key, &mut errors);
    }
    if size(&object["data"], true) > LARGEST {
        errors.push(FieldError::too_long(&data, LARGEST));
    }
    let mut required = |keys: &[&str]| {
        for key in keys {
            if object["data"].get(*key).is_none() || *key == "ssh-privatekey" {
                errors.push(FieldError::required(&data.key(key), ""));
            }
        }
    };
    match text(object, "type") {
        "kubernetes.io/service-account-token"
            if text(&object["metadata"]["annotations"], SERVICE_ACCOUNT).is_empty() =>
        {
            let path = Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT);
            errors.push(FieldError::required(&path, ""));
        }
        "kubernetes.io/dockercfg" => json_in(object, ".dockercfg", &mut errors),
        "kubernetes.io/dockerconfigjson" => json_in(object, ".dockerconfigjson", &mut errors),
        "kubernetes.io/basic-auth"
            if object["data"].get("username").is_none() && object["data"].get("password").is_none() =>
        {
            required(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if text(&object["data"], "ssh-privatekey").is_empty() => {
            required(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => required(&["tls.crt", "tls.key"]),
        _ => {}
    }
    errors
}

/// A key that must hold JSON. What it holds is never told.
fn json_in(object: &Value, key: &str, errors: &mut FieldErrors) {
    let path = Path::new("data").key(key);
    let Some(encoded) = object["data"][key].as_str() else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    if serde_json::from_slice::<Value>(&bytes).is_err() {
        let why = why_no_json(&bytes);
        complaints(
            &path,
            &Value::from("<secret contents redacted>"),
            vec![why],
            errors,
        );
    }
}

/// What Go's parser says of bytes that are no JSON.
fn why_no_json(bytes: &[u8]) -> String {
    const CUT: &str = "unexpected end of JSON input";
    let text = bytes.trim_ascii_start();
    let Some(first) = text.first() else {
        return CUT.to_owned();
    };
    if !b"{[\"-0123456789tfn".contains(first) {
        return format!(
            "invalid character '{}' looking for beginning of value",
            char::from(*first)
        );
    }
    for literal in ["null", "true", "false"] {
        let wrong = text
            .iter()
            .zip(literal.bytes())
            .find(|(given, wanted)| *given != wanted);
        if let Some((given, wanted)) = wrong.filter(|_| text.first() == literal.as_bytes().first()) {
            let (given, wanted) = (char::from(*given), char::from(wanted));
            return format!("invalid character '{given}' in literal {literal} (expecting '{wanted}')");
        }
    }
    CUT.to_owned()
}

impl Rules for Secrets {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate(object)
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &str, _: &dyn Surroundings) {
        if text(object, "type").is_empty() {
            object["type"] = old["type"].clone();
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        immutable(&Path::new("type"), &object["type"], &old["type"], &mut errors);
        validate_immutable(object, old, &["data"], &mut errors);
        errors.extend(validate(object));
        errors
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("type", text(object, "type").to_owned())]
    }
}
