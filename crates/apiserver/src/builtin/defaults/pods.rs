//! Defaults of pods and of what is in them.

use super::{Fields, is_empty, object, set, set_number, text};
use crate::builtin::quantity::Quantity;
use serde_json::{Value, json};

/// Files of Secrets, ConfigMaps and projections are 0644.
const FILE_MODE: i64 = 0o644;

pub(super) fn of_type(name: &str, map: &mut Fields) {
    match name {
        "PodSpec" => {
            set(map, "dnsPolicy", "ClusterFirst");
            set(map, "restartPolicy", "Always");
            set(map, "securityContext", json!({}));
            set(map, "terminationGracePeriodSeconds", 30);
            set(map, "schedulerName", "default-scheduler");
            let grace = map.get_mut("terminationGracePeriodSeconds");
            if let Some(grace) = grace.filter(|grace| grace.as_i64().is_some_and(i64::is_negative)) {
                *grace = 1.into();
            }
            // The older name of the field is written beside the newer one.
            let account = match text(map, "serviceAccountName") {
                "" => text(map, "serviceAccount").to_owned(),
                name => name.to_owned(),
            };
            if !account.is_empty() {
                map.insert("serviceAccountName".to_owned(), account.clone().into());
                map.insert("serviceAccount".to_owned(), account.into());
            }
        }
        "PodStatus" => addresses(map),
        "Container" | "EphemeralContainer" => container(map),
        "Probe" => {
            set_number(map, "timeoutSeconds", 1);
            set_number(map, "periodSeconds", 10);
            set_number(map, "successThreshold", 1);
            set_number(map, "failureThreshold", 3);
        }
        "GRPCAction" => set(map, "service", ""),
        "HTTPGetAction" => {
            set(map, "path", "/");
            set(map, "scheme", "HTTP");
            set(map, "port", 0);
        }
        "TCPSocketAction" => set(map, "port", 0),
        "ObjectFieldSelector" => set(map, "apiVersion", "v1"),
        "ResourceFieldSelector" => set(map, "divisor", "0"),
        "Volume" => volume(map),
        "SecretVolumeSource"
        | "ConfigMapVolumeSource"
        | "DownwardAPIVolumeSource"
        | "ProjectedVolumeSource" => {
            set(map, "defaultMode", FILE_MODE);
        }
        "ServiceAccountTokenProjection" => set(map, "expirationSeconds", 3600),
        "HostPathVolumeSource" if map.get("type").is_none_or(Value::is_null) => {
            map.insert("type".to_owned(), "".into());
        }
        "ISCSIVolumeSource" | "ISCSIPersistentVolumeSource" => set(map, "iscsiInterface", "default"),
        "RBDVolumeSource" | "RBDPersistentVolumeSource" => {
            set(map, "pool", "rbd");
            set(map, "user", "admin");
            set(map, "keyring", "/etc/ceph/keyring");
        }
        _ => {}
    }
}

fn container(map: &mut Fields) {
    let policy = pull_policy(text(map, "image"));
    set(map, "imagePullPolicy", policy);
    set(map, "terminationMessagePath", "/dev/termination-log");
    set(map, "terminationMessagePolicy", "File");
}

/// `Always` for images that are the latest, said or unsaid.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains('@') {
        return "IfNotPresent";
    }
    match name.split_once(':') {
        // What cannot be read as an image has no tag at all.
        _ if name.is_empty()
            || name
                .chars()
                .any(|c| c.is_whitespace() || c.is_ascii_uppercase() && !name.contains(':')) =>
        {
            "IfNotPresent"
        }
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn volume(map: &mut Fields) {
    if map
        .iter()
        .all(|(name, source)| name == "name" || source.is_null())
    {
        map.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(image) = map.get_mut("image").and_then(Value::as_object_mut) {
        let policy = pull_policy(text(image, "reference"));
        set(image, "pullPolicy", policy);
    }
}

fn host_ports(containers: Option<&mut Value>) {
    let containers = containers.and_then(Value::as_array_mut).into_iter().flatten();
    for port in containers
        .filter_map(|container| container.get_mut("ports")?.as_array_mut())
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_number(port, "hostPort", number);
        }
    }
}

/// The address is the first of the addresses; who changes only it means it alone.
fn addresses(map: &mut Fields) {
    let address = text(map, "podIP").to_owned();
    let first = map
        .get("podIPs")
        .and_then(|list| list.get(0)?.get("ip")?.as_str());
    match first.map(str::to_owned) {
        Some(first) if address.is_empty() => {
            map.insert("podIP".to_owned(), first.into());
        }
        first if !address.is_empty() && first.as_deref() != Some(&address) => {
            map.insert("podIPs".to_owned(), json!([{"ip": address}]));
        }
        _ => {}
    }
}

/// What a Pod sets that a template does not.
pub(super) fn of_pod(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            requests_from_limits(container);
        }
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["containers", "initContainers"] {
            host_ports(spec.get_mut(list));
        }
    }
    set(spec, "enableServiceLinks", true);
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = object(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    if let Some(requests) = object(resources, "requests") {
        for (name, limit) in limits {
            if is_empty(requests.get(&name)) {
                requests.insert(name, limit);
            }
        }
    }
}

/// A pod's class of service, from its containers' requests and limits.
pub(in crate::builtin) fn quality_of_service(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let amount = |kind: &str| {
                    let text = container["resources"][kind][resource].as_str()?;
                    Quantity::parse(text)
                        .ok()
                        .map(|q| q.nanos)
                        .filter(|nanos| *nanos > 0)
                };
                let (request, limit) = (amount("requests"), amount("limits"));
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
