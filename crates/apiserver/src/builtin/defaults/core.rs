//! Defaults of the core group's other kinds, and of the few other kinds that controllers meet.

use super::{Fields, object, set, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(super) fn of_type(name: &str, map: &mut Fields) {
    match name {
        "Namespace" => namespace(map),
        "NamespaceStatus" => set(map, "phase", "Active"),
        "Secret" => {
            set(map, "type", "Opaque");
            merge_string_data(map);
        }
        "Service" => service(map),
        "PersistentVolumeClaim" => {
            if let Some(status) = object(map, "status") {
                set(status, "phase", "Pending");
            }
        }
        "PersistentVolumeClaimSpec" => set(map, "volumeMode", "Filesystem"),
        "PersistentVolume" => {
            if let Some(status) = object(map, "status") {
                set(status, "phase", "Pending");
            }
            if let Some(spec) = object(map, "spec") {
                set(spec, "persistentVolumeReclaimPolicy", "Retain");
                set(spec, "volumeMode", "Filesystem");
            }
        }
        "NodeStatus" => {
            if let Some(capacity) = map.get("capacity").filter(|c| c.is_object()).cloned() {
                set(map, "allocatable", capacity);
            }
        }
        "EndpointPort" => set(map, "protocol", "TCP"),
        "ReplicationController" => replication_controller(map),
        "LimitRangeItem" if text(map, "type") == "Container" => limits(map),
        _ => {}
    }
}

/// `stringData` is for writing only: it lands in `data`.
fn merge_string_data(map: &mut Fields) {
    let Some(Value::Object(texts)) = map.remove("stringData") else {
        return;
    };
    if let Some(data) = object(map, "data") {
        for (key, text) in texts {
            data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
        }
    }
}

fn namespace(map: &mut Fields) {
    if let Some(metadata) = object(map, "metadata") {
        let name = text(metadata, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = object(metadata, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    }
}

/// Limits of containers default to the most, requests to the limits, else to the least.
fn limits(map: &mut Fields) {
    for (from, to) in [
        ("max", "default"),
        ("default", "defaultRequest"),
        ("min", "defaultRequest"),
    ] {
        let Some(given) = map.get(from).and_then(Value::as_object).cloned() else {
            continue;
        };
        if let Some(defaults) = object(map, to) {
            for (name, amount) in given {
                defaults.entry(name).or_insert(amount);
            }
        }
    }
}

fn replication_controller(map: &mut Fields) {
    let Some(labels) = map
        .get("spec")
        .map(|spec| spec["template"]["metadata"]["labels"].clone())
        .filter(Value::is_object)
    else {
        return;
    };
    if let Some(spec) = object(map, "spec")
        && spec
            .get("selector")
            .and_then(Value::as_object)
            .is_none_or(Fields::is_empty)
    {
        spec.insert("selector".to_owned(), labels.clone());
    }
    if let Some(metadata) = object(map, "metadata")
        && metadata
            .get("labels")
            .and_then(Value::as_object)
            .is_none_or(Fields::is_empty)
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn service(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    set(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let given = spec
                .get("sessionAffinityConfig")
                .is_some_and(|config| config["clientIP"]["timeoutSeconds"].is_number());
            if !given {
                let config = json!({"clientIP": {"timeoutSeconds": 10800}});
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
    set(spec, "type", "ClusterIP");
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        set(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
        if port
            .get("targetPort")
            .is_none_or(|p| p.is_null() || p == "" || p == 0)
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let outside = kind == "NodePort"
        || kind == "LoadBalancer"
        || (kind == "ClusterIP"
            && spec
                .get("externalIPs")
                .and_then(Value::as_array)
                .is_some_and(|ips| !ips.is_empty()));
    if outside {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind.as_str()) {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        let ingress = map
            .get_mut("status")
            .and_then(|status| status.get_mut("loadBalancer")?.get_mut("ingress"));
        for point in ingress
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            if !text(point, "ip").is_empty() {
                set(point, "ipMode", "VIP");
            }
        }
    }
}

/// Kinds of other groups.
pub(super) fn of_other(name: &str, map: &mut Fields) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    match name {
        "RoleBinding" | "ClusterRoleBinding" => {
            if let Some(role) = object(map, "roleRef") {
                set(role, "apiGroup", RBAC);
            }
        }
        "Subject" if ["User", "Group"].contains(&text(map, "kind")) => set(map, "apiGroup", RBAC),
        "StorageClass" => {
            set(map, "reclaimPolicy", "Delete");
            set(map, "volumeBindingMode", "Immediate");
        }
        "TokenRequestSpec" => set(map, "expirationSeconds", 3600),
        "NetworkPolicyPort" => set(map, "protocol", "TCP"),
        "EndpointPort" => {
            set(map, "name", "");
            set(map, "protocol", "TCP");
        }
        "NetworkPolicy" => network_policy(map),
        "PriorityClass" => set(map, "preemptionPolicy", "PreemptLowerPriority"),
        "ValidatingWebhook" | "MutatingWebhook" => {
            set(map, "failurePolicy", "Fail");
            selectors(map);
            set(map, "timeoutSeconds", 10);
            if name == "MutatingWebhook" {
                set(map, "reinvocationPolicy", "Never");
            }
        }
        "RuleWithOperations" | "NamedRuleWithOperations" => set(map, "scope", "*"),
        "MatchResources" => selectors(map),
        "ServiceReference" => set(map, "port", 443),
        "ValidatingAdmissionPolicySpec" | "MutatingAdmissionPolicySpec" => set(map, "failurePolicy", "Fail"),
        _ => {}
    }
}

fn selectors(map: &mut Fields) {
    set(map, "matchPolicy", "Equivalent");
    set(map, "namespaceSelector", json!({}));
    set(map, "objectSelector", json!({}));
}

fn network_policy(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    if spec
        .get("policyTypes")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        let mut types = vec!["Ingress"];
        if spec
            .get("egress")
            .and_then(Value::as_array)
            .is_some_and(|rules| !rules.is_empty())
        {
            types.push("Egress");
        }
        spec.insert("policyTypes".to_owned(), json!(types));
    }
}
