//! Rows of the kinds of other groups.

use super::core::{event, few};
use super::{Show, items, joined, number, or, selector, text};
use serde_json::{Value, json};

pub(super) fn layout(group: &str, plural: &str) -> Option<&'static str> {
    Some(match (group, plural) {
        ("events.k8s.io", "events") => {
            "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*"
        }
        ("policy", "poddisruptionbudgets") => "Name|Min Available|Max Unavailable|#Allowed Disruptions|Age",
        ("coordination.k8s.io", "leases") => "Name|Holder|Age",
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            "Name|Role|Age|Users*|Groups*|ServiceAccounts*"
        }
        ("storage.k8s.io", "storageclasses") => {
            "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"
        }
        ("networking.k8s.io", "networkpolicies") => "Name|Pod-Selector|Age",
        ("networking.k8s.io", "ingresses") => "Name|Class|Hosts|Address|Ports|Age",
        ("discovery.k8s.io", "endpointslices") => "Name|AddressType|Ports|Endpoints|Age",
        ("scheduling.k8s.io", "priorityclasses") => "Name|#Value|?Global-Default|Age|PreemptionPolicy",
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations",
        ) => "Name|#Webhooks|Age",
        ("apiregistration.k8s.io", "apiservices") => "Name|Service|Available|Age",
        _ => return None,
    })
}

pub(super) fn cells(group: &str, plural: &str, show: &Show<'_>) -> Option<Vec<Value>> {
    let (object, spec) = (show.object, show.spec());
    Some(match (group, plural) {
        ("events.k8s.io", "events") => event(show),
        ("policy", "poddisruptionbudgets") => {
            let limit = |field: &str| match &spec[field] {
                Value::Null => "N/A".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            vec![
                show.name(),
                limit("minAvailable").into(),
                limit("maxUnavailable").into(),
                json!(number(show.status(), "disruptionsAllowed")),
                show.age(),
            ]
        }
        ("coordination.k8s.io", "leases") => {
            vec![show.name(), text(spec, "holderIdentity").into(), show.age()]
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(show),
        ("storage.k8s.io", "storageclasses") => {
            let annotations = &object["metadata"]["annotations"];
            let default = annotations["storageclass.kubernetes.io/is-default-class"] == "true";
            let name = text(&object["metadata"], "name");
            let name = if default {
                format!("{name} (default)")
            } else {
                name.to_owned()
            };
            vec![
                name.into(),
                text(object, "provisioner").into(),
                or(text(object, "reclaimPolicy"), "Delete").into(),
                or(text(object, "volumeBindingMode"), "Immediate").into(),
                json!(object["allowVolumeExpansion"] == true),
                show.age(),
            ]
        }
        ("networking.k8s.io", "networkpolicies") => {
            vec![
                show.name(),
                selector(&spec["podSelector"], "<none>").into(),
                show.age(),
            ]
        }
        ("networking.k8s.io", "ingresses") => ingress(show),
        ("discovery.k8s.io", "endpointslices") => endpoint_slice(show),
        ("scheduling.k8s.io", "priorityclasses") => vec![
            show.name(),
            json!(number(object, "value")),
            json!(object["globalDefault"] == true),
            show.age(),
            text(object, "preemptionPolicy").into(),
        ],
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations",
        ) => {
            vec![show.name(), json!(items(&object["webhooks"]).len()), show.age()]
        }
        ("apiregistration.k8s.io", "apiservices") => api_service(show),
        _ => return None,
    })
}

fn binding(show: &Show<'_>) -> Vec<Value> {
    let object = show.object;
    let role = format!(
        "{}/{}",
        text(&object["roleRef"], "kind"),
        text(&object["roleRef"], "name")
    );
    let of_kind = |kind: &str| {
        let subjects = items(&object["subjects"])
            .iter()
            .filter(|subject| subject["kind"] == kind);
        let named: Vec<String> = subjects
            .map(|subject| match text(subject, "namespace") {
                namespace if kind == "ServiceAccount" && !namespace.is_empty() => {
                    format!("{namespace}/{}", text(subject, "name"))
                }
                _ => text(subject, "name").to_owned(),
            })
            .collect();
        Value::from(named.join(", "))
    };
    vec![
        show.name(),
        role.into(),
        show.age(),
        of_kind("User"),
        of_kind("Group"),
        of_kind("ServiceAccount"),
    ]
}

fn ingress(show: &Show<'_>) -> Vec<Value> {
    let spec = show.spec();
    let hosts: Vec<String> = items(&spec["rules"])
        .iter()
        .map(|rule| text(rule, "host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = if hosts.is_empty() {
        "*".to_owned()
    } else {
        few(&hosts)
    };
    let points = items(&show.status()["loadBalancer"]["ingress"]).iter();
    let address = joined(
        points.map(|point| or(text(point, "ip"), text(point, "hostname"))),
        "",
    );
    let ports = if items(&spec["tls"]).is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        show.name(),
        or(text(spec, "ingressClassName"), "<none>").into(),
        hosts.into(),
        address.into(),
        ports.into(),
        show.age(),
    ]
}

fn endpoint_slice(show: &Show<'_>) -> Vec<Value> {
    let object = show.object;
    let unset = |list: String| {
        if list == "<none>" {
            "<unset>".to_owned()
        } else {
            list
        }
    };
    let ports: Vec<String> = items(&object["ports"])
        .iter()
        .map(|port| match port["port"].as_i64() {
            Some(number) => number.to_string(),
            None => or(text(port, "name"), "*").to_owned(),
        })
        .collect();
    let addresses: Vec<String> = items(&object["endpoints"])
        .iter()
        .flat_map(|endpoint| items(&endpoint["addresses"]))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    vec![
        show.name(),
        text(object, "addressType").into(),
        unset(few(&ports)).into(),
        unset(few(&addresses)).into(),
        show.age(),
    ]
}

fn api_service(show: &Show<'_>) -> Vec<Value> {
    let service = &show.spec()["service"];
    let served = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(service, "namespace"), text(service, "name"))
    };
    let conditions = items(&show.status()["conditions"]);
    let available = conditions
        .iter()
        .find(|condition| condition["type"] == "Available");
    let said = available.map_or_else(
        || "Unknown".to_owned(),
        |condition| match text(condition, "status") {
            "True" => "True".to_owned(),
            status => format!("{status} ({})", text(condition, "reason")),
        },
    );
    vec![show.name(), served.into(), said.into(), show.age()]
}
