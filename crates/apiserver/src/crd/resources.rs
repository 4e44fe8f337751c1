//! From a CRD to what is served: one resource for each served version.

use super::paths::{flag, list, text};
use super::strategy::CustomStrategy;
use crate::resource::{Custom, Resource, ScalePaths, Subresource};
use crate::schema::{Schema, SchemaRef};
use serde_json::Value;
use std::sync::Arc;

/// The verbs of a custom resource, in the order in which the real server lists them.
const VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The resources of a CRD, one for each served version, under its accepted names (the wanted ones until any are).
pub fn resources_of(crd: &Value) -> Vec<Arc<Resource>> {
    let spec = &crd["spec"];
    let definition = Arc::new(crd.clone());
    list(&spec["versions"])
        .iter()
        .filter(|version| flag(version, "served"))
        .map(|version| Arc::new(resource(&definition, version)))
        .collect()
}

fn resource(crd: &Arc<Value>, version: &Value) -> Resource {
    let spec = &crd["spec"];
    let accepted = &crd["status"]["acceptedNames"];
    let names = if text(accepted, "plural").is_empty() {
        &spec["names"]
    } else {
        accepted
    };
    let texts = |key: &str| -> Vec<Arc<str>> {
        let texts = list(&names[key]).iter().filter_map(Value::as_str);
        texts.map(Arc::from).collect()
    };
    let schema = version["schema"].get("openAPIV3Schema");
    // A CRD that is stored was valid, so this reads; were it not, anything goes, as for one without a schema.
    let schema = Schema::for_custom_resource(schema).unwrap_or_else(|_| Schema::anything());
    let schema = SchemaRef::new(schema);
    let subresources = &version["subresources"];
    let scale = subresources.get("scale").map(scale_paths);
    let group: Arc<str> = text(spec, "group").into();
    let kind: Arc<str> = text(names, "kind").into();
    let name: Arc<str> = text(version, "name").into();
    let strategy = CustomStrategy {
        schema: schema.clone(),
        has_status: subresources.get("status").is_some(),
        scale: scale.clone(),
        group: group.clone(),
        version: name.clone(),
        kind: kind.clone(),
    };
    Resource {
        list_kind: text(names, "listKind").into(),
        plural: text(names, "plural").into(),
        singular: text(names, "singular").into(),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        namespaced: text(spec, "scope") == "Namespaced",
        verbs: VERBS.map(Arc::from).to_vec(),
        subresources: served(strategy.has_status, scale),
        schema,
        strategy: Arc::new(strategy),
        custom: Some(Arc::new(Custom {
            definition: crd.clone(),
            version: Arc::new(version.clone()),
            selectable_fields: list(&version["selectableFields"])
                .iter()
                .map(|field| Arc::from(text(field, "jsonPath")))
                .collect(),
        })),
        group,
        version: name,
        kind,
    }
}

fn scale_paths(scale: &Value) -> ScalePaths {
    ScalePaths {
        spec_replicas: text(scale, "specReplicasPath").into(),
        status_replicas: text(scale, "statusReplicasPath").into(),
        selector: scale
            .get("labelSelectorPath")
            .and_then(Value::as_str)
            .filter(|path| !path.is_empty())
            .map(Arc::from),
    }
}

fn served(status: bool, scale: Option<ScalePaths>) -> Vec<Subresource> {
    let verbs = || SUBRESOURCE_VERBS.map(Arc::from).to_vec();
    let mut served = Vec::new();
    if status {
        served.push(Subresource {
            name: "status".into(),
            kind: None,
            verbs: verbs(),
            scale: None,
        });
    }
    if let Some(paths) = scale {
        served.push(Subresource {
            name: "scale".into(),
            kind: Some(("autoscaling".into(), "v1".into(), "Scale".into())),
            verbs: verbs(),
            scale: Some(paths),
        });
    }
    served
}
