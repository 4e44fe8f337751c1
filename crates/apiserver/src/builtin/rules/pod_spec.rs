//! The spec of a pod, alone or in a template.

use super::check::{complaints, ip, items, label, qualified, subdomain, text};
use super::labels::validate_labels;
use super::{containers, scheduling, volumes};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names;
use serde_json::{Value, json};

const SEARCH: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
/// The greatest user or group id.
const LARGEST_ID: i64 = 2_147_483_647;

/// A template: labels and annotations that pods get, and their spec.
pub(super) fn validate_template(template: &Value, path: &Path, errors: &mut FieldErrors) {
    let metadata = path.child("metadata");
    validate_labels(&metadata.child("labels"), &template["metadata"]["labels"], errors);
    let annotations = template["metadata"]["annotations"].as_object();
    for name in annotations.into_iter().flatten().map(|(name, _)| name) {
        qualified(&metadata.child("annotations"), &name.to_lowercase(), errors);
    }
    validate(&template["spec"], &path.child("spec"), errors);
    if !items(&template["spec"]["ephemeralContainers"]).is_empty() {
        let at = path.child("spec").child("ephemeralContainers");
        errors.push(FieldError::forbidden(
            &at,
            "ephemeral containers not allowed in pod template",
        ));
    }
}

pub(super) fn validate(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let known = volumes::validate(&spec["volumes"], &path.child("volumes"), errors);
    containers::validate(spec, &known, path, errors);
    validate_host_ports(spec, &path.child("containers"), errors);
    let policy = text(spec, "restartPolicy");
    if !["Always", "OnFailure", "Never"].contains(&policy) {
        let known = ["Always", "OnFailure", "Never"];
        errors.push(FieldError::not_supported(
            &path.child("restartPolicy"),
            &json!(policy),
            &known,
        ));
    }
    let policy = text(spec, "dnsPolicy");
    let known = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    if !known.contains(&policy) {
        errors.push(FieldError::not_supported(
            &path.child("dnsPolicy"),
            &json!(policy),
            &known,
        ));
    }
    validate_labels(&path.child("nodeSelector"), &spec["nodeSelector"], errors);
    validate_security(spec, &path.child("securityContext"), errors);
    for (index, secret) in items(&spec["imagePullSecrets"]).iter().enumerate() {
        let at = path.child("imagePullSecrets").index(index).child("name");
        if secret["name"].is_null() {
            continue;
        }
        subdomain(&at, text(secret, "name"), errors);
    }
    scheduling::validate_affinity(&spec["affinity"], &path.child("affinity"), errors);
    validate_dns(spec, &path.child("dnsConfig"), errors);
    for (index, gate) in items(&spec["readinessGates"]).iter().enumerate() {
        let at = path.child("readinessGates").index(index).child("conditionType");
        qualified(&at, text(gate, "conditionType"), errors);
    }
    validate_gates(&spec["schedulingGates"], &path.child("schedulingGates"), errors);
    scheduling::validate_spread(
        &spec["topologySpreadConstraints"],
        &path.child("topologySpreadConstraints"),
        errors,
    );
    let account = text(spec, "serviceAccountName");
    if !account.is_empty() {
        subdomain(&path.child("serviceAccountName"), account, errors);
    }
    if !text(spec, "nodeName").is_empty() {
        subdomain(&path.child("nodeName"), text(spec, "nodeName"), errors);
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=LARGEST_ID).contains(&seconds)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(
            &path.child("activeDeadlineSeconds"),
            &json!(seconds),
            why,
        ));
    }
    for field in ["hostname", "subdomain"] {
        if !text(spec, field).is_empty() {
            label(&path.child(field), text(spec, field), errors);
        }
    }
    scheduling::validate_tolerations(&spec["tolerations"], &path.child("tolerations"), errors);
    validate_aliases(&spec["hostAliases"], &path.child("hostAliases"), errors);
    if !text(spec, "priorityClassName").is_empty() {
        subdomain(
            &path.child("priorityClassName"),
            text(spec, "priorityClassName"),
            errors,
        );
    }
    if !text(spec, "runtimeClassName").is_empty() {
        subdomain(
            &path.child("runtimeClassName"),
            text(spec, "runtimeClassName"),
            errors,
        );
    }
    if let Some(policy) = spec["preemptionPolicy"].as_str() {
        let known = ["Never", "PreemptLowerPriority"];
        if !known.contains(&policy) {
            errors.push(FieldError::not_supported(
                &path.child("preemptionPolicy"),
                &json!(policy),
                &known,
            ));
        }
    }
}

