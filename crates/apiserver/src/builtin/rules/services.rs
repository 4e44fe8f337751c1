//! Services: cluster IPs and ports of nodes are the server's to give.

use super::Rules;
use super::check::{ip, items, subdomain, text};
use super::service_spec::{self, validate};
use super::warnings::of_address;
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

/// The network of cluster IPs, 10.96.0.0/16, and the first ports of its lower part, which is kept for those who
/// ask for a certain one.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const NETWORK_BITS: u32 = 16;
const RESERVED: u32 = 256;
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;
const RESERVED_PORTS: i64 = 86;

/// So many of the last choices are remembered.
const REMEMBERED: usize = 1024;

/// What was given out last. The store is the truth; this bridges the time between a choice and its write, so that
/// two Services that are made at once get different addresses.
#[derive(Default)]
pub(super) struct Services {
    promised: Mutex<VecDeque<String>>,
}

/// What a Service holds: its cluster IPs and node ports.
fn holdings(service: &Value) -> BTreeSet<String> {
    let spec = &service["spec"];
    let mut held = BTreeSet::new();
    for address in items(&spec["clusterIPs"]).iter().chain([&spec["clusterIP"]]) {
        if let Some(address) = address.as_str()
            && !address.is_empty()
            && address != "None"
        {
            held.insert(address.to_owned());
        }
    }
    let ports = items(&spec["ports"]).iter().map(|port| &port["nodePort"]);
    for port in ports
        .chain([&spec["healthCheckNodePort"]])
        .filter_map(Value::as_i64)
    {
        if port != 0 {
            held.insert(port.to_string());
        }
    }
    held
}

fn key(service: &Value) -> String {
    format!(
        "{}/{}",
        text(&service["metadata"], "namespace"),
        text(&service["metadata"], "name")
    )
}

impl Services {
    /// What others hold.
    fn taken(service: &Value, around: &dyn Surroundings) -> BTreeSet<String> {
        let own = key(service);
        let mut taken = BTreeSet::new();
        for other in around.list("", "services", "") {
            if key(&other) != own {
                taken.extend(holdings(&other));
            }
        }
        taken
    }

    /// Gives what the Service needs and has not. What is only shown gets what
    /// stands for an address.
    fn allocate(&self, service: &mut Value, around: &dyn Surroundings) {
        let kind = text(&service["spec"], "type").to_owned();
        let mut taken = Self::taken(service, around);
        let before = holdings(service);
        taken.extend(before.iter().cloned());
        taken.extend(self.promised.lock().iter().cloned());
        let spec = &mut service["spec"];
        if kind != "ExternalName" {
            families(spec);
            let free = if around.dry_run() {
                Some(NETWORK.to_string())
            } else {
                free_address(&taken)
            };
            if items(&spec["clusterIPs"]).is_empty()
                && let Some(address) = free
            {
                spec["clusterIP"] = json!(address);
                spec["clusterIPs"] = json!([address]);
            }
        }
        let wants_ports =
            kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] == true);
        if wants_ports {
            let mut given: Vec<(i64, String, i64)> = Vec::new();
            for port in spec["ports"].as_array_mut().into_iter().flatten() {
                let number = port["port"].as_i64().unwrap_or(0);
                let protocol = text(port, "protocol").to_owned();
                if port["nodePort"].as_i64().unwrap_or(0) == 0 {
                    // One port by two protocols is one port of the nodes too.
                    let same = given
                        .iter()
                        .find(|(n, p, _)| *n == number && *p != protocol)
                        .map(|(_, _, node)| *node);
                    let Some(node) = same.or_else(|| free_port(&taken)) else {
                        continue;
                    };
                    taken.insert(node.to_string());
                    port["nodePort"] = json!(node);
                }
                given.push((number, protocol, port["nodePort"].as_i64().unwrap_or(0)));
            }
        }
        let wants_health = kind == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
        if wants_health
            && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0
            && let Some(port) = free_port(&taken)
        {
            spec["healthCheckNodePort"] = json!(port);
        }
        if around.dry_run() {
            return;
        }
        let mut promised = self.promised.lock();
        promised.extend(holdings(service).difference(&before).cloned());
        let surplus = promised.len().saturating_sub(REMEMBERED);
        promised.drain(..surplus);
    }

    /// What was asked for by name, and others hold or nobody may.
    fn validate_holdings(service: &Value, old: &Value, around: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&service["spec"], Path::new("spec"));
        let (taken, own) = (Self::taken(service, around), holdings(old));
        for address in items(&spec["clusterIPs"]).iter().filter_map(Value::as_str) {
            if address == "None" || own.contains(address) {
                continue;
            }
            let Ok(IpAddr::V4(parsed)) = address.parse() else {
                continue;
            };
            let inside =
                u32::from(parsed) >> (32 - NETWORK_BITS) == u32::from(NETWORK) >> (32 - NETWORK_BITS);
            let why = if !inside && around.dry_run() {
                format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {NETWORK}/{NETWORK_BITS}"
                )
            } else if !inside {
                format!(
                    "failed to allocate IP {address}: the provided network does not match the current range"
                )
            } else if taken.contains(address) && !around.dry_run() {
                format!("failed to allocate IP {address}: provided IP is already allocated")
            } else {
                continue;
            };
            errors.push(FieldError::invalid(
                &path.child("clusterIPs"),
                &spec["clusterIPs"],
                why,
            ));
        }
        for (index, port) in items(&spec["ports"]).iter().enumerate() {
            let number = port["nodePort"].as_i64().unwrap_or(0);
            if number == 0 || own.contains(&number.to_string()) {
                continue;
            }
            let at = path.child("ports").index(index).child("nodePort");
            if !NODE_PORTS.contains(&number) {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    NODE_PORTS.start(),
                    NODE_PORTS.end()
                );
                errors.push(FieldError::invalid(&at, &json!(number), why));
            } else if taken.contains(&number.to_string()) {
                let why = "provided port is already allocated";
                errors.push(FieldError::invalid(&at, &json!(number), why));
            }
        }
        errors
    }
}

