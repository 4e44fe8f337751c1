//! `EndpointSlices`: where the endpoints of a Service are.

use super::Rules;
use super::check::{complaints, immutable, ip, items, label, not_supported, qualified, subdomain, text};
use super::labels::validate_labels;
use super::warnings::of_address;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names;
use crate::resource::Surroundings;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

pub(super) struct EndpointSlices;

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_HINTS: usize = 8;
const MOST_TOPOLOGY: usize = 16;
/// Managers that are known to write addresses in their one form.
const MANAGERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];

/// Refuses a list of more items than there may be; its items are not looked at then.
fn fits(path: &Path, list: &Value, most: usize, errors: &mut FieldErrors) -> bool {
    let count = list.as_object().map_or(items(list).len(), serde_json::Map::len);
    if count > most {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        errors.push(FieldError::too_many(path, count, most));
        return false;
    }
    true
}

fn validate(slice: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let at = Path::new("addressType");
    let kind = text(slice, "addressType");
    if kind.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        not_supported(&at, &slice["addressType"], &["FQDN", "IPv4", "IPv6"], &mut errors);
    }
    validate_ports(&slice["ports"], &Path::new("ports"), &mut errors);
    errors
}

fn validate_ports(ports: &Value, path: &Path, errors: &mut FieldErrors) {
    if !fits(path, ports, MOST_PORTS, errors) {
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in items(ports).iter().enumerate() {
        let at = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            label(&at.child("name"), name, errors);
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at.child("name"), &json!(name)));
        } else {
            seen.push(name);
        }
        not_supported(
            &at.child("protocol"),
            &port["protocol"],
            &["SCTP", "TCP", "UDP"],
            errors,
        );
        if let Some(protocol) = port["appProtocol"].as_str() {
            qualified(&at.child("appProtocol"), protocol, errors);
        }
    }
}

fn validate_endpoints(slice: &Value, errors: &mut FieldErrors) {
    let path = Path::new("endpoints");
    if !fits(&path, &slice["endpoints"], MOST_ENDPOINTS, errors) {
        return;
    }
    for (index, endpoint) in items(&slice["endpoints"]).iter().enumerate() {
        let at = path.index(index);
        validate_addresses(
            endpoint,
            text(slice, "addressType"),
            &at.child("addresses"),
            errors,
        );
        if let Some(node) = endpoint["nodeName"].as_str() {
            subdomain(&at.child("nodeName"), node, errors);
        }
        let topology = at.child("deprecatedTopology");
        fits(&topology, &endpoint["deprecatedTopology"], MOST_TOPOLOGY, errors);
        validate_labels(&topology, &endpoint["deprecatedTopology"], errors);
        if let Some(name) = endpoint["hostname"].as_str() {
            label(&at.child("hostname"), name, errors);
        }
        validate_hints(&endpoint["hints"], &at.child("hints"), errors);
    }
}

fn validate_addresses(endpoint: &Value, kind: &str, path: &Path, errors: &mut FieldErrors) {
    let addresses = items(&endpoint["addresses"]);
    if addresses.is_empty() {
        errors.push(FieldError::required(path, "must contain at least 1 address"));
    }
    fits(path, &endpoint["addresses"], MOST_ADDRESSES, errors);
    for (index, address) in addresses.iter().enumerate() {
        let at = path.index(index);
        match kind {
            "IPv4" | "IPv6" => {
                let Some(parsed) = ip(&at, address, errors) else {
                    continue;
                };
                let canonical = parsed.to_string();
                if kind == "IPv6" && address != canonical.as_str() {
                    let why = format!("must be in canonical form ({canonical:?})");
                    errors.push(FieldError::invalid(&at, address, why));
                    continue;
                }
                if parsed.is_ipv4() != (kind == "IPv4") {
                    let why = format!("must be an {kind} address");
                    errors.push(FieldError::invalid(path, address, why));
                }
                validate_place(parsed, address, &at, errors);
            }
            "FQDN" => validate_domain(&at, address.as_str().unwrap_or_default(), errors),
            _ => {}
        }
    }
}

