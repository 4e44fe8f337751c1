//! What the real server warns of, but takes: what is deprecated, does nothing or is ambiguous. Several kinds have
//! pods in them, and claims of volumes; the warnings belong to those parts, not to the kinds.

mod containers;
mod volumes;

use super::check::{items, text};
use super::scheduling::{PREFERRED, REQUIRED};
use crate::builtin::quantity::Quantity;
use crate::field::Path;
use crate::metadata::names;
use crate::schema::gotext::quote;
use serde_json::Value;
use std::net::IpAddr;

/// Labels of nodes that have newer names, or none.
const NODE_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
    ),
    (
        "beta.kubernetes.io/os",
        r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        r#"use "node-role.kubernetes.io/control-plane" instead"#,
    ),
];
/// Annotations of pods that no longer do anything.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const MATCHES_NOTHING: &str = "a null labelSelector results in matching no pod";

/// A new pod.
pub(super) fn of_pod(pod: &Value) -> Vec<String> {
    let mut said = of_host_name(pod, "the Pod's hostname");
    said.extend(of_template(&Path::root(), pod));
    said
}

/// A new or changed object that makes pods of a template. Their names start with its name, where `names_pods` says
/// so; status and metadata are not looked at again.
pub(super) fn of_workload(object: &Value, old: Option<&Value>, names_pods: bool) -> Vec<String> {
    let template = Path::new("spec").child("template");
    let Some(old) = old else {
        let mut said = Vec::new();
        if names_pods {
            said = of_host_name(object, "Pod names and hostnames");
        }
        said.extend(of_template(&template, &object["spec"]["template"]));
        return said;
    };
    if object["metadata"]["generation"] == old["metadata"]["generation"] {
        return Vec::new();
    }
    of_template(&template, &object["spec"]["template"])
}

fn of_host_name(object: &Value, use_of_it: &str) -> Vec<String> {
    let wrong = names::label_1123(text(&object["metadata"], "name"));
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {use_of_it}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        wrong.join(" ")
    )]
}

/// A claim, whose sizes are in bytes.
pub(super) fn of_claim_spec(path: &Path, spec: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for kind in ["requests", "limits"] {
        let at = path.child("resources").child(kind).key("storage");
        fraction(&at, &spec["resources"][kind]["storage"], &mut said);
    }
    said
}

/// A persistent volume.
pub(super) fn of_persistent_volume(spec: &Value, said: &mut Vec<String>) {
    let path = Path::new("spec");
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        said.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            path.child("persistentVolumeReclaimPolicy")
        ));
    }
    let at = path
        .child("nodeAffinity")
        .child("required")
        .child("nodeSelectorTerms");
    let terms = items(&spec["nodeAffinity"]["required"]["nodeSelectorTerms"]);
    for (index, term) in terms.iter().enumerate() {
        of_node_term(&at.index(index), term, false, said);
    }
    volumes::outdated(spec, &path, &["quobyte", "flocker"], said);
}

/// An amount of bytes that is none.
fn fraction(path: &Path, value: &Value, said: &mut Vec<String>) {
    let amount = value.as_str().and_then(|text| Quantity::parse(text).ok());
    if let Some(amount) = amount.filter(|amount| !amount.is_whole()) {
        said.push(format!(
            "{path}: fractional byte value {} is invalid, must be an integer",
            quote(&amount.canonical())
        ));
    }
}

/// An address that is right, but not written as it should be.
pub(super) fn of_address(path: &Path, value: &str, said: &mut Vec<String>) {
    let Ok(IpAddr::V6(address)) = value.parse() else {
        return;
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        said.push(format!(
            "{path}: non-standard IP address {} is invalid: use {}",
            quote(value),
            quote(&mapped.to_string())
        ));
    } else if address.to_string() != value {
        said.push(format!(
            "{path}: IPv6 address {} should be in RFC 5952 canonical format ({})",
            quote(value),
            quote(&address.to_string())
        ));
    }
}

/// What is wrong with a label of nodes.
fn of_node_label(name: &str) -> Option<&'static str> {
    NODE_LABELS
        .iter()
        .find(|(label, _)| *label == name)
        .map(|(_, why)| *why)
}

/// The expressions of a term that selects nodes; the values of preferred ones are not validated, so they are here.
fn of_node_term(path: &Path, term: &Value, judges_values: bool, said: &mut Vec<String>) {
    for (index, expression) in items(&term["matchExpressions"]).iter().enumerate() {
        let at = path.child("matchExpressions").index(index);
        let key = text(expression, "key");
        if let Some(why) = of_node_label(key) {
            said.push(format!("{}: {key} is {why}", at.child("key")));
        }
        let values = items(&expression["values"]).iter().filter(|_| judges_values);
        for (index, value) in values.enumerate() {
            let value = value.as_str().unwrap_or_default();
            for why in names::label_value(value) {
                let at = at.child("values").index(index);
                said.push(format!("{at}: {value} is invalid, {why}"));
            }
        }
    }
}

