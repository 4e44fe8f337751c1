//! The contract as the other side reads it: Cluster API's core manager takes a control plane over, and so does the
//! small controller of ours that stands in for it.
//!
//! One life runs under both, and what they make of it is one snapshot. The core manager's run says whether the
//! snapshot is still true, ours is compared with it on any machine.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_apiserver::ApiServer;
use clusterwright_clock::Clock;
use clusterwright_testkit::{ClusterApi, ControlPlane, require, tools};
use common::harness::{Bench, NAME, connect, run_with};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What `up` applies, and what the documentation starts from.
const EXAMPLE: &str = include_str!("../../../../examples/hosted-control-plane.yaml");

/// Keeps the Cluster for a last look at it.
const HOLD: &str = "example.com/hold";

/// The conditions of a Cluster that both report.
const CONDITIONS: [&str; 4] = [
    "Paused",
    "ControlPlaneInitialized",
    "ControlPlaneAvailable",
    "Deleting",
];

/// What the core manager says of a Cluster whose control plane is not there, and what ours does. It asks there whether
/// the *infrastructure* was not found, which a Cluster without any never says, and so takes it for an error.
const SLIP: [&str; 2] = [
    "ControlPlaneInitialized: Unknown InternalError Please check controller logs for errors",
    "ControlPlaneInitialized: Unknown ObjectDoesNotExist HostedControlPlane does not exist",
];

/// A life of a Cluster, and what is seen of it.
struct Life<'a> {
    bench: &'a mut Bench,
    seen: String,
    /// The Cluster when it was up.
    up: Option<Cluster>,
}