/// An endpoint is reached from other machines.
fn validate_place(address: IpAddr, shown: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut refuse = |why: &str| errors.push(FieldError::invalid(path, shown, why));
    let (link_local, link_multicast) = match address {
        IpAddr::V4(v4) => (
            v4.is_link_local(),
            v4 & Ipv4Addr::new(255, 255, 255, 0) == Ipv4Addr::new(224, 0, 0, 0),
        ),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        refuse(&format!(
            "may not be unspecified ({})",
            shown.as_str().unwrap_or_default()
        ));
    }
    if address.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn validate_domain(path: &Path, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut invalid = |value: &str, wrong: &[String]| {
        errors.push(FieldError::invalid(path, &json!(value), wrong.join(",")));
    };
    let wrong = names::subdomain(name);
    if !wrong.is_empty() {
        return invalid(name, &wrong);
    }
    if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        return invalid(name, &[why.to_owned()]);
    }
    if let Some((part, wrong)) = name
        .split('.')
        .map(|part| (part, names::label_1123(part)))
        .find(|(_, wrong)| !wrong.is_empty())
    {
        invalid(part, &wrong);
    }
}

fn validate_hints(hints: &Value, path: &Path, errors: &mut FieldErrors) {
    for (field, rule) in [
        ("forZones", names::label_value as fn(&str) -> Vec<String>),
        ("forNodes", names::subdomain),
    ] {
        let at = path.child(field);
        if !fits(&at, &hints[field], MOST_HINTS, errors) {
            return;
        }
        let mut seen: Vec<&str> = Vec::new();
        for (index, hint) in items(&hints[field]).iter().enumerate() {
            let at = at.index(index).child("name");
            let name = text(hint, "name");
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(&at, &json!(name)));
            } else {
                seen.push(name);
            }
            complaints(&at, &json!(name), rule(name), errors);
        }
    }
}

/// Writes lists that are empty as they are once they were stored.
fn drop_empty(slice: &mut Value) {
    for list in ["endpoints", "ports"] {
        if items(&slice[list]).is_empty() {
            slice[list] = Value::Null;
        }
    }
}

/// Takes out what only older versions say.
fn drop_topology(slice: &mut Value) {
    for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
        if let Some(endpoint) = endpoint.as_object_mut() {
            endpoint.remove("deprecatedTopology");
        }
    }
}

impl Rules for EndpointSlices {
    fn prepare_create(&self, object: &mut Value, _: &dyn Surroundings) {
        drop_empty(object);
        drop_topology(object);
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = validate(object);
        validate_endpoints(object, &mut errors);
        errors
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &str, _: &dyn Surroundings) {
        drop_empty(object);
        if object["endpoints"] != old["endpoints"] {
            drop_topology(object);
        }
    }

    fn raises_generation(&self, object: &Value, old: &Value, _: &str) -> bool {
        object["metadata"]["labels"] != old["metadata"]["labels"]
    }

    fn validate_update(&self, object: &Value, old: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = validate(object);
        if object["endpoints"] != old["endpoints"] {
            validate_endpoints(object, &mut errors);
        }
        immutable(
            &Path::new("addressType"),
            &object["addressType"],
            &old["addressType"],
            &mut errors,
        );
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, _: &str) -> Vec<String> {
        let mut said = Vec::new();
        if old.is_none() && object["addressType"] == "FQDN" {
            said.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        let manager = &object["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        if MANAGERS.iter().any(|known| manager == known) {
            return said;
        }
        for (index, endpoint) in items(&object["endpoints"]).iter().enumerate() {
            let at = Path::new("endpoints").index(index).child("addresses");
            for (index, address) in items(&endpoint["addresses"]).iter().enumerate() {
                of_address(&at.index(index), address.as_str().unwrap_or_default(), &mut said);
            }
        }
        said
    }
}
