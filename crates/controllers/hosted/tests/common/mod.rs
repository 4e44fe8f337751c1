//! What the tests share.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

pub mod account;
pub mod crash;
pub mod harness;
pub mod members;
pub mod scenarios;
pub mod validation;
pub mod world;

use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_hosted::etcd;
use clusterwright_hosted::inputs::Inputs;
use clusterwright_hosted::version::Version;
use serde_json::{Value, json};

/// The image of ours.
pub const IMAGE: &str = "registry.example/clusterwright:v1";

/// A stored control plane of Cluster `demo` with these fields in its spec.
pub fn control_plane(fields: &Value) -> HostedControlPlane {
    let mut spec = json!({"version": "v1.36.3", "replicas": 3});
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": {"name": "demo-cp", "namespace": "team", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": spec,
    }))
    .unwrap()
}

/// A Cluster with these fields in its spec.
pub fn cluster(fields: &Value) -> Cluster {
    serde_json::from_value(json!({"metadata": {"name": "demo", "namespace": "team"}, "spec": fields}))
        .unwrap()
}

/// What is planned from.
pub fn inputs(control_plane_fields: &Value, cluster_fields: &Value) -> Inputs {
    Inputs::new(
        &control_plane(control_plane_fields),
        "demo",
        &cluster(cluster_fields),
    )
    .unwrap()
}

/// etcd at its beginning.
pub fn etcd(inputs: &Inputs, version: &Version) -> etcd::Desired {
    etcd::etcd(
        inputs,
        etcd::Settings {
            version,
            size: &etcd::volume_size(inputs),
            replicas: i32::try_from(etcd::wanted(inputs).len()).unwrap(),
            helper_image: IMAGE,
            unready: true,
        },
    )
}

/// Every field that is acted on, set to something else than its default.
pub fn everything() -> (Value, Value) {
    let container = |name: &str| {
        json!({
            "image": {"registry": "registry.example/k8s", "repository": name, "tag": "custom"},
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "1.5Gi"}},
        })
    };
    let with = |base: Value, more: Value| {
        let mut base = base;
        base.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        base
    };
    let control_plane = json!({
        "deployment": {
            "apiServer": with(container("api"), json!({
                "args": {"v": "4", "secure-port": "443", "authorization-mode": "Node,RBAC"},
                "priorityClassName": "high",
                "mounts": {
                    "extra": {"path": "/etc/extra", "configMap": {"name": "extra"}},
                    "token": {"path": "/etc/token", "secret": {"secretName": "token", "optional": true}},
                },
            })),
            "controllerManager": with(container("kcm"), json!({"replicas": 2, "args": {"node-monitor-period": "5s"}, "priorityClassName": "high"})),
            "scheduler": with(container("sched"), json!({"replicas": 2, "args": {"v": "2"}, "priorityClassName": "high"})),
        },
        "etcd": with(container("etcd"), json!({
            "replicas": 1,
            "autoGrow": false,
            "volumeSize": "8192Mi",
            "args": {"heartbeat-interval": "200", "initial-cluster": "other=https://192.0.2.1:2380"},
            "priorityClassName": "high",
        })),
    });
    let cluster = json!({"clusterNetwork": {
        "apiServerPort": 443,
        "pods": {"cidrBlocks": ["10.244.0.0/16", "fd01::/64"]},
        "services": {"cidrBlocks": ["10.100.0.0/16", "fd02::/108"]},
        "serviceDomain": "demo.local",
    }});
    (control_plane, cluster)
}