/// On the host's network a port of a container is one of the host.
fn validate_host_ports(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    if spec["hostNetwork"] != true {
        return;
    }
    for (index, container) in items(&spec["containers"]).iter().enumerate() {
        for (at, port) in items(&container["ports"]).iter().enumerate() {
            let host = port["hostPort"].as_i64().unwrap_or(0);
            if host != 0 && Some(host) != port["containerPort"].as_i64() {
                let at = path.index(index).child("ports").index(at).child("hostPort");
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&at, &json!(host), why));
            }
        }
    }
}

/// Ids of users and groups.
pub(super) fn validate_id(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|id| !(0..=LARGEST_ID).contains(&id)) {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be between 0 and 2147483647, inclusive",
        ));
    }
}

fn validate_security(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let context = &spec["securityContext"];
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        validate_id(&path.child(field), &context[field], errors);
    }
    for (index, group) in items(&context["supplementalGroups"]).iter().enumerate() {
        validate_id(&path.child("supplementalGroups").index(index), group, errors);
    }
    validate_seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
}

pub(super) fn validate_seccomp(profile: &Value, path: &Path, errors: &mut FieldErrors) {
    let local = !profile["localhostProfile"].is_null();
    match profile["type"].as_str() {
        Some("Localhost") if !local => {
            let why = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(&path.child("localhostProfile"), why));
        }
        Some("RuntimeDefault" | "Unconfined") if local => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(
                &path.child("localhostProfile"),
                &profile["localhostProfile"],
                why,
            ));
        }
        None | Some("Localhost" | "RuntimeDefault" | "Unconfined") => {}
        Some(other) => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(FieldError::not_supported(
                &path.child("type"),
                &json!(other),
                &known,
            ));
        }
    }
}

fn validate_dns(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let config = &spec["dnsConfig"];
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, why));
            return;
        }
        if items(&config["nameservers"]).is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), why));
            return;
        }
    }
    let servers = path.child("nameservers");
    if items(&config["nameservers"]).len() > 3 {
        errors.push(FieldError::invalid(
            &servers,
            &config["nameservers"],
            "must not have more than 3 nameservers",
        ));
    }
    for (index, server) in items(&config["nameservers"]).iter().enumerate() {
        ip(&servers.index(index), server, errors);
    }
    for (index, search) in items(&config["searches"]).iter().enumerate() {
        let name = search.as_str().unwrap_or_default();
        let plain = name.strip_suffix('.').unwrap_or(name).replace('_', "a");
        if name != "." && !names::subdomain(&plain).is_empty() {
            errors.push(FieldError::invalid(
                &path.child("searches").index(index),
                search,
                SEARCH,
            ));
        }
    }
    for (index, option) in items(&config["options"]).iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.push(FieldError::required(
                &path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
}

fn validate_gates(gates: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, gate) in items(gates).iter().enumerate() {
        let name = text(gate, "name");
        qualified(&path.index(index), name, errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path.index(index), &json!(name)));
        }
        seen.push(name);
    }
}

fn validate_aliases(aliases: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, alias) in items(aliases).iter().enumerate() {
        let at = path.index(index);
        ip(&at.child("ip"), &alias["ip"], errors);
        for (index, name) in items(&alias["hostnames"]).iter().enumerate() {
            let wrong = names::subdomain(name.as_str().unwrap_or_default());
            complaints(&at.child("hostnames").index(index), name, wrong, errors);
        }
    }
}
