//! Warnings about the containers of a pod, alone and beside each other.

use super::super::check::{items, text};
use super::fraction;
use crate::field::Path;
use crate::schema::gotext::quote;
use serde_json::{Value, json};

const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The pod's containers with their paths, in the order in which they are looked at.
fn all<'a>(spec: &'a Value, path: &Path) -> Vec<(&'a Value, Path)> {
    let mut all = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in items(&spec[list]).iter().enumerate() {
            all.push((container, path.child(list).index(index)));
        }
    }
    all
}

/// Warns of the containers of a pod (then `path` is the root) or of a template.
pub(super) fn warn(template: &Value, path: &Path, said: &mut Vec<String>) {
    let spec = &template["spec"];
    let containers = all(spec, &path.child("spec"));
    let annotations = path.child("metadata").child("annotations");
    let given = &template["metadata"]["annotations"];
    for (container, at) in &containers {
        let context = &container["securityContext"];
        let key = format!("{SECCOMP}{}", text(container, "name"));
        if context["seccompProfile"].is_null() && !given[&key].is_null() {
            said.push(format!(
                r#"{}: non-functional in v1.27+; use the "seccompProfile" field instead"#,
                annotations.key(&key)
            ));
        }
        let key = format!("{APPARMOR}{}", text(container, "name"));
        if *path != Path::root()
            && context["appArmorProfile"].is_null()
            && let Some(annotation) = given[&key].as_str()
        {
            let of_pod = &spec["securityContext"]["appArmorProfile"];
            if of_pod.is_null() || Some(of_pod) != app_armor(annotation).as_ref() {
                said.push(format!(
                    r#"{}: deprecated since v1.30; use the "appArmorProfile" field instead"#,
                    annotations.key(&key)
                ));
            }
        }
        for resource in ["memory", "ephemeral-storage"] {
            for kind in ["limits", "requests"] {
                let at = at.child("resources").child(kind).key(resource);
                fraction(&at, &container["resources"][kind][resource], said);
            }
        }
        variables(&container["env"], &at.child("env"), said);
    }
    ports(&containers, said);
    port_names(&containers, said);
}

/// The field that says what an annotation said.
fn app_armor(annotation: &str) -> Option<Value> {
    match annotation {
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        "unconfined" => Some(json!({"type": "Unconfined"})),
        other => other
            .strip_prefix("localhost/")
            .map(|profile| json!({"type": "Localhost", "localhostProfile": profile})),
    }
}

/// A variable that is there twice, unless the later one is made of the earlier one.
fn variables(variables: &Value, path: &Path, said: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, variable) in items(variables).iter().enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let reference = format!("$({name})");
        if !variable["valueFrom"].is_null() || value == reference || !value.contains(&reference) {
            said.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(index),
                quote(name)
            ));
        }
    }
}

/// Ports of one number and protocol.
fn ports(containers: &[(&Value, Path)], said: &mut Vec<String>) {
    let mut seen: Vec<(i64, &str, &Value, Path)> = Vec::new();
    for (container, path) in containers {
        for (index, port) in items(&container["ports"]).iter().enumerate() {
            let at = path.child("ports").index(index);
            let host = |port: &Value| port["hostPort"].as_i64().unwrap_or(0);
            let (number, protocol) = (
                port["containerPort"].as_i64().unwrap_or(0),
                text(port, "protocol"),
            );
            let address = text(port, "hostIP");
            if !address.is_empty() && host(port) == 0 {
                said.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{address}}}",
                    text(port, "name")
                ));
            }
            for (_, _, other, place) in seen.iter().filter(|(n, p, ..)| (*n, *p) == (number, protocol)) {
                let same_host = host(port) == host(other);
                let what = if same_host && address == text(other, "hostIP") {
                    "duplicate port definition"
                } else if host(port) == 0 || host(other) == 0 {
                    "overlapping port definition"
                } else if same_host && (address.is_empty() || text(other, "hostIP").is_empty()) {
                    "dangerously ambiguous port definition"
                } else {
                    continue;
                };
                said.push(format!("{at}: {what} with {place}"));
            }
            seen.push((number, protocol, port, at));
        }
    }
}

/// Ports of one name, of which only the first is found by it.
fn port_names(containers: &[(&Value, Path)], said: &mut Vec<String>) {
    let mut seen: Vec<(&str, Path)> = Vec::new();
    for (container, path) in containers {
        for (index, port) in items(&container["ports"]).iter().enumerate() {
            let (name, at) = (text(port, "name"), path.child("ports").index(index));
            if name.is_empty() {
                continue;
            }
            match seen.iter().find(|(other, _)| *other == name) {
                Some((_, first)) => said.push(format!(
                    "{at}: duplicate port name {} with {first}, services and probes that select ports by name will use {first}",
                    quote(name)
                )),
                None => seen.push((name, at)),
            }
        }
    }
}
