//! Rows of the core group's kinds.

use super::{Show, containers, items, joined, labels, number, or, text, workloads};
use serde_json::{Value, json};

pub(super) fn layout(plural: &str) -> Option<&'static str> {
    Some(match plural {
        "pods" => "Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*",
        "podtemplates" => "Name|Containers|Images|Pod Labels",
        "replicationcontrollers" => "Name|#Desired|#Current|#Ready|Age|Containers*|Images*|Selector*",
        "services" => "Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*",
        "endpoints" => "Name|Endpoints|Age",
        "nodes" => {
            "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*"
        }
        "events" => "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*",
        "namespaces" => "Name|Status|Age",
        "secrets" => "Name|Type|Data|Age",
        "serviceaccounts" => "Name|Age",
        "persistentvolumes" => {
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode*"
        }
        "persistentvolumeclaims" => {
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*"
        }
        "configmaps" => "Name|Data|Age",
        _ => return None,
    })
}

pub(super) fn cells(plural: &str, show: &Show<'_>) -> Option<Vec<Value>> {
    let (object, spec, status) = (show.object, show.spec(), show.status());
    Some(match plural {
        "pods" => workloads::pod(show),
        "podtemplates" => {
            let [names, images] = containers(&object["template"]["spec"]);
            let said = labels(&object["template"]["metadata"]["labels"]);
            vec![show.name(), names, images, said.into()]
        }
        "replicationcontrollers" => {
            let mut cells = workloads::replicas(show);
            cells.extend(containers(&spec["template"]["spec"]));
            cells.push(labels(&spec["selector"]).into());
            cells
        }
        "services" => service(show),
        "endpoints" => vec![show.name(), endpoints(object).into(), show.age()],
        "nodes" => node(show),
        "events" => event(show),
        "namespaces" => vec![show.name(), status["phase"].clone(), show.age()],
        "secrets" => vec![
            show.name(),
            object["type"].clone(),
            size(&object["data"]).into(),
            show.age(),
        ],
        "configmaps" => {
            let keys = size(&object["data"]) + size(&object["binaryData"]);
            vec![show.name(), keys.into(), show.age()]
        }
        "serviceaccounts" => vec![show.name(), show.age()],
        "persistentvolumes" => volume(show),
        "persistentvolumeclaims" => claim(show),
        _ => return None,
    })
}

