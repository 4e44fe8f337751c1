//! What the spec of a Service may say.

use super::check::{
    complaints, ip, items, label, not_supported, port_number, port_reference, subdomain, text,
};
use super::labels::validate_labels;
use super::warnings::of_address;
use crate::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn validate(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let kind = text(spec, "type");
    let headless = spec["clusterIP"] == "None";
    if items(&spec["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(
                &path.child("clusterIPs").index(0),
                &json!("None"),
                why,
            ));
        }
        "ExternalName" => {
            if !items(&spec["clusterIPs"]).is_empty() {
                let why = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(&path.child("clusterIPs"), why));
            }
            let name = text(spec, "externalName").trim_end_matches('.');
            if name.is_empty() {
                errors.push(FieldError::required(&path.child("externalName"), ""));
            } else {
                subdomain(&path.child("externalName"), name, &mut errors);
            }
        }
        _ => {}
    }
    validate_ports(spec, &path, &mut errors);
    validate_labels(&path.child("selector"), &spec["selector"], &mut errors);
    not_supported(
        &path.child("sessionAffinity"),
        &spec["sessionAffinity"],
        &["ClientIP", "None"],
        &mut errors,
    );
    validate_affinity(spec, &path, &mut errors);
    validate_addresses(spec, &path, &mut errors);
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    not_supported(&path.child("type"), &spec["type"], &types, &mut errors);
    validate_balancer(spec, &path, &mut errors);
    validate_policies(spec, &path, &mut errors);
    errors
}

fn validate_ports(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let ports = items(&spec["ports"]);
    let mut names: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.child("ports").index(index);
        let name = text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(&at.child("name"), ""));
            }
        } else {
            label(&at.child("name"), name, errors);
            if names.contains(&name) {
                errors.push(FieldError::duplicate(&at.child("name"), &json!(name)));
            }
            names.push(name);
        }
        port_number(&at.child("port"), &port["port"], errors);
        not_supported(
            &at.child("protocol"),
            &port["protocol"],
            &["SCTP", "TCP", "UDP"],
            errors,
        );
        port_reference(&at.child("targetPort"), &port["targetPort"], errors);
        if let Some(protocol) = port["appProtocol"].as_str() {
            super::check::qualified(&at.child("appProtocol"), protocol, errors);
        }
        if text(spec, "type") == "ClusterIP" && port["nodePort"].as_i64().unwrap_or(0) != 0 {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&at.child("nodePort"), why));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let same = |other: &Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        if ports[..index].iter().any(same) {
            // The message shows the server's own form of what must be unique.
            let shown = format!(
                r#"{{"Name":"","Protocol":{},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                port["protocol"], port["port"]
            );
            let at = path.child("ports").index(index);
            errors.push(FieldError::new(Kind::Duplicate, &at, &Value::Null, shown).omitting_value());
        }
    }
}

fn validate_affinity(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    if spec["sessionAffinity"] != "ClientIP" {
        return;
    }
    let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if !seconds
        .as_i64()
        .is_some_and(|seconds| (1..=86_400).contains(&seconds))
    {
        let at = path
            .child("sessionAffinityConfig")
            .child("clientIP")
            .child("timeoutSeconds");
        errors.push(FieldError::invalid(
            &at,
            seconds,
            "must be greater than 0 and less than 86400",
        ));
    }
}

fn validate_addresses(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let addresses = items(&spec["clusterIPs"]);
    let at = path.child("clusterIPs");
    if !text(spec, "clusterIP").is_empty() && addresses.first() != Some(&spec["clusterIP"]) {
        errors.push(FieldError::invalid(
            &at,
            &spec["clusterIPs"],
            "first value must match `clusterIP`",
        ));
    }
    if text(spec, "type") != "ExternalName" {
        for (index, address) in addresses.iter().enumerate() {
            if address != "None" {
                ip(&at.index(index), address, errors);
            }
        }
    }
    let at = path.child("ipFamilies");
    let mut seen: Vec<&Value> = Vec::new();
    for (index, family) in items(&spec["ipFamilies"]).iter().enumerate() {
        let before = errors.len();
        not_supported(&at.index(index), family, &["IPv4", "IPv6"], errors);
        if errors.len() == before && seen.contains(&family) {
            errors.push(FieldError::duplicate(&at.index(index), family));
        }
        seen.push(family);
    }
    let headless = spec["clusterIP"] == "None";
    let selects = spec["selector"]
        .as_object()
        .is_some_and(|selector| !selector.is_empty());
    if headless && !selects || text(spec, "type") == "ExternalName" || !errors.is_empty() {
        return;
    }
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(
            &path.child("ipFamilyPolicy"),
            &spec["ipFamilyPolicy"],
            why,
        ));
    }
    for (index, family) in items(&spec["ipFamilies"]).iter().enumerate() {
        if family == "IPv6" {
            errors.push(FieldError::invalid(
                &at.index(index),
                family,
                "not configured on this cluster",
            ));
        }
    }
}

