//! The conversion of a CRD: none, or a webhook's.

use super::{list, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names::label_1035;
use serde_json::{Value, json};

pub(super) fn validate(spec: &Value, preserve: bool, path: &Path, errors: &mut FieldErrors) {
    let Some(conversion) = spec.get("conversion") else {
        return;
    };
    let strategy = text(conversion, "strategy");
    let strategy_path = path.child("strategy");
    if strategy != "None" && preserve {
        errors.push(FieldError::invalid(
            &strategy_path,
            &json!(strategy),
            "must be None if spec.preserveUnknownFields is true",
        ));
    }
    match strategy {
        "" => errors.push(FieldError::required(&strategy_path, "")),
        "None" | "Webhook" => {}
        other => errors.push(FieldError::not_supported(
            &strategy_path,
            &json!(other),
            &["None", "Webhook"],
        )),
    }
    let webhook = &conversion["webhook"];
    let client = webhook.get("clientConfig");
    let client_path = path.child("webhookClientConfig");
    let versions = list(&webhook["conversionReviewVersions"]);
    let versions_path = path.child("conversionReviewVersions");
    if strategy == "Webhook" {
        match client {
            None => errors.push(FieldError::required(
                &client_path,
                "required when strategy is set to Webhook",
            )),
            Some(client) => judge_client(client, &client_path, errors),
        }
        review_versions(versions, &versions_path, errors);
        return;
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if client.is_some() {
        errors.push(FieldError::forbidden(&client_path, detail));
    }
    if !versions.is_empty() {
        errors.push(FieldError::forbidden(&versions_path, detail));
    }
}

fn judge_client(client: &Value, path: &Path, errors: &mut FieldErrors) {
    match (client.get("url"), client.get("service")) {
        (Some(url), None) => {
            let text = url.as_str().unwrap_or_default();
            if !text.starts_with("https://") {
                let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
                let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                errors.push(FieldError::invalid(&path.child("url"), &json!(scheme), detail));
            }
        }
        (None, Some(service)) => {
            let path = path.child("service");
            // The real server mixes the two up: a missing name is reported at the namespace, and the other way round.
            for (key, reported) in [("namespace", "name"), ("name", "namespace")] {
                if text(service, key).is_empty() {
                    errors.push(FieldError::required(&path.child(reported), ""));
                }
            }
        }
        _ => errors.push(FieldError::required(
            path,
            "exactly one of url or service is required",
        )),
    }
}

fn review_versions(versions: &[Value], path: &Path, errors: &mut FieldErrors) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(&path, version, "duplicate version"));
            continue;
        }
        for why in label_1035(version.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(&path, version, why));
        }
    }
    if !versions
        .iter()
        .any(|version| version == "v1" || version == "v1beta1")
    {
        errors.push(FieldError::invalid(
            path,
            &json!(versions),
            "must include at least one of v1, v1beta1",
        ));
    }
}