fn size(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

fn service(show: &Show<'_>) -> Vec<Value> {
    let spec = show.spec();
    let address = items(&spec["clusterIPs"])
        .first()
        .and_then(Value::as_str)
        .unwrap_or("<none>");
    let ports: Vec<String> = items(&spec["ports"])
        .iter()
        .map(|port| {
            let (number_, protocol, node) = (
                number(port, "port"),
                text(port, "protocol"),
                number(port, "nodePort"),
            );
            if node > 0 {
                format!("{number_}:{node}/{protocol}")
            } else {
                format!("{number_}/{protocol}")
            }
        })
        .collect();
    vec![
        show.name(),
        spec["type"].clone(),
        address.into(),
        external(show).into(),
        or(&ports.join(","), "<none>").into(),
        show.age(),
        labels(&spec["selector"]).into(),
    ]
}

/// Where a Service is reached from outside.
fn external(show: &Show<'_>) -> String {
    let spec = show.spec();
    let own = items(&spec["externalIPs"]).iter().filter_map(Value::as_str);
    match text(spec, "type") {
        "ClusterIP" | "NodePort" => joined(own, "<none>"),
        "LoadBalancer" => {
            let mut points: Vec<&str> = items(&show.status()["loadBalancer"]["ingress"])
                .iter()
                .map(|point| or(text(point, "ip"), text(point, "hostname")))
                .filter(|point| !point.is_empty())
                .collect();
            points.sort_unstable();
            points.dedup();
            joined(points.into_iter().chain(own), "<pending>")
        }
        "ExternalName" => text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(&object["subsets"]) {
        let addresses = items(&subset["addresses"])
            .iter()
            .map(|address| text(address, "ip"));
        let ports = items(&subset["ports"]);
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            all.extend(addresses.clone().map(|ip| {
                let ip = if ip.contains(':') {
                    format!("[{ip}]")
                } else {
                    ip.to_owned()
                };
                format!("{ip}:{}", number(port, "port"))
            }));
        }
    }
    few(&all)
}

/// Up to three, and how many more.
pub(super) fn few(all: &[String]) -> String {
    let shown = all.iter().take(3).cloned().collect::<Vec<_>>().join(",");
    match all.len() {
        0 => "<none>".to_owned(),
        1..=3 => shown,
        more => format!("{shown} + {} more...", more - 3),
    }
}

fn node(show: &Show<'_>) -> Vec<Value> {
    let (object, status) = (show.object, show.status());
    let ready = items(&status["conditions"])
        .iter()
        .find(|condition| condition["type"] == "Ready");
    let mut state = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if show.spec()["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = Vec::new();
    for (name, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Some(role) = name.strip_prefix("node-role.kubernetes.io/") {
            roles.push(role);
        } else if name == "kubernetes.io/role" {
            roles.push(value.as_str().unwrap_or_default());
        }
    }
    roles.retain(|role| !role.is_empty());
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let all = items(&status["addresses"]).iter();
        let found = all.into_iter().find(|address| address["type"] == kind);
        found
            .map_or("<none>", |address| text(address, "address"))
            .to_owned()
    };
    let info = &status["nodeInfo"];
    let mut kernel = or(text(info, "kernelVersion"), "<unknown>").to_owned();
    if !text(info, "architecture").is_empty() {
        kernel = format!("{kernel} ({})", text(info, "architecture"));
    }
    vec![
        show.name(),
        state.into(),
        joined(roles, "<none>").into(),
        show.age(),
        text(info, "kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or(text(info, "osImage"), "<unknown>").into(),
        kernel.into(),
        or(text(info, "containerRuntimeVersion"), "<unknown>").into(),
    ]
}

/// The row of an event under the core group's names; also for those of `events.k8s.io`, once renamed.
pub(super) fn event(show: &Show<'_>) -> Vec<Value> {
    let object = show.object;
    let given = |older: &str, newer: &str| match &object[older] {
        Value::Null => object[newer].clone(),
        value => value.clone(),
    };
    let first = match given("firstTimestamp", "deprecatedFirstTimestamp") {
        Value::Null => show.since(&object["eventTime"]),
        time => show.since(&time),
    };
    let mut last = match given("lastTimestamp", "deprecatedLastTimestamp") {
        Value::Null => first.clone(),
        time => show.since(&time),
    };
    let mut count = given("count", "deprecatedCount")
        .as_i64()
        .filter(|count| *count != 0)
        .unwrap_or(1);
    if object["series"].is_object() {
        last = show.since(&object["series"]["lastObservedTime"]);
        count = number(&object["series"], "count");
    }
    let about = given("involvedObject", "regarding");
    let kind = text(&about, "kind").to_lowercase();
    let target = match text(&about, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = given("source", "deprecatedSource");
    let reporter = given("reportingComponent", "reportingController");
    let component = or(text(&source, "component"), reporter.as_str().unwrap_or_default()).to_owned();
    let instance = or(text(&source, "host"), text(object, "reportingInstance")).to_owned();
    let source = if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    };
    let message = given("message", "note");
    vec![
        last.into(),
        text(object, "type").into(),
        text(object, "reason").into(),
        target.into(),
        text(&about, "fieldPath").into(),
        source.into(),
        message.as_str().unwrap_or_default().trim().into(),
        first.into(),
        json!(count),
        show.name(),
    ]
}

fn modes(list: &Value) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let given = items(list);
    let shown = short
        .iter()
        .filter(|(mode, _)| given.iter().any(|m| m == mode))
        .map(|(_, short)| *short);
    joined(shown, "")
}

fn phase(show: &Show<'_>) -> Value {
    if show.is_deleting() {
        "Terminating".into()
    } else {
        text(show.status(), "phase").into()
    }
}

fn class(show: &Show<'_>) -> Value {
    let annotation = text(
        &show.object["metadata"]["annotations"],
        "volume.beta.kubernetes.io/storage-class",
    );
    or(annotation, text(show.spec(), "storageClassName")).into()
}

fn volume(show: &Show<'_>) -> Vec<Value> {
    let spec = show.spec();
    let claim = &spec["claimRef"];
    let claim = if claim.is_null() {
        String::new()
    } else {
        format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
    };
    vec![
        show.name(),
        or(text(&spec["capacity"], "storage"), "0").into(),
        modes(&spec["accessModes"]).into(),
        text(spec, "persistentVolumeReclaimPolicy").into(),
        phase(show),
        claim.into(),
        class(show),
        or(text(spec, "volumeAttributesClassName"), "<unset>").into(),
        text(show.status(), "reason").into(),
        show.age(),
        or(text(spec, "volumeMode"), "<unset>").into(),
    ]
}

fn claim(show: &Show<'_>) -> Vec<Value> {
    let (spec, status) = (show.spec(), show.status());
    let bound = !text(spec, "volumeName").is_empty();
    let capacity = if bound {
        or(text(&status["capacity"], "storage"), "0")
    } else {
        ""
    };
    let access = if bound {
        modes(&status["accessModes"])
    } else {
        String::new()
    };
    vec![
        show.name(),
        phase(show),
        text(spec, "volumeName").into(),
        capacity.into(),
        access.into(),
        class(show),
        or(text(spec, "volumeAttributesClassName"), "<unset>").into(),
        show.age(),
        or(text(spec, "volumeMode"), "<unset>").into(),
    ]
}