fn validate_balancer(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = text(spec, "type") == "LoadBalancer";
    if !items(&spec["loadBalancerSourceRanges"]).is_empty() {
        let at = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.push(FieldError::forbidden(&at, ONLY));
        }
        for (index, range) in items(&spec["loadBalancerSourceRanges"]).iter().enumerate() {
            let valid = range.as_str().is_some_and(|range| {
                range.trim().split_once('/').is_some_and(|(address, bits)| {
                    let most = if address.contains(':') { 128 } else { 32 };
                    address.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
                })
            });
            if !valid {
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned();
                complaints(&at.index(index), range, vec![why], errors);
            }
        }
    }
    if !spec["allocateLoadBalancerNodePorts"].is_null() && !balanced {
        errors.push(FieldError::forbidden(
            &path.child("allocateLoadBalancerNodePorts"),
            ONLY,
        ));
    }
    if !spec["loadBalancerClass"].is_null() && !balanced {
        errors.push(FieldError::forbidden(&path.child("loadBalancerClass"), ONLY));
    }
}

fn validate_policies(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let kind = text(spec, "type");
    let outside = ["NodePort", "LoadBalancer"].contains(&kind)
        || (kind == "ClusterIP" && !items(&spec["externalIPs"]).is_empty());
    for (index, address) in items(&spec["externalIPs"]).iter().enumerate() {
        let at = path.child("externalIPs").index(index);
        match ip(&at, address, errors) {
            Some(parsed) if parsed.is_loopback() => {
                let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
                errors.push(FieldError::invalid(&at, address, why));
            }
            Some(parsed) if parsed.is_unspecified() => {
                let why = format!("may not be unspecified ({parsed})");
                errors.push(FieldError::invalid(&at, address, why));
            }
            _ => {}
        }
    }
    let policy = &spec["externalTrafficPolicy"];
    let at = path.child("externalTrafficPolicy");
    if outside {
        not_supported(&at, policy, &["Cluster", "Local"], errors);
    } else if !policy.is_null() {
        errors.push(FieldError::invalid(
            &at,
            policy,
            "may only be set for externally-accessible services",
        ));
    }
    let local = kind == "LoadBalancer" && policy == "Local";
    let health = &spec["healthCheckNodePort"];
    if !local && health.as_i64().unwrap_or(0) != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(
            &path.child("healthCheckNodePort"),
            health,
            why,
        ));
    }
    if !spec["internalTrafficPolicy"].is_null() {
        let at = path.child("internalTrafficPolicy");
        not_supported(&at, &spec["internalTrafficPolicy"], &["Cluster", "Local"], errors);
    }
}

/// What is taken, but does nothing or is on its way out.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut said = Vec::new();
    if !object["metadata"]["annotations"][HINTS].is_null() {
        said.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let external = text(spec, "type") == "ExternalName";
    let headless = text(spec, "type") == "ClusterIP" && spec["clusterIP"] == "None";
    let addresses = |field: &str, said: &mut Vec<String>| {
        for (index, address) in items(&spec[field]).iter().enumerate() {
            let at = path.child(field).index(index);
            of_address(&at, address.as_str().unwrap_or_default(), said);
        }
    };
    addresses("clusterIPs", &mut said);
    let outside = !items(&spec["externalIPs"]).is_empty();
    let balanced = text(spec, "loadBalancerIP");
    if headless {
        for (given, field) in [
            (!balanced.is_empty(), "loadBalancerIP"),
            (outside, "externalIPs"),
            (spec["sessionAffinity"] != "None", "SessionAffinity"),
        ] {
            if given {
                said.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    addresses("externalIPs", &mut said);
    if outside && !headless && !external {
        said.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    of_address(&path.child("loadBalancerIP"), balanced, &mut said);
    if external && outside {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external && !text(spec, "externalName").is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec["trafficDistribution"] == "PreferClose" {
        said.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    said
}
