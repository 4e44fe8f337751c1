//! What the endpoint slice controller does: the slices of a Service with a selector follow its pods.

use super::plan::{Action, Plan, Scene, is_ready};
use super::world::{Kind, Ref, is_deleting, text, uid, zone};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints in a slice at most.
const MOST: usize = 100;
/// The longest name to which a dash and a generated part can be appended.
const LONGEST_NAME: usize = 252;

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, service: &Value) -> Plan {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" || spec["selector"].is_null() {
        return Plan::default();
    }
    let families: Vec<&str> = spec["ipFamilies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let slices: Vec<(&Ref, &Value)> = scene
        .world
        .in_namespace(Kind::EndpointSlice, &at.namespace)
        .filter(|(_, slice)| {
            let labels = &slice["metadata"]["labels"];
            labels[SERVICE] == *at.name && labels[MANAGED_BY] == CONTROLLER && !is_deleting(slice)
        })
        .collect();
    let mut plan = Plan::default();
    for (at, slice) in &slices {
        if !families.contains(&text(slice, "/addressType")) {
            plan.actions.push(delete(at, slice));
        }
    }
    for family in families {
        let existing = slices
            .iter()
            .filter(|(_, slice)| slice["addressType"] == family)
            .copied();
        plan.actions
            .extend(plan_family(scene, at, service, family, existing.collect()));
    }
    plan
}

/// What the slices of one family of addresses are to become.
#[derive(Default)]
struct Changes {
    create: Vec<Value>,
    update: Vec<(Ref, Value)>,
    delete: Vec<(Ref, Value)>,
}

fn plan_family(
    scene: &Scene<'_>,
    at: &Ref,
    service: &Value,
    family: &str,
    existing: Vec<(&Ref, &Value)>,
) -> Vec<Action> {
    let mut changes = Changes::default();
    let count = existing.len();
    let mut by_ports: BTreeMap<String, Vec<(&Ref, &Value)>> = BTreeMap::new();
    for (slice_at, slice) in existing {
        if is_owned(slice, service) {
            let ports = key(slice["ports"].as_array().cloned().unwrap_or_default());
            by_ports.entry(ports).or_default().push((slice_at, slice));
        } else {
            changes.delete.push((slice_at.clone(), slice.clone()));
        }
    }
    let labels = labels_of(service);
    let mut wanted: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let pods = scene.world.in_namespace(Kind::Pod, &at.namespace);
    for (_, pod) in pods.filter(|(_, pod)| is_selected(service, pod) && has_address(pod)) {
        let ports = ports_of(service, pod);
        let entry = wanted
            .entry(key(ports.clone()))
            .or_insert_with(|| (ports, Vec::new()));
        entry.1.extend(endpoint(scene, service, pod, family));
    }
    for (ports, (of_pods, endpoints)) in wanted {
        let there = by_ports.remove(&ports).unwrap_or_default();
        let new = || new_slice(service, &labels, family, &of_pods);
        fill(&labels, there, endpoints, &new, &mut changes);
    }
    for (at, slice) in by_ports.into_values().flatten() {
        changes.delete.push((at.clone(), slice.clone()));
    }
    if count == changes.delete.len() && changes.create.is_empty() {
        // A Service without endpoints has a slice that says so.
        let placeholder = new_slice(service, &labels, family, &[]);
        match changes.delete.as_slice() {
            [(_, only)] if is_placeholder(only, service, &labels) => changes.delete.clear(),
            _ => changes.create.push(placeholder),
        }
    }
    changes.into_actions(at, service)
}

impl Changes {
    /// The writes; a slice that would go is rather made into one that would come.
    fn into_actions(mut self, at: &Ref, service: &Value) -> Vec<Action> {
        let mut gone = Vec::new();
        for (at, slice) in self.delete {
            if is_owned(&slice, service)
                && let Some(new) = self.create.pop()
            {
                self.update.push((at, with(&slice, &new)));
            } else {
                gone.push(delete(&at, &slice));
            }
        }
        let create = self.create.into_iter().map(|mut slice| {
            slice["metadata"]["namespace"] = json!(at.namespace);
            Action::Create(Kind::EndpointSlice, slice)
        });
        let update = self.update.into_iter().map(|(at, slice)| {
            let patch = json!({
                "metadata": {
                    "resourceVersion": slice["metadata"]["resourceVersion"],
                    "labels": slice["metadata"]["labels"],
                },
                "endpoints": slice["endpoints"],
                "ports": slice["ports"],
            });
            Action::Patch(at, patch)
        });
        create.chain(update).chain(gone).collect()
    }
}

