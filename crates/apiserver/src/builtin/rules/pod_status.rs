//! What a pod's status may say.

use super::check::{immutable, ip, items, qualified, subdomain, text};
use crate::field::{FieldError, FieldErrors, Path};
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn validate(object: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (status, was, path) = (&object["status"], &old["status"], Path::new("status"));
    validate_conditions(&status["conditions"], &path.child("conditions"), &mut errors);
    validate_nomination(object, old, &path.child("nominatedNodeName"), &mut errors);
    not_negative(
        &status["observedGeneration"],
        &path.child("observedGeneration"),
        &mut errors,
    );
    let quality = path.child("qosClass");
    immutable(&quality, &status["qosClass"], &was["qosClass"], &mut errors);
    for (list, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
    ] {
        let stays = |name: &str, code: i64| {
            let spec = &old["spec"];
            let container = items(&spec[containers]).iter().find(|c| c["name"] == name);
            restarts_all(spec) || container.is_some_and(|container| restarts(container, spec, code))
        };
        validate_ends(&status[list], &was[list], &path.child(list), &stays, &mut errors);
    }
    let list = "ephemeralContainerStatuses";
    validate_ends(
        &status[list],
        &was[list],
        &path.child(list),
        &|_, _| false,
        &mut errors,
    );
    validate_addresses(
        &status["podIPs"],
        &was["podIPs"],
        &path.child("podIPs"),
        &mut errors,
    );
    let hosts = path.child("hostIPs");
    if let Some(first) = items(&status["hostIPs"]).first()
        && text(first, "ip") != text(status, "hostIP")
    {
        let at = hosts.index(0).child("ip");
        errors.push(FieldError::invalid(
            &at,
            &first["ip"],
            "must be equal to `hostIP`",
        ));
    }
    validate_addresses(&status["hostIPs"], &was["hostIPs"], &hosts, &mut errors);
    for (index, container) in items(&status[list]).iter().enumerate() {
        if !items(&container["allocatedResourcesStatus"]).is_empty() {
            let at = path.child(list).index(index).child("allocatedResourcesStatus");
            errors.push(FieldError::forbidden(
                &at,
                "must not be specified in container status",
            ));
        }
    }
    errors
}

fn not_negative(generation: &Value, path: &Path, errors: &mut FieldErrors) {
    if generation.as_i64().is_some_and(|generation| generation < 0) {
        errors.push(FieldError::invalid(
            path,
            generation,
            "must be a non-negative integer",
        ));
    }
}

fn validate_conditions(conditions: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, condition) in items(conditions).iter().enumerate() {
        let at = path.index(index);
        not_negative(
            &condition["observedGeneration"],
            &at.child("observedGeneration"),
            errors,
        );
        let kind = text(condition, "type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            qualified(&at.child("Type"), kind, errors);
        }
    }
}

/// The node where a pod is to run once there is room is one that is, and named before it runs.
fn validate_nomination(object: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let name = text(&object["status"], "nominatedNodeName");
    if name.is_empty() || name == text(&old["status"], "nominatedNodeName") {
        return;
    }
    subdomain(path, name, errors);
    if !text(&old["spec"], "nodeName").is_empty() {
        let why = "may not be set on pods that are already bound to a node";
        errors.push(FieldError::forbidden(path, why));
    }
}

/// Whether a rule of some container restarts all of them.
fn restarts_all(spec: &Value) -> bool {
    let mut containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| items(&spec[list]));
    containers.any(|container| {
        items(&container["restartPolicyRules"])
            .iter()
            .any(|rule| rule["action"] == "RestartAllContainers")
    })
}

/// Whether a container that ended with this code runs again.
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let by_policy = |policy: &str| match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    };
    let Some(own) = container["restartPolicy"].as_str() else {
        return by_policy(text(spec, "restartPolicy"));
    };
    let by_rule = items(&container["restartPolicyRules"]).iter().any(|rule| {
        let codes = &rule["exitCodes"];
        let named = items(&codes["values"]).iter().any(|value| *value == code);
        rule["action"] == "Restart"
            && match text(codes, "operator") {
                "In" => named,
                "NotIn" => !named,
                _ => false,
            }
    });
    by_rule || by_policy(own)
}

/// A container that has ended and does not run again stays ended.
fn validate_ends(
    new: &Value,
    old: &Value,
    path: &Path,
    may_run_again: &dyn Fn(&str, i64) -> bool,
    errors: &mut FieldErrors,
) {
    for (index, was) in items(old).iter().enumerate() {
        let ended = &was["state"]["terminated"];
        let is = items(new).iter().find(|is| is["name"] == was["name"]);
        if !ended.is_null()
            && is.is_some_and(|is| is["state"]["terminated"].is_null())
            && !may_run_again(text(was, "name"), ended["exitCode"].as_i64().unwrap_or(0))
        {
            let why = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&path.index(index).child("state"), why));
        }
    }
}

/// At most one address of each family; what was wrong before may stay.
fn validate_addresses(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let addresses = items(new);
    for (index, address) in addresses.iter().enumerate() {
        let known = items(old).iter().any(|was| was["ip"] == address["ip"]);
        if !known {
            let value = json!(text(address, "ip"));
            ip(&path.index(index), &value, errors);
        }
    }
    if addresses.len() < 2 {
        return;
    }
    let parsed: Option<Vec<IpAddr>> = addresses
        .iter()
        .map(|address| text(address, "ip").parse().ok())
        .collect();
    match parsed {
        None => {
            let wrong = addresses
                .iter()
                .position(|address| text(address, "ip").parse::<IpAddr>().is_err())
                .unwrap_or_default();
            let why = format!(
                "failed to check for dual stack with error:invalid IP[{wrong}]: {}",
                text(&addresses[wrong], "ip")
            );
            errors.push(FieldError::new(
                crate::field::Kind::Internal,
                path,
                &Value::Null,
                why,
            ));
        }
        Some(parsed) if parsed.len() > 2 || parsed[0].is_ipv4() == parsed[1].is_ipv4() => {}
        Some(_) => return,
    }
    let shown: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"IP": address["ip"]}))
        .collect();
    let why = "may specify no more than one IP for each IP family";
    errors.push(FieldError::invalid(path, &Value::Array(shown), why));
}
