//! The kinds that Kubernetes 1.36.3 serves by default: their tables, which `generate-tables` makes out of the
//! documents that Kubernetes publishes, and what the tables can't say: defaults, rules and printed columns.

pub mod codec;
mod crds;
mod defaults;
pub(crate) mod definitions;
pub(crate) mod quantity;
mod rules;
mod strategy;
pub(crate) mod times;

use crate::resource::{Resource, ScalePaths, Subresource};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// One line for each group and version, in the order of discovery: its resources as discovery lists them.
const RESOURCES: &str = include_str!("tables/resources.jsonl");

/// The version of Kubernetes that the tables are of.
pub const KUBERNETES_VERSION: &str = "v1.36.3";

/// All built-in kinds, in the order of discovery. Each call makes strategies of its own, so that servers in one
/// process share no allocations.
pub fn resources() -> Vec<Arc<Resource>> {
    let mut all = Vec::new();
    for line in lines() {
        let entries = line["resources"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for entry in entries {
            let name = text(&entry["name"]);
            if !name.contains('/') {
                all.push(Arc::new(resource(&line, entry, entries)));
            }
        }
    }
    all
}

/// The kind of requests for tokens, which is no resource by itself.
pub(crate) fn token_request() -> Resource {
    let (group, version, kind) = ("authentication.k8s.io", "v1", "TokenRequest");
    let line = json!({"group": group, "version": version});
    let entry = json!({"name": "tokenrequests", "kind": kind, "namespaced": true, "verbs": ["create"]});
    resource(&line, &entry, &[])
}

/// The table's lines.
pub(crate) fn lines() -> impl Iterator<Item = Value> {
    RESOURCES
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
}

/// The hash that discovery gives for a built-in kind's stored version; none for what is not stored.
pub(crate) fn storage_version_hash(group: &str, version: &str, plural: &str) -> Option<String> {
    static HASHES: OnceLock<HashMap<String, String>> = OnceLock::new();
    let hashes = HASHES.get_or_init(|| {
        let mut hashes = HashMap::new();
        for line in lines() {
            let at = format!("{}/{}", text(&line["group"]), text(&line["version"]));
            for entry in line["resources"].as_array().into_iter().flatten() {
                if let Some(hash) = entry["storageVersionHash"].as_str() {
                    hashes.insert(format!("{at}/{}", text(&entry["name"])), hash.to_owned());
                }
            }
        }
        hashes
    });
    hashes.get(&format!("{group}/{version}/{plural}")).cloned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn shared(value: &Value) -> Arc<str> {
    Arc::from(text(value))
}

fn texts(value: &Value) -> Vec<Arc<str>> {
    value.as_array().into_iter().flatten().map(shared).collect()
}

fn resource(line: &Value, entry: &Value, entries: &[Value]) -> Resource {
    let group = text(&line["group"]);
    let version = text(&line["version"]);
    let kind = text(&entry["kind"]);
    let plural = text(&entry["name"]);
    let schema = definitions::schema(&definition_name(group, version, kind));
    let status = format!("{plural}/status");
    let has_status = entries.iter().any(|entry| entry["name"] == status);
    Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: shared(&entry["singularName"]),
        short_names: texts(&entry["shortNames"]),
        categories: texts(&entry["categories"]),
        namespaced: entry["namespaced"] == true,
        verbs: texts(&entry["verbs"]),
        subresources: entries
            .iter()
            .filter_map(|sub| subresource(plural, (group, version, kind), sub))
            .collect(),
        strategy: if plural == "customresourcedefinitions" {
            Arc::new(crds::Definitions {
                schema: schema.clone(),
            })
        } else {
            Arc::new(strategy::BuiltIn::new(schema.clone(), group, plural, has_status))
        },
        schema,
        custom: None,
    }
}

/// The resource that the body of a subresource's request is of: a kind that is not served by itself.
pub(crate) fn body(group: &str, version: &str, kind: &str) -> Resource {
    // Older versions of these kinds are the same objects.
    let schema = definitions::schema(&definition_name(group, "v1", kind));
    let plural = format!("{}s", kind.to_lowercase());
    Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        singular: kind.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: Vec::new(),
        subresources: Vec::new(),
        strategy: Arc::new(strategy::BuiltIn::new(schema.clone(), group, &plural, false)),
        plural: plural.into(),
        schema,
        custom: None,
    }
}

fn subresource(plural: &str, own: (&str, &str, &str), entry: &Value) -> Option<Subresource> {
    let name = text(&entry["name"]).strip_prefix(plural)?.strip_prefix('/')?;
    let group = entry["group"].as_str().unwrap_or(own.0);
    let version = entry["version"].as_str().unwrap_or(own.1);
    let kind = text(&entry["kind"]);
    Some(Subresource {
        name: name.into(),
        kind: ((group, version, kind) != own).then(|| (group.into(), version.into(), kind.into())),
        verbs: texts(&entry["verbs"]),
        scale: (name == "scale").then(|| ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: None,
        }),
    })
}

/// The name of a kind's definition in the OpenAPI documents, as `io.k8s.api.apps.v1.Deployment`.
pub(crate) fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let package = match group {
        "" => "io.k8s.api.core".to_owned(),
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        _ => format!("io.k8s.api.{}", group.split('.').next().unwrap_or(group)),
    };
    format!("{package}.{version}.{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_definition() {
        let all = resources();
        assert!(all.len() > 60, "only {} kinds", all.len());
        for resource in &all {
            let name = definition_name(&resource.group, &resource.version, &resource.kind);
            assert!(definitions::text(&name).is_some(), "{name} is missing");
            for sub in &resource.subresources {
                if let Some((group, version, kind)) = &sub.kind {
                    let name = definition_name(group, version, kind);
                    assert!(
                        definitions::text(&name).is_some()
                            || sub.name.as_ref() == "proxy"
                            || kind.ends_with("Options"),
                        "{name} is missing"
                    );
                }
            }
        }
    }

    #[test]
    fn deployments_are_as_discovery_says() {
        let all = resources();
        let deployments = all
            .iter()
            .find(|r| &*r.plural == "deployments")
            .expect("deployments");
        assert_eq!(deployments.api_version(), "apps/v1");
        assert_eq!(deployments.short_names, ["deploy".into()]);
        let scale = deployments.subresource("scale").expect("scale");
        assert_eq!(scale.kind.as_ref().map(|k| k.0.as_ref()), Some("autoscaling"));
        assert!(
            deployments
                .subresource("status")
                .is_some_and(|s| s.kind.is_none())
        );
    }
}
