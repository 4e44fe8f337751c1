//! What the framework does with a server, on the real one: it leads, tells by Events, and installs definitions.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::time::Duration;

use clusterwright_clock::Clock;
use clusterwright_runtime::crd::{CrdError, Definition, InstallOptions, install};
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::fence::Fence;
use clusterwright_runtime::leader::{Elector, LeaderElection};
use clusterwright_runtime::manager::{Manager, Options};
use clusterwright_runtime::metrics::Metrics;
use clusterwright_testkit::{ControlPlane, require, tools};
use common::harness::connect;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

fn candidate(client: &Client, identity: &str) -> Elector {
    let election = LeaderElection {
        identity: identity.to_owned(),
        lease_duration: Duration::from_secs(3),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_millis(200),
        ..LeaderElection::new("operator", "default")
    };
    let (clock, metrics) = (Clock::system(), Metrics::new());
    Elector::new(client.clone(), election, clock, &metrics, Fence::closed()).unwrap()
}

async fn lease(client: &Client) -> LeaseSpec {
    let api: Api<Lease> = Api::namespaced(client.clone(), "default");
    api.get("operator").await.unwrap().spec.unwrap()
}

/// Waits until the lease has been held for longer than it lasts without a renewal.
async fn renewed(client: &Client) {
    loop {
        let spec = lease(client).await;
        let (from, to) = (spec.acquire_time.unwrap().0, spec.renew_time.unwrap().0);
        if to.duration_since(from).as_secs() > 3 {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn one_leads_at_a_time(client: &Client) {
    let held = async || {
        let spec = lease(client).await;
        (spec.holder_identity.unwrap_or_default(), spec.lease_transitions)
    };
    let (mut first, mut second) = (candidate(client, "first"), candidate(client, "second"));
    first.acquire().await;
    tokio::select! {
        lost = first.hold() => panic!("{lost}"),
        () = second.acquire() => panic!("there are two leaders"),
        () = renewed(client) => {}
    }
    assert_eq!(held().await, ("first".to_owned(), Some(0)));
    first.release().await;
    assert_eq!(held().await.0, "");
    second.acquire().await;
    assert_eq!(held().await, ("second".to_owned(), Some(1)));
    // It ends without a word: the lease runs out.
    drop(second);
    let mut third = candidate(client, "third");
    third.acquire().await;
    assert_eq!(held().await, ("third".to_owned(), Some(2)));
}

async fn what_repeats_is_a_series(client: &Client) {
    let config = json!({"metadata": {"name": "settings", "namespace": "default"}});
    let config: ConfigMap = serde_json::from_value(config).unwrap();
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let config = configs.create(&PostParams::default(), &config).await.unwrap();

    let mut manager = Manager::new(client.clone(), Options::default()).unwrap();
    let (recorder, worker) = Recorder::new(manager.client(), "operator", "pod-1", manager.clock());
    manager.add(worker).unwrap();
    for _ in 0..3 {
        recorder.warning(&config, "Refused", "Reconcile", "no".repeat(1000));
    }
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(manager.run(shutdown.clone()));
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let series = async || {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let ours = all
            .into_iter()
            .filter(|event| event.reason.as_deref() == Some("Refused"));
        ours.map(|event| event.series.map(|series| series.count))
            .collect::<Vec<_>>()
    };
    while series().await != [Some(3)] {
        assert!(!run.is_finished());
        tokio::time::sleep(PAUSE).await;
    }
    shutdown.cancel();
    run.await.unwrap().unwrap();
}

fn widget(size: &str) -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": size}}},
                }}},
            }],
        },
    }))
    .unwrap()
}

async fn a_definition_of_another_shape_stays(client: &Client) {
    let own = InstallOptions::new("operator");
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let version = async || {
        let crd = crds.get("widgets.example.com").await.unwrap();
        crd.metadata.generation
    };
    for _ in 0..2 {
        install(client, &[Definition::own(widget("integer"))], &own)
            .await
            .unwrap();
        assert_eq!(version().await, Some(1), "what is the same is not written again");
    }
    let other = InstallOptions::new("another");
    let refused = install(client, &[Definition::own(widget("string"))], &other).await;
    match refused.unwrap_err() {
        CrdError::OtherShape { fields, .. } => {
            assert!(fields.iter().any(|field| field.contains("size")), "{fields:?}");
        }
        error => panic!("{error}"),
    }
    assert_eq!(version().await, Some(1));
    let force = InstallOptions { force: true, ..other };
    install(client, &[Definition::own(widget("string"))], &force)
        .await
        .unwrap();
    assert_eq!(version().await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_framework_on_the_real_server() {
    require!(tools::find("etcd"));
    require!(tools::find("kube-apiserver"));
    let start = || ControlPlane::builder().start();
    let control_plane = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let client = connect(&control_plane.kubeconfig()).await;
    one_leads_at_a_time(&client).await;
    what_repeats_is_a_series(&client).await;
    a_definition_of_another_shape_stays(&client).await;
    drop(control_plane);
}