/// Puts endpoints into the slices that are there, and what has no place into new ones. Endpoints stay where they are.
fn fill(
    labels: &Map<String, Value>,
    there: Vec<(&Ref, &Value)>,
    mut wanted: Vec<Value>,
    new: &dyn Fn() -> Value,
    changes: &mut Changes,
) {
    let mut unchanged: Vec<(&Ref, &Value)> = Vec::new();
    let mut touched: Vec<(Ref, Value)> = Vec::new();
    for (at, slice) in there {
        let (old, mut kept) = (list(slice, "endpoints"), Vec::new());
        for endpoint in old {
            if let Some(place) = wanted.iter().position(|wanted| is_same(wanted, endpoint)) {
                kept.push(wanted.remove(place));
            }
        }
        let relabelled = labels_differ(slice, labels);
        if kept.as_slice() == old && relabelled.is_none() {
            unchanged.push((at, slice));
        } else if kept.is_empty() && !old.is_empty() {
            changes.delete.push((at.clone(), slice.clone()));
        } else {
            let mut slice = slice.clone();
            slice["endpoints"] = json!(kept);
            slice["metadata"]["labels"] = relabelled.unwrap_or_else(|| json!(labels));
            touched.push((at.clone(), slice));
        }
    }
    // The fullest ones first.
    touched.sort_by_key(|(_, slice)| std::cmp::Reverse(list(slice, "endpoints").len()));
    for (_, slice) in &mut touched {
        add(slice, &mut wanted);
    }
    while !wanted.is_empty() {
        let room = |slice: &Value| (MOST - list(slice, "endpoints").len()).checked_sub(wanted.len());
        let best = unchanged
            .iter()
            .enumerate()
            .filter_map(|(index, (_, slice))| Some((room(slice)?, index)))
            .min();
        if let Some((_, index)) = best {
            let (at, slice) = unchanged.remove(index);
            let mut slice = slice.clone();
            add(&mut slice, &mut wanted);
            touched.push((at.clone(), slice));
        } else {
            let mut slice = new();
            add(&mut slice, &mut wanted);
            changes.create.push(slice);
        }
    }
    changes.update.extend(touched);
}

fn list<'v>(slice: &'v Value, field: &str) -> &'v [Value] {
    slice[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Adds endpoints to a slice as long as there is room.
fn add(slice: &mut Value, endpoints: &mut Vec<Value>) {
    let room = MOST.saturating_sub(list(slice, "endpoints").len());
    let some = endpoints.drain(..room.min(endpoints.len()));
    match slice["endpoints"].as_array_mut() {
        Some(there) => there.extend(some),
        None => slice["endpoints"] = some.collect(),
    }
}

/// Whether two endpoints are the same, whatever state it is in.
fn is_same(one: &Value, other: &Value) -> bool {
    one["addresses"] == other["addresses"]
        && one["hostname"] == other["hostname"]
        && one["targetRef"]["uid"] == other["targetRef"]["uid"]
        && one["targetRef"]["name"] == other["targetRef"]["name"]
}

/// A slice with the content of another; its labels are a patch of those that it has.
fn with(slice: &Value, content: &Value) -> Value {
    let mut slice = slice.clone();
    if let Some(labels) = content["metadata"]["labels"].as_object() {
        slice["metadata"]["labels"] = labels_differ(&slice, labels).unwrap_or_else(|| json!(labels));
    }
    slice["endpoints"] = content["endpoints"].clone();
    slice["ports"] = content["ports"].clone();
    slice
}

fn delete(at: &Ref, slice: &Value) -> Action {
    Action::Delete {
        at: at.clone(),
        uid: uid(slice).to_owned(),
        now: false,
    }
}

fn is_owned(slice: &Value, service: &Value) -> bool {
    let owners = slice
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| {
        owner["uid"] == uid(service) && owner["kind"] == "Service" && owner["apiVersion"] == "v1"
    })
}

fn is_selected(service: &Value, pod: &Value) -> bool {
    let mut selector = service["spec"]["selector"].as_object().into_iter().flatten();
    selector.all(|(name, value)| pod["metadata"]["labels"][name] == *value)
}

/// Whether a pod is, or may become, one to send traffic to.
fn has_address(pod: &Value) -> bool {
    !matches!(text(pod, "/status/phase"), "Failed" | "Succeeded")
        && (!text(pod, "/status/podIP").is_empty() || pod.pointer("/status/podIPs/0").is_some())
}

/// What tells one set of ports from another.
fn key(mut ports: Vec<Value>) -> String {
    ports.sort_by_key(ToString::to_string);
    Value::Array(ports).to_string()
}

/// The Service's ports as this pod has them.
fn ports_of(service: &Value, pod: &Value) -> Vec<Value> {
    let mut ports = Vec::new();
    for port in list(&service["spec"], "ports") {
        let Some(number) = number_of(port, pod) else {
            continue;
        };
        let mut found = json!({
            "name": port["name"].as_str().unwrap_or_default(), "port": number, "protocol": port["protocol"],
        });
        if !port["appProtocol"].is_null() {
            found["appProtocol"] = port["appProtocol"].clone();
        }
        ports.push(found);
    }
    ports
}

