//! Probes and hooks of containers.

use super::check::{items, not_negative_fields, port_reference, text};
use crate::field::{FieldError, FieldErrors, Path};
use serde_json::{Value, json};

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

pub(super) fn validate(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for hook in ["postStart", "preStop"] {
        let value = &container["lifecycle"][hook];
        if !value.is_null() {
            handler(value, &path.child("lifecycle").child(hook), errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[name];
        if probe.is_null() {
            continue;
        }
        let at = path.child(name);
        handler(probe, &at, errors);
        let numbers = [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ];
        not_negative_fields(&at, probe, &numbers, errors);
        let seconds = &probe["terminationGracePeriodSeconds"];
        if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
            let why = "must be greater than 0";
            errors.push(FieldError::invalid(
                &at.child("terminationGracePeriodSeconds"),
                seconds,
                why,
            ));
        }
        let threshold = &probe["successThreshold"];
        if name != "readinessProbe" && *threshold != json!(1) {
            errors.push(FieldError::invalid(
                &at.child("successThreshold"),
                threshold,
                "must be 1",
            ));
        }
        if name == "readinessProbe" && !seconds.is_null() {
            let why = "must not be set for readinessProbes";
            errors.push(FieldError::invalid(
                &at.child("terminationGracePeriodSeconds"),
                seconds,
                why,
            ));
        }
    }
}

fn handler(value: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut found = false;
    for kind in HANDLERS {
        let action = &value[kind];
        if action.is_null() {
            continue;
        }
        let at = path.child(kind);
        if found {
            errors.push(FieldError::forbidden(
                &at,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        found = true;
        match kind {
            "exec" if items(&action["command"]).is_empty() => {
                errors.push(FieldError::required(&at.child("command"), ""));
            }
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" | "grpc" => port_reference(&at.child("port"), &action["port"], errors),
            _ => {}
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut FieldErrors) {
    if text(action, "path").is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
    }
    port_reference(&path.child("port"), &action["port"], errors);
    let known = ["HTTP", "HTTPS"];
    if !known.contains(&text(action, "scheme")) {
        errors.push(FieldError::not_supported(
            &path.child("scheme"),
            &action["scheme"],
            &known,
        ));
    }
}
