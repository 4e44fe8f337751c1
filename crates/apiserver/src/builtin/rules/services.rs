//! Services: cluster IPs and ports of nodes are the server's to give.

use super::Rules;
use super::check::{
    complaints, ip, items, label, not_supported, port_number, port_reference, subdomain, text,
};
use super::labels::validate_labels;
use crate::field::{FieldError, FieldErrors, Kind, Path};
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

    /// Gives what the Service needs and has not.
    fn allocate(&self, service: &mut Value, around: &dyn Surroundings) {
        let kind = text(&service["spec"], "type").to_owned();
        let mut taken = Self::taken(service, around);
        let before = holdings(service);
        taken.extend(before.iter().cloned());
        taken.extend(self.promised.lock().iter().cloned());
        let spec = &mut service["spec"];
        if kind != "ExternalName" {
            families(spec);
            if items(&spec["clusterIPs"]).is_empty()
                && let Some(address) = free_address(&taken)
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
            let why = if !inside {
                format!(
                    "failed to allocate IP {address}: the provided network does not match the current range"
                )
            } else if taken.contains(address) {
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

fn validate(object: &Value) -> FieldErrors {
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