/// The number of a Service's port in a pod: the target, or that of the container's port of its name.
fn number_of(port: &Value, pod: &Value) -> Option<i64> {
    let Some(name) = port["targetPort"].as_str() else {
        return port["targetPort"].as_i64();
    };
    let sidecars = list(&pod["spec"], "initContainers")
        .iter()
        .filter(|container| container["restartPolicy"] == "Always");
    let containers = list(&pod["spec"], "containers").iter().chain(sidecars);
    containers
        .flat_map(|container| list(container, "ports"))
        .find(|there| there["name"] == name && there["protocol"] == port["protocol"])
        .and_then(|there| there["containerPort"].as_i64())
}

/// A pod's endpoint, where it has an address of the family and is on a node that is there.
fn endpoint(scene: &Scene<'_>, service: &Value, pod: &Value, family: &str) -> Option<Value> {
    let early = service["spec"]["publishNotReadyAddresses"] == true;
    let node_name = text(pod, "/spec/nodeName");
    let node = scene.world.get(&Ref {
        kind: Kind::Node,
        namespace: String::new(),
        name: node_name.to_owned(),
    });
    if node.is_none() && !early {
        return None;
    }
    let addresses: Vec<String> = list(&pod["status"], "podIPs")
        .iter()
        .filter_map(|address| text(address, "/ip").parse::<IpAddr>().ok())
        .filter(|address| address.is_ipv4() == (family == "IPv4"))
        .map(|address| address.to_string())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (is_ready(pod), is_deleting(pod));
    let ready = early || serving && !terminating;
    let mut endpoint = json!({
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {
            "kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"], "uid": uid(pod),
        },
    });
    if !node_name.is_empty() {
        endpoint["nodeName"] = json!(node_name);
    }
    let zone = node.map(zone).unwrap_or_default();
    if !zone.is_empty() {
        endpoint["zone"] = json!(zone);
    }
    let hostname = text(pod, "/spec/hostname");
    if !hostname.is_empty() && pod["spec"]["subdomain"] == service["metadata"]["name"] {
        endpoint["hostname"] = json!(hostname);
    }
    if ready {
        hint(service, node_name, zone, &mut endpoint);
    }
    Some(endpoint)
}

/// Where the Service wants traffic to stay close, who an endpoint is for.
fn hint(service: &Value, node: &str, zone: &str, endpoint: &mut Value) {
    let distribution = text(service, "/spec/trafficDistribution");
    let same_node = distribution == "PreferSameNode";
    if !same_node && !["PreferClose", "PreferSameZone"].contains(&distribution) {
        return;
    }
    if !zone.is_empty() {
        endpoint["hints"]["forZones"] = json!([{"name": zone}]);
    }
    if same_node && !node.is_empty() {
        endpoint["hints"]["forNodes"] = json!([{"name": node}]);
    }
}

fn is_reserved(label: &str) -> bool {
    [SERVICE, MANAGED_BY, HEADLESS].contains(&label)
}

/// The labels of a Service's slices: its own, and whose they are.
fn labels_of(service: &Value) -> Map<String, Value> {
    let mut labels = Map::new();
    let own = service["metadata"]["labels"].as_object();
    for (name, value) in own.into_iter().flatten().filter(|(name, _)| !is_reserved(name)) {
        labels.insert(name.clone(), value.clone());
    }
    if matches!(text(service, "/spec/clusterIP"), "" | "None") {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    labels.insert(SERVICE.to_owned(), service["metadata"]["name"].clone());
    labels.insert(MANAGED_BY.to_owned(), json!(CONTROLLER));
    labels
}

/// A merge patch that gives a slice the labels, where those that follow the Service differ.
fn labels_differ(slice: &Value, labels: &Map<String, Value>) -> Option<Value> {
    let own = |labels: &Map<String, Value>| -> Map<String, Value> {
        let own = labels.iter().filter(|(name, _)| !is_reserved(name));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let none = Map::new();
    let old = slice["metadata"]["labels"].as_object().unwrap_or(&none);
    if own(old) == own(labels) {
        return None;
    }
    let mut patch = labels.clone();
    for name in old.keys().filter(|name| !labels.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

fn new_slice(service: &Value, labels: &Map<String, Value>, family: &str, ports: &[Value]) -> Value {
    let name = text(service, "/metadata/name");
    let dash = if name.len() <= LONGEST_NAME { "-" } else { "" };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{name}{dash}"),
            "labels": labels,
            "ownerReferences": super::plan::owned_by(Kind::Service, service),
        },
        "addressType": family, "endpoints": [], "ports": ports,
    })
}

/// Whether a slice says that there is no endpoint, as a new one would.
fn is_placeholder(slice: &Value, service: &Value, labels: &Map<String, Value>) -> bool {
    list(slice, "endpoints").is_empty()
        && list(slice, "ports").is_empty()
        && is_owned(slice, service)
        && slice["metadata"]["labels"].as_object() == Some(labels)
}