/// The families of addresses: one of IPv4 but for Services without address and selector, which stand for both.
fn families(spec: &mut Value) {
    let headless = spec["clusterIP"] == "None";
    let selects = spec["selector"]
        .as_object()
        .is_some_and(|selector| !selector.is_empty());
    let given = !items(&spec["ipFamilies"]).is_empty();
    if headless && !selects && !given && spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!("RequireDualStack");
        spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        return;
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!("SingleStack");
    }
    if !given {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
}

/// An address above those that are kept for who asks by name; then one of those.
fn free_address(taken: &BTreeSet<String>) -> Option<String> {
    let size = 1_u32 << (32 - NETWORK_BITS);
    let start = rand::rng().random_range(RESERVED + 1..size - 1);
    let above = (start..size - 1).chain(RESERVED + 1..start);
    above
        .chain(1..=RESERVED)
        .map(|offset| Ipv4Addr::from(u32::from(NETWORK) + offset).to_string())
        .find(|address| !taken.contains(address))
}

fn free_port(taken: &BTreeSet<String>) -> Option<i64> {
    let first = NODE_PORTS.start() + RESERVED_PORTS;
    let start = rand::rng().random_range(first..=*NODE_PORTS.end());
    let above = (start..=*NODE_PORTS.end()).chain(first..start);
    above
        .chain(*NODE_PORTS.start()..first)
        .find(|port| !taken.contains(&port.to_string()))
}

/// The single address and the list of them say the same.
fn sync_addresses(spec: &mut Value) {
    if text(spec, "clusterIP").is_empty() {
        if let Some(first) = items(&spec["clusterIPs"]).first().cloned() {
            spec["clusterIP"] = first;
        }
    } else if items(&spec["clusterIPs"]).is_empty() {
        spec["clusterIPs"] = json!([spec["clusterIP"].clone()]);
    }
}