fn of_template(path: &Path, template: &Value) -> Vec<String> {
    let mut said = Vec::new();
    let (spec, at) = (&template["spec"], path.child("spec"));
    let annotations = path.child("metadata").child("annotations");
    let given = &template["metadata"]["annotations"];
    of_nodes(spec, &at, &mut said);
    for (name, why) in ANNOTATIONS.iter().filter(|(name, _)| !given[*name].is_null()) {
        said.push(format!("{}: {why}", annotations.key(name)));
    }
    volumes::warn(&spec["volumes"], &at.child("volumes"), &mut said);
    for (list, field, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let mut seen: Vec<&str> = Vec::new();
        for (index, item) in items(&spec[list]).iter().enumerate() {
            let value = text(item, field);
            if seen.contains(&value) {
                let at = at.child(list).index(index).child(field);
                said.push(format!("{at}: duplicate {what} {}", quote(value)));
            }
            seen.push(value);
        }
    }
    for (index, secret) in items(&spec["imagePullSecrets"]).iter().enumerate() {
        if text(secret, "name").is_empty() {
            let at = at.child("imagePullSecrets").index(index).child("name");
            said.push(format!("{at}: invalid empty name \"\""));
        }
    }
    for resource in ["memory", "ephemeral-storage"] {
        fraction(
            &at.child("overhead").key(resource),
            &spec["overhead"][resource],
            &mut said,
        );
    }
    if spec["securityContext"]["seccompProfile"].is_null() && !given[SECCOMP_POD].is_null() {
        said.push(format!(
            r#"{}: non-functional in v1.27+; use the "seccompProfile" field instead"#,
            annotations.key(SECCOMP_POD)
        ));
    }
    containers::warn(template, path, &mut said);
    of_pod_affinity(&spec["affinity"], &at.child("affinity"), &mut said);
    for (index, server) in items(&spec["dnsConfig"]["nameservers"]).iter().enumerate() {
        let at = at.child("dnsConfig").child("nameservers").index(index);
        of_address(&at, server.as_str().unwrap_or_default(), &mut said);
    }
    for (index, alias) in items(&spec["hostAliases"]).iter().enumerate() {
        let at = at.child("hostAliases").index(index).child("ip");
        of_address(&at, text(alias, "ip"), &mut said);
    }
    said
}

/// What selects nodes.
fn of_nodes(spec: &Value, path: &Path, said: &mut Vec<String>) {
    for (name, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(why) = of_node_label(name) {
            said.push(format!("{}: {why}", path.child("nodeSelector").key(name)));
        }
    }
    let affinity = &spec["affinity"]["nodeAffinity"];
    let at = path.child("affinity").child("nodeAffinity");
    let terms = at.child(REQUIRED).child("nodeSelectorTerms");
    for (index, term) in items(&affinity[REQUIRED]["nodeSelectorTerms"]).iter().enumerate() {
        of_node_term(&terms.index(index), term, false, said);
    }
    for (index, preferred) in items(&affinity[PREFERRED]).iter().enumerate() {
        let at = at.child(PREFERRED).index(index).child("preference");
        of_node_term(&at, &preferred["preference"], true, said);
    }
    for (index, constraint) in items(&spec["topologySpreadConstraints"]).iter().enumerate() {
        let at = path.child("topologySpreadConstraints").index(index);
        let key = text(constraint, "topologyKey");
        if let Some(why) = of_node_label(key) {
            said.push(format!("{}: {key} is {why}", at.child("topologyKey")));
        }
        if constraint["labelSelector"].is_null() {
            said.push(format!("{}: {MATCHES_NOTHING}", at.child("labelSelector")));
        }
    }
}

fn of_pod_affinity(affinity: &Value, path: &Path, said: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = path.child(kind);
        for (index, term) in items(&affinity[kind][REQUIRED]).iter().enumerate() {
            if term["labelSelector"].is_null() {
                let at = at.child(REQUIRED).index(index).child("labelSelector");
                said.push(format!("{at}: {MATCHES_NOTHING}"));
            }
        }
        for (index, preferred) in items(&affinity[kind][PREFERRED]).iter().enumerate() {
            if preferred["podAffinityTerm"]["labelSelector"].is_null() {
                let at = at.child(PREFERRED).index(index).child("podAffinityTerm");
                said.push(format!("{}: {MATCHES_NOTHING}", at.child("labelSelector")));
            }
        }
    }
}
