//! What the controller does is what it says that it does, over a whole life: nothing else, and nothing less.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::time::Duration;

use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_apiserver::ApiServer;
use clusterwright_clock::Clock;
use clusterwright_runtime::audit::Audit;
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client::Client as Cached;
use clusterwright_runtime::controller::Environment;
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::leader::LeaderElection;
use clusterwright_runtime::manager::{Manager, Options};
use clusterwright_runtime::manifests::{cluster_rules, lease_rules};
use common::harness::{Bench, NAME, NAMESPACE, condition};
use common::scenarios;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const LEASE: &str = "clusterwright";
/// A leaf.
const LEAF: &str = "demo-scheduler-tls";

fn clock(day: &str) -> Clock {
    Clock::at(format!("{day}T00:00:00Z").parse().unwrap())
}

/// The same server, as one that streams no lists: before 1.32, or with the gate `WatchList` off.
fn without_streams(inner: Client) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = inner.clone();
        async move {
            if !request
                .uri()
                .query()
                .is_some_and(|query| query.contains("sendInitialEvents"))
            {
                return client.send(request).await.map_err(tower::BoxError::from);
            }
            let refusal = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422,
                "message": "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            });
            let body = Body::from(refusal.to_string().into_bytes());
            Ok(Response::builder().status(422).body(body)?)
        }
    });
    Client::new(service, NAMESPACE)
}

async fn data(bench: &Bench, secret: &str) -> serde_json::Value {
    bench.keys().await.remove(secret).unwrap()
}

/// Waits until a leaf is another than it was.
async fn renewed(bench: &Bench, secret: &str, before: &serde_json::Value) {
    for _ in 0..1000 {
        if data(bench, secret).await != *before {
            return;
        }
        tokio::time::sleep(bench.pause).await;
    }
    panic!("{secret} was not renewed");
}

#[tokio::test(start_paused = true)]
async fn all_that_is_declared_is_done_and_nothing_else() {
    let server = ApiServer::builder().clock(clock("2026-06-01")).build();
    let mut bench = Bench::new(server.client(), clock("2026-06-01"), Duration::from_millis(250)).await;
    bench.patience = Duration::from_hours(1);
    bench.election = Some(LeaderElection::new(LEASE, NAMESPACE));
    let audit = Audit::new();
    bench.controller = Some(audit.wrap(&server.client()));

    let running = bench.start();
    // With something to tell by an Event.
    bench
        .create(&json!({"version": "v1.35.4", "coredns": {"replicas": 2}}))
        .await;
    bench.until_ready().await;
    bench
        .patch(json!({"spec": {"version": "v1.36.3", "replicas": 2}}))
        .await
        .unwrap();
    bench.until_ready().await;
    for paused in [true, false] {
        let patch = Patch::Merge(json!({"spec": {"paused": paused}}));
        let clusters = bench.api::<Cluster>();
        clusters
            .patch(NAME, &PatchParams::default(), &patch)
            .await
            .unwrap();
        let wanted = if paused { "True" } else { "False" };
        bench
            .until("the pause", |object| {
                object.is_some_and(|object| condition(object, "Paused").unwrap().status == wanted)
            })
            .await;
    }

    // A leaf that is spoilt time and again is made anew, which makes a series of its Event.
    for _ in 0..2 {
        let spoilt = json!({"data": {"tls.crt": "AAAA"}});
        let secrets = bench.api::<Secret>();
        let secret = secrets
            .patch(LEAF, &PatchParams::default(), &Patch::Merge(spoilt))
            .await
            .unwrap();
        renewed(&bench, LEAF, &serde_json::to_value(&secret.data).unwrap()).await;
    }
    scenarios::quiet(&bench).await;
    let events = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    assert!(
        events.iter().any(|event| event.series.is_some()),
        "{:?}",
        events.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    );

    // The next manager starts when it is time to renew, on an older server.
    let before = data(&bench, LEAF).await;
    running.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.clock = clock("2027-05-25");
    bench.controller = Some(audit.wrap(&without_streams(server.client())));
    bench.start();
    renewed(&bench, LEAF, &before).await;
    bench.until_ready().await;
    bench.replace_member("demo-etcd-1").await;
    scenarios::delete(&bench).await;

    let nobody = nobody();
    let options = clusterwright_hosted::Options::simulated(common::IMAGE, nobody.kube().clone());
    let mut declared = clusterwright_hosted::controller(&nobody, options)
        .declared()
        .rules();
    // Connections are not made here: crates/cli/tests/members.rs does, under these roles.
    declared.retain(|rule| {
        let resources = rule.resources.as_deref().unwrap_or_default();
        !resources.iter().any(|resource| resource == "pods/portforward")
    });
    let rules = [declared, cluster_rules(), lease_rules(LEASE)].concat();
    audit.check(&rules).unwrap();
}

/// To declare with; no request is made.
fn nobody() -> Cached {
    let client = ApiServer::new().client();
    Cached::new(client.clone(), Cache::new(client, CacheOptions::default()), NAME)
}

/// A manager with the controller of Clusters alone.
async fn manage_clusters(client: Client, clock: Clock) {
    let options = Options {
        clock,
        ..Options::default()
    };
    let mut manager = Manager::new(client, options).unwrap();
    let cache = Cache::new(manager.client(), CacheOptions::default());
    let client = Cached::new(manager.client(), cache.clone(), NAME);
    let (recorder, events) = Recorder::new(manager.client(), NAME, "test", clock);
    let environment = Environment {
        client: client.clone(),
        clock,
        metrics: manager.metrics().clone(),
        recorder,
    };
    let controller = clusterwright_cluster::controller(&client).build(&environment);
    manager.add(cache.runnable()).unwrap();
    manager.add(events).unwrap();
    manager.add(controller).unwrap();
    manager.run(CancellationToken::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_controller_of_clusters_too() {
    let start = clock("2026-06-01");
    let server = ApiServer::builder().clock(start).build();
    let mut bench = Bench::new(server.client(), start, Duration::from_millis(250)).await;
    let audit = Audit::new();
    bench.spawn(manage_clusters(audit.wrap(&server.client()), start));
    bench
        .create(&json!({"controlPlaneEndpoint": {"host": "192.0.2.10", "port": 6443}}))
        .await;
    // To be adopted.
    bench
        .patch(json!({"metadata": {"labels": null, "ownerReferences": null}}))
        .await
        .unwrap();
    let status = json!({"status": {"initialization": {"controlPlaneInitialized": true}}});
    bench
        .api::<HostedControlPlane>()
        .patch_status(NAME, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    bench
        .until("the adoption", |object| {
            object.is_some_and(|object| !object.owner_references().is_empty() && !object.labels().is_empty())
        })
        .await;
    let clusters = bench.api::<Cluster>();
    for _ in 0..1000 {
        let cluster = clusters.get(NAME).await.unwrap();
        if cluster.spec.control_plane_endpoint.is_some() && !cluster.finalizers().is_empty() {
            break;
        }
        tokio::time::sleep(bench.pause).await;
    }
    clusters.delete(NAME, &DeleteParams::default()).await.unwrap();
    bench.until("the end", |object| object.is_none()).await;
    bench.spawn(manage_clusters(
        audit.wrap(&without_streams(server.client())),
        start,
    ));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(clusters.get_opt(NAME).await.unwrap().is_none());
    audit
        .check(&clusterwright_cluster::controller(&nobody()).declared().rules())
        .unwrap();
}