impl Rules for Services {
    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        sync_addresses(&mut object["spec"]);
        // What is wrong gets nothing, and is refused right after.
        if validate(object).is_empty() && Self::validate_holdings(object, &Value::Null, around).is_empty() {
            self.allocate(object, around);
        }
    }

    fn validate_create(&self, object: &Value, around: &dyn Surroundings) -> FieldErrors {
        let mut errors = validate(object);
        if errors.is_empty() {
            errors = Self::validate_holdings(object, &Value::Null, around);
        }
        errors
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, sub: &str, around: &dyn Surroundings) {
        if !sub.is_empty() {
            return;
        }
        keep_given(&mut object["spec"], &old["spec"]);
        if object["spec"]["type"] != "LoadBalancer" {
            object["status"]["loadBalancer"] = json!({});
        }
        sync_addresses(&mut object["spec"]);
        let holdings = Self::validate_holdings(object, old, around);
        if validate(object).is_empty() && holdings.is_empty() {
            self.allocate(object, around);
        }
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        sub: &str,
        around: &dyn Surroundings,
    ) -> FieldErrors {
        if sub == "status" {
            return validate_status(object);
        }
        let mut errors = FieldErrors::new();
        let (new, was) = (&object["spec"]["clusterIPs"], &old["spec"]["clusterIPs"]);
        let fixed =
            text(&old["spec"], "type") != "ExternalName" && text(&object["spec"], "type") != "ExternalName";
        if fixed && !items(was).is_empty() && items(new).first() != items(was).first() {
            let path = Path::new("spec").child("clusterIPs").index(0);
            errors.push(FieldError::invalid(&path, new, "may not change once set"));
        }
        let classes = (
            &object["spec"]["loadBalancerClass"],
            &old["spec"]["loadBalancerClass"],
        );
        let balanced = |service: &Value| service["spec"]["type"] == "LoadBalancer";
        if balanced(object) && balanced(old) && classes.0 != classes.1 {
            let path = Path::new("spec").child("loadBalancerClass");
            errors.push(FieldError::invalid(&path, classes.0, "may not change once set"));
        }
        errors.extend(validate(object));
        if errors.is_empty() {
            errors = Self::validate_holdings(object, old, around);
        }
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>, sub: &str) -> Vec<String> {
        if sub != "status" {
            return service_spec::warnings(object);
        }
        let mut said = Vec::new();
        let path = Path::new("status").child("loadBalancer").child("ingress");
        let points = items(&object["status"]["loadBalancer"]["ingress"]);
        for (index, point) in points.iter().enumerate() {
            of_address(&path.index(index), text(point, "ip"), &mut said);
        }
        said
    }

    fn released(&self, object: &Value) {
        let freed = holdings(object);
        self.promised.lock().retain(|given| !freed.contains(given));
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let spec = &object["spec"];
        vec![
            ("spec.clusterIP", text(spec, "clusterIP").to_owned()),
            ("spec.type", text(spec, "type").to_owned()),
        ]
    }
}

/// What the server gave stays where the update leaves it out, and goes where the new type has no use for it.
fn keep_given(spec: &mut Value, old: &Value) {
    let (kind, was) = (text(spec, "type").to_owned(), text(old, "type"));
    let same = |spec: &Value, field: &str| spec[field] == old[field];
    if kind == "ExternalName" && was != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if same(spec, field) {
                spec[field] = Value::Null;
            }
        }
        for field in [
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
            "externalTrafficPolicy",
        ] {
            spec[field] = Value::Null;
        }
    } else if was != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec[field].is_null() || spec[field] == "" || spec[field].as_array().is_some_and(Vec::is_empty)
            {
                spec[field] = old[field].clone();
            }
        }
    }
    let has_ports = |kind: &str| ["NodePort", "LoadBalancer"].contains(&kind);
    for (index, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let before = items(&old["ports"]);
        let matching = before
            .iter()
            .find(|o| {
                o["port"] == port["port"] && o["protocol"] == port["protocol"] && o["name"] == port["name"]
            })
            .or_else(|| before.get(index).filter(|_| before.len() == 1));
        let Some(matching) = matching else {
            continue;
        };
        if has_ports(&kind) && port["nodePort"].is_null() && has_ports(was) {
            port["nodePort"] = matching["nodePort"].clone();
        } else if !has_ports(&kind) && has_ports(was) && port["nodePort"] == matching["nodePort"] {
            port["nodePort"] = Value::Null;
        }
    }
    if has_ports(was) && !has_ports(&kind) && same(spec, "externalTrafficPolicy") {
        spec["externalTrafficPolicy"] = Value::Null;
    }
    if was == "LoadBalancer" && kind != "LoadBalancer" {
        for field in [
            "allocateLoadBalancerNodePorts",
            "healthCheckNodePort",
            "loadBalancerClass",
        ] {
            if same(spec, field) {
                spec[field] = Value::Null;
            }
        }
    } else if was == "LoadBalancer"
        && spec["externalTrafficPolicy"] == "Local"
        && spec["healthCheckNodePort"].is_null()
    {
        spec["healthCheckNodePort"] = old["healthCheckNodePort"].clone();
    }
}

fn validate_status(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let points = items(&object["status"]["loadBalancer"]["ingress"]);
    if !points.is_empty() && object["spec"]["type"] != "LoadBalancer" {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path, why));
        return errors;
    }
    for (index, point) in points.iter().enumerate() {
        let at = path.index(index);
        if !text(point, "ip").is_empty() {
            ip(&at.child("ip"), &point["ip"], &mut errors);
        }
        if !text(point, "hostname").is_empty() {
            subdomain(&at.child("hostname"), text(point, "hostname"), &mut errors);
        }
    }
    errors
}