impl Life<'_> {
    fn under(bench: &mut Bench) -> Life<'_> {
        Life {
            bench,
            seen: String::new(),
            up: None,
        }
    }

    async fn cluster(&self) -> Cluster {
        self.bench.api().get(NAME).await.unwrap()
    }

    async fn change(&self, patch: Value) {
        self.bench
            .api::<Cluster>()
            .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Waits until this holds and no more changes, and notes what is there.
    async fn look(&mut self, point: &str, reached: impl Fn(&Cluster, Option<&HostedControlPlane>) -> bool) {
        let (mut last, mut same) = (String::new(), 0);
        let start = tokio::time::Instant::now();
        while same < 10 {
            assert!(
                start.elapsed() < self.bench.patience,
                "{point}: not reached\n{last}"
            );
            tokio::time::sleep(self.bench.pause).await;
            let (cluster, control_plane) = (self.cluster().await, self.bench.get().await);
            let now = observe(&cluster, control_plane.as_ref());
            same = if now == last && reached(&cluster, control_plane.as_ref()) {
                same + 1
            } else {
                0
            };
            last = now;
        }
        let _ = write!(self.seen, "# {point}\n{last}");
    }

    /// From nothing to Ready to nothing, by way of the Cluster, as users do it.
    async fn live(mut self) -> Self {
        let cluster = json!({
            "metadata": {"name": NAME, "finalizers": [HOLD]},
            "spec": {
                "paused": true,
                "clusterNetwork": {"pods": {"cidrBlocks": ["10.244.0.0/16"]}},
                "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "HostedControlPlane", "name": NAME},
            },
        });
        let cluster: Cluster = serde_json::from_value(cluster).unwrap();
        self.bench
            .api()
            .create(&PostParams::default(), &cluster)
            .await
            .unwrap();
        self.look("paused", |cluster, _| says(cluster, "Paused", "True"))
            .await;

        self.change(json!({"spec": {"paused": false}})).await;
        self.look("there is no control plane", |cluster, _| {
            says(cluster, "Paused", "False") && says(cluster, "ControlPlaneAvailable", "False")
        })
        .await;

        // No owner, no label: those are not the user's to set.
        let mut object = common::control_plane(&json!({}));
        object.metadata = serde_json::from_value(json!({"name": NAME})).unwrap();
        self.bench
            .api::<HostedControlPlane>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        // The core manager looks for a control plane that was not there each half a minute; this is to be sooner.
        self.change(json!({"metadata": {"annotations": {"example.com/look": "now"}}}))
            .await;
        self.look("the control plane has said nothing", |_, control_plane| {
            control_plane.is_some_and(|object| !object.owner_references().is_empty())
        })
        .await;

        let says_unknown = json!({"status": {"conditions": [{
            "type": "Available", "status": "Unknown", "reason": "Asked", "message": "nobody knows",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}});
        self.bench
            .api::<HostedControlPlane>()
            .patch_status(NAME, &PatchParams::default(), &Patch::Merge(says_unknown))
            .await
            .unwrap();
        self.look("the control plane knows nothing", |cluster, _| {
            says(cluster, "ControlPlaneAvailable", "Unknown")
        })
        .await;

        let hosted = self.bench.start();
        self.bench.until_ready().await;
        self.look("up", |cluster, _| {
            cluster.spec.control_plane_endpoint.is_some() && says(cluster, "ControlPlaneAvailable", "True")
        })
        .await;

        self.up = Some(self.cluster().await);

        // With nobody who would let the control plane go.
        hosted.cancel();
        tokio::time::sleep(self.bench.pause * 10).await;
        self.bench
            .api::<Cluster>()
            .delete(NAME, &DeleteParams::default())
            .await
            .unwrap();
        self.look("being deleted", |cluster, control_plane| {
            says(cluster, "Deleting", "True")
                && control_plane.is_some_and(|object| object.metadata.deletion_timestamp.is_some())
        })
        .await;

        self.bench.start();
        self.bench.until("the end", |object| object.is_none()).await;
        self.look("the control plane is gone", |cluster, _| {
            cluster.finalizers() == [HOLD]
        })
        .await;
        self.change(json!({"metadata": {"finalizers": null}})).await;
        let clusters = self.bench.api::<Cluster>();
        assert!(clusters.get_opt(NAME).await.unwrap().is_none());
        let left: Vec<String> = self.bench.contents().await.into_keys().collect();
        assert_eq!(left, Vec::<String>::new());
        self
    }

    /// The one recording that both are held to.
    fn compare(&self) {
        insta::assert_snapshot!("life_of_a_cluster", self.seen);
    }
}

fn says(cluster: &Cluster, kind: &str, status: &str) -> bool {
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == kind && condition.status == status)
}

/// All that a control plane and its users can tell from.
fn observe(cluster: &Cluster, control_plane: Option<&HostedControlPlane>) -> String {
    let uid = cluster.uid().unwrap();
    let status = cluster.status.clone().unwrap_or_default();
    let condition = |kind: &&str| {
        let found = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == *kind)?;
        let said = format!("{} {} {}", found.status, found.reason, found.message);
        Some(format!("{kind}: {}", said.trim_end()))
    };
    let seen = json!({
        "cluster": {
            "finalizers": cluster.finalizers(),
            "controlPlaneEndpoint": cluster.spec.control_plane_endpoint,
            "initialization": status.initialization,
            "phase": status.phase,
            "conditions": CONDITIONS.iter().filter_map(condition).collect::<Vec<_>>(),
        },
        "controlPlane": control_plane.map(|object| json!({
            "labels": object.labels(),
            "ownerReferences": object.owner_references(),
            "deleted": object.metadata.deletion_timestamp.is_some(),
        })),
    });
    serde_saphyr::to_string(&seen).unwrap().replace(&uid, "CLUSTER")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_core_manager_brings_a_cluster_up_and_takes_it_down() {
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
    // Under the published CRD, since that was there first.
    the_example_is_accepted(&bench.client, true).await;
    let mut life = Life::under(&mut bench).live().await;
    let [said, meant] = SLIP;
    assert!(life.seen.contains(said), "mended: compare without it");
    life.seen = life.seen.replace(said, meant);
    life.compare();
    // What only the core manager reports, of what the control plane says by the contract.
    let reported = serde_json::to_value(life.up.unwrap().status).unwrap();
    assert_eq!(reported["controlPlane"]["replicas"], 3, "{reported:#}");
    assert_eq!(reported["controlPlane"]["readyReplicas"], 3);
    assert_eq!(
        reported["controlPlane"]["versions"],
        json!([{"version": "v1.36.3", "replicas": 3}])
    );
    drop(control_plane);
}

#[tokio::test(start_paused = true)]
async fn our_controller_does_what_the_core_manager_does() {
    let clock = Clock::at("2026-06-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::builder().clock(clock).build();
    let mut bench = Bench::new(server.client(), clock, Duration::from_millis(250)).await;
    bench.patience = Duration::from_hours(6);
    let ours = run_with(
        server.client(),
        clock,
        None,
        CancellationToken::new(),
        |client, environment| clusterwright_cluster::controller(client).build(environment),
    );
    bench.spawn(ours);
    Life::under(&mut bench).live().await.compare();
}

/// Applies a document with unknown fields refused; what is stored.
async fn apply(client: &Client, document: &Value, dry_run: bool) -> kube::Result<Value> {
    let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
    let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply("example").validation_strict()
    };
    let stored = api
        .patch(&object.name_any(), &params, &Patch::Apply(document))
        .await?;
    Ok(serde_json::to_value(stored).unwrap())
}

/// Every document of the example is taken and kept whole.
async fn the_example_is_accepted(client: &Client, dry_run: bool) {
    let documents: Vec<Value> = serde_saphyr::from_multiple(EXAMPLE).unwrap();
    assert_eq!(documents.len(), 2);
    for mut document in documents {
        let stored = apply(client, &document, dry_run).await.unwrap();
        let mut with_all = stored.clone();
        json_patch::merge(&mut with_all, &document);
        assert_eq!(stored, with_all, "something of it was dropped");
        if document["kind"] == "HostedControlPlane" {
            document["spec"]["replica"] = json!(3);
            let told = apply(client, &document, dry_run).await.unwrap_err().to_string();
            assert!(told.contains("replica"), "{told}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_example_is_accepted_under_our_own_crd() {
    let bench = Bench::new(ApiServer::new().client(), Clock::system(), Duration::from_secs(1)).await;
    the_example_is_accepted(&bench.client, false).await;
}

#[tokio::test(start_paused = true)]
async fn the_example_is_accepted_under_the_published_crd() {
    let folder = require!(tools::find("cluster-api-crds"));
    let text = std::fs::read_to_string(folder.join("cluster.x-k8s.io_clusters.yaml")).unwrap();
    let published: Value = serde_saphyr::from_str(&text).unwrap();
    let client = ApiServer::new().client();
    apply(&client, &published, false).await.unwrap();
    let bench = Bench::new(client, Clock::system(), Duration::from_secs(1)).await;
    the_example_is_accepted(&bench.client, false).await;
    // It is the published one that was asked: ours keeps what it does not know.
    let mut cluster: Value = serde_saphyr::from_multiple(EXAMPLE).unwrap().swap_remove(0);
    cluster["spec"]["controlPlaneReference"] = json!({});
    let told = apply(&bench.client, &cluster, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("controlPlaneReference"), "{told}");
}
