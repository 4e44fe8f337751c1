//! Cluster API's core manager takes the control plane over: the contract, as the other side reads it.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::time::Duration;

use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_clock::Clock;
use clusterwright_testkit::{ClusterApi, ControlPlane, require, tools};
use common::harness::{Bench, NAME, connect};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

fn condition_of(cluster: &Cluster, kind: &str) -> String {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.into_iter().find(|condition| condition.type_ == kind);
    found
        .map(|condition| format!("{} {}", condition.status, condition.reason))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_core_manager_adopts_a_control_plane_and_brings_its_cluster_up() {
    for name in ["etcd", "kube-apiserver", "cluster-api-core", "cluster-api-crds"] {
        require!(tools::find(name));
    }
    let start = || {
        let mut control_plane = ControlPlane::builder()
            .api_server_flag("--disable-admission-plugins=ServiceAccount")
            .start()
            .unwrap();
        ClusterApi::start(&mut control_plane).unwrap();
        control_plane
    };
    let control_plane = tokio::task::spawn_blocking(start).await.unwrap();
    let client = connect(&control_plane.kubeconfig()).await;
    let mut bench = Bench::new(client, Clock::system(), Duration::from_millis(100)).await;
    bench.start();

    // No owner, no label: those are the core manager's to set.
    let mut object = common::control_plane(&json!({"version": "v1.36.3"}));
    object.metadata = serde_json::from_value(json!({"name": NAME})).unwrap();
    bench
        .api::<HostedControlPlane>()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let cluster = json!({
        "metadata": {"name": NAME},
        "spec": {
            "clusterNetwork": {"pods": {"cidrBlocks": ["10.244.0.0/16"]}},
            "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "HostedControlPlane", "name": NAME},
        },
    });
    let cluster: Cluster = serde_json::from_value(cluster).unwrap();
    let clusters = bench.api::<Cluster>();
    clusters.create(&PostParams::default(), &cluster).await.unwrap();

    bench.until_ready().await;
    let mut cluster = clusters.get(NAME).await.unwrap();
    for _ in 0..600 {
        let up = ["ControlPlaneInitialized", "ControlPlaneAvailable"]
            .iter()
            .all(|kind| condition_of(&cluster, kind).starts_with("True"));
        if up {
            break;
        }
        tokio::time::sleep(bench.pause).await;
        cluster = clusters.get(NAME).await.unwrap();
    }
    assert_eq!(
        condition_of(&cluster, "ControlPlaneInitialized"),
        "True Initialized"
    );
    assert_eq!(condition_of(&cluster, "ControlPlaneAvailable"), "True Available");
    let endpoint = cluster.spec.control_plane_endpoint.clone().unwrap();
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port),
        ("192.0.2.10", Some(6443))
    );
    let status = serde_json::to_value(&cluster.status).unwrap();
    assert_eq!(status["controlPlane"]["replicas"], 3, "{status:#}");
    assert_eq!(status["controlPlane"]["readyReplicas"], 3);
    assert_eq!(
        status["controlPlane"]["versions"],
        json!([{"version": "v1.36.3", "replicas": 3}])
    );
    let object = bench.get().await.unwrap();
    assert_eq!(object.labels()["cluster.x-k8s.io/cluster-name"], NAME);

    // Deleted by way of the Cluster, as users do.
    clusters.delete(NAME, &DeleteParams::default()).await.unwrap();
    bench.until("the end", |object| object.is_none()).await;
    for _ in 0..600 {
        if clusters.get_opt(NAME).await.unwrap().is_none() {
            break;
        }
        tokio::time::sleep(bench.pause).await;
    }
    assert!(clusters.get_opt(NAME).await.unwrap().is_none());
    let left: Vec<String> = bench.contents().await.into_keys().collect();
    assert_eq!(left, Vec::<String>::new());
    drop(control_plane);
}
