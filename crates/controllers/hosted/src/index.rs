//! Which control plane an object belongs to, by the label with the Cluster's name: for objects that are not its own
//! children (pods, claims) or that users bring (roots).

use std::collections::BTreeMap;

use clusterwright_api::HostedControlPlane;
use clusterwright_api::meta;
use clusterwright_runtime::client::Client;
use clusterwright_runtime::object::ObjectKey;
use kube::ResourceExt as _;

use crate::snapshot::owner_cluster;

/// The index of control planes and of the objects under them by `namespace/cluster`.
pub const CLUSTER: &str = "hosted-cluster";

/// The index's value for a Cluster.
pub fn value(namespace: &str, cluster: &str) -> String {
    format!("{namespace}/{cluster}")
}

/// The value for an object with the label.
pub fn of_labelled(object: &impl kube::Resource) -> Vec<String> {
    let labels: Option<&BTreeMap<String, String>> = object.meta().labels.as_ref();
    let cluster = labels.and_then(|labels| labels.get(meta::CLUSTER_NAME_LABEL));
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    cluster
        .map(|cluster| value(namespace, cluster))
        .into_iter()
        .collect()
}

/// The value for a control plane.
pub fn of_control_plane(object: &HostedControlPlane) -> Vec<String> {
    let namespace = object.namespace().unwrap_or_default();
    owner_cluster(object)
        .map(|cluster| value(&namespace, cluster))
        .into_iter()
        .collect()
}

/// The control planes that an object with the label belongs to.
pub fn control_planes(object: &impl kube::Resource, client: &Client) -> Vec<ObjectKey> {
    let keys = of_labelled(object).into_iter().map(|value| {
        client
            .list_keys_by::<HostedControlPlane>(CLUSTER, &value)
            .unwrap_or_default()
    });
    keys.flatten().collect()
}
