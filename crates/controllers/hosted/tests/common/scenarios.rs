//! What has to be true of a control plane on every server.

use std::collections::BTreeMap;

use clusterwright_api::{Cluster, HostedControlPlane};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::harness::{Bench, NAME, condition, holds};
#[allow(unused_imports, reason = "each test file uses a part")]
pub use super::members::{
    a_lost_majority_is_told, a_member_that_lost_its_data_is_replaced, etcd_grows_and_shrinks,
};
#[allow(unused_imports, reason = "each test file uses a part")]
pub use super::validation::{fields_are_validated, volumes_do_not_shrink};

/// What keeps `clusterctl move` from moving an object.
const BLOCK_MOVE: &str = "clusterctl.cluster.x-k8s.io/block-move";

/// From nothing to Ready, and then no write without a change.
pub async fn create_to_ready(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;

    let object = bench.get().await.unwrap();
    let status = object.status.clone().unwrap();
    assert_eq!(
        status.initialization.unwrap().control_plane_initialized,
        Some(true)
    );
    assert_eq!(
        [
            status.replicas,
            status.ready_replicas,
            status.available_replicas,
            status.up_to_date_replicas
        ],
        [Some(3); 4]
    );
    assert_eq!(status.version.as_deref(), Some("v1.36.3"));
    assert_eq!((status.versions.len(), status.versions[0].replicas), (1, Some(3)));
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert_eq!(status.external_managed_control_plane, Some(true));
    let endpoint = object.spec.control_plane_endpoint.as_ref().unwrap();
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port),
        ("192.0.2.10", Some(6443))
    );
    for kind in [
        "RollingOut",
        "ScalingUp",
        "ScalingDown",
        "Paused",
        "Deleting",
        "FieldsNotSupported",
    ] {
        assert_eq!(condition(&object, kind).unwrap().status, "False", "{kind}");
    }

    for purpose in ["ca", "etcd", "proxy", "sa", "kubeconfig"] {
        let secret: Secret = bench.api().get(&format!("{NAME}-{purpose}")).await.unwrap();
        assert_eq!(
            secret.type_.as_deref(),
            Some("cluster.x-k8s.io/secret"),
            "{purpose}"
        );
        assert_eq!(secret.labels()["cluster.x-k8s.io/cluster-name"], NAME);
        let key = if purpose == "kubeconfig" {
            "value"
        } else {
            "tls.key"
        };
        assert!(secret.data.unwrap().contains_key(key), "{purpose}");
    }

    // Nothing is written when nothing changes.
    quiet(bench).await;
}

/// Waits until nothing has changed for a while, and fails if that never is.
pub async fn quiet(bench: &Bench) -> BTreeMap<String, String> {
    let mut before = bench.contents().await;
    for _ in 0..20 {
        tokio::time::sleep(bench.pause * 20).await;
        let after = bench.contents().await;
        if after == before {
            return after;
        }
        before = after;
    }
    panic!("writes go on and on");
}

/// The manager is started anew: what is there is taken as it is.
pub async fn restart_changes_nothing(bench: &mut Bench) {
    let first = bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    let before = quiet(bench).await;
    first.cancel();
    tokio::time::sleep(bench.pause * 10).await;
    bench.start();
    assert_eq!(quiet(bench).await, before);
}

/// The status is emptied while no manager runs: the next one makes it anew from what is there, and touches nothing else.
pub async fn an_emptied_status_is_made_anew(bench: &mut Bench) {
    let first = bench.start();
    bench
        .create(&json!({"gateway": {"namespace": "gw", "name": "public"}}))
        .await;
    bench.until_ready().await;
    let before = quiet(bench).await;
    let status = bench.status().await;
    first.cancel();
    tokio::time::sleep(bench.pause * 10).await;

    let mut object = bench.get().await.unwrap();
    object.status = None;
    let api = bench.api::<HostedControlPlane>();
    api.replace_status(NAME, &PostParams::default(), &object)
        .await
        .unwrap();
    assert_eq!(bench.get().await.unwrap().status, None);
    bench.start();
    bench.until_ready().await;
    let mut after = quiet(bench).await;
    assert_eq!(bench.status().await, status);
    let own = format!("HostedControlPlane {NAME}");
    assert_ne!(after.insert(own.clone(), before[&own].clone()), None);
    assert_eq!(after, before);
}

/// From minor to minor: etcd, then API servers, then the others.
pub async fn upgrade(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({"version": "v1.33.13"})).await;
    bench.until_ready().await;
    let keys = bench.keys().await;
    bench.world.log.lock().unwrap().clear();

    bench
        .patch(json!({"spec": {"version": "v1.34.4"}}))
        .await
        .unwrap();
    bench.until_ready().await;

    let log = bench.world.log.lock().unwrap().clone();
    let expected: Vec<&str> = ["etcd 3.6.5-0"; 3]
        .into_iter()
        .chain(["kube-apiserver v1.34.4"; 3])
        .collect();
    assert_eq!(log[..6], expected, "{log:?}");
    let mut rest = log[6..].to_vec();
    rest.sort();
    assert_eq!(
        rest,
        ["kube-controller-manager v1.34.4", "kube-scheduler v1.34.4"]
    );
    assert_eq!(
        bench.get().await.unwrap().status.unwrap().version.as_deref(),
        Some("v1.34.4")
    );
    assert_eq!(bench.keys().await, keys, "an upgrade makes no key anew");
}

/// Earlier minors, pre-releases, skipped minors and versions that are not known are refused, with a word that helps.
pub async fn versions_are_guarded(bench: &mut Bench) {
    bench.create(&json!({"version": "v1.34.4"})).await;
    for (version, word) in [
        ("v1.33.13", "may not go back to an earlier minor"),
        ("v1.34.4-rc.1", "may not go back to a pre-release"),
        ("v1.34.3-rc.1", "may not go back to a pre-release"),
        ("v1.36.3", "may not skip a minor"),
        ("v1.37.0", "v1.33 to v1.36"),
        ("v1.32.0", "v1.33 to v1.36"),
        ("latest", "v1.33 to v1.36"),
    ] {
        let refused = bench
            .patch(json!({"spec": {"version": version}}))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(word), "{version}: {refused}");
    }
    for version in [
        "v1.34.4",
        "v1.34.3",
        "v1.34.5-rc.0",
        "v1.34.5",
        "1.34.6",
        "v1.34.5",
        "v1.34.99",
        "v1.34.4",
        "v1.35.0",
    ] {
        bench.patch(json!({"spec": {"version": version}})).await.unwrap();
    }

    // While 1.34 runs, 1.35 is still to come.
    bench.set_status(json!({"version": "v1.34.4"})).await;
    for version in ["v1.36.0", "v1.35.1", "v1.36.3"] {
        bench.patch(json!({"spec": {"version": version}})).await.unwrap();
    }
    bench
        .patch(json!({"spec": {"version": "v1.34.4"}}))
        .await
        .unwrap_err();
    bench.set_status(json!({"version": "v1.35.1"})).await;
    let refused = bench
        .patch(json!({"spec": {"version": "v1.35.1"}}))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("may not go back to an earlier minor"),
        "{refused}"
    );
}

/// `clusterctl move` is kept from deleting the pods: from before there are any, and again when someone takes the
/// annotation away, but for who has paused the Cluster and so knows.
pub async fn a_move_is_blocked(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    let annotated = |object: Option<&HostedControlPlane>| {
        object.is_some_and(|object| object.annotations().contains_key(BLOCK_MOVE))
    };
    bench.until("the annotation", annotated).await;
    bench.until_ready().await;
    let object = bench.get().await.unwrap();
    let said = condition(&object, "MoveBlocked").unwrap();
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("True", "PodsInManagementCluster")
    );
    assert!(said.message.contains(BLOCK_MOVE), "{}", said.message);

    let take_away = json!({"metadata": {"annotations": {(BLOCK_MOVE): null}}});
    bench.patch(take_away.clone()).await.unwrap();
    bench.until("the annotation again", annotated).await;

    set(bench, &json!({"spec": {"paused": true}}), true).await;
    bench
        .until("Paused", |object| {
            object.is_some_and(|object| holds(object, "Paused"))
        })
        .await;
    bench.patch(take_away).await.unwrap();
    tokio::time::sleep(bench.pause * 20).await;
    assert!(!annotated(bench.get().await.as_ref()));
    set(bench, &json!({"spec": {"paused": false}}), true).await;
    bench.until("the annotation at last", annotated).await;
}

/// While paused nothing is done, and going on does all of it.
pub async fn pause(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    for (pause, go_on, on_cluster) in [
        (
            json!({"spec": {"paused": true}}),
            json!({"spec": {"paused": false}}),
            true,
        ),
        (
            json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}}),
            json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": null}}}),
            false,
        ),
    ] {
        set(bench, &pause, on_cluster).await;
        bench
            .until("Paused", |object| {
                object.is_some_and(|object| holds(object, "Paused"))
            })
            .await;
        let wanted = if on_cluster { 4 } else { 2 };
        bench.patch(json!({"spec": {"replicas": wanted}})).await.unwrap();
        tokio::time::sleep(bench.pause * 20).await;
        let deployment: Deployment = bench.api().get(&format!("{NAME}-api-server")).await.unwrap();
        assert_ne!(deployment.spec.unwrap().replicas, Some(wanted));
        set(bench, &go_on, on_cluster).await;
        bench.until_ready().await;
        let object = bench.get().await.unwrap();
        assert_eq!(condition(&object, "Paused").unwrap().status, "False");
        assert_eq!(object.status.unwrap().replicas, Some(wanted));
    }
}

async fn set(bench: &Bench, patch: &serde_json::Value, on_cluster: bool) {
    if on_cluster {
        let clusters = bench.api::<Cluster>();
        clusters
            .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    } else {
        bench.patch(patch.clone()).await.unwrap();
    }
}

/// Fields that are not acted on are kept and named.
pub async fn fields_not_supported(bench: &mut Bench) {
    bench.start();
    bench
        .create(&json!({"gateway": {"namespace": "gw", "name": "public"}, "coredns": {"replicas": 2}}))
        .await;
    bench.until_ready().await;
    let object = bench.get().await.unwrap();
    let condition = condition(&object, "FieldsNotSupported").unwrap().clone();
    assert_eq!(condition.status, "True");
    assert!(
        condition.message.ends_with("spec.gateway, spec.coredns"),
        "{}",
        condition.message
    );
    assert_eq!(object.spec.inline.gateway.as_ref().unwrap().name, "public");

    // One Event for this spec, however often it was looked at, and one for the next.
    let first = condition.message.clone();
    told(bench, &object, &[&first]).await;
    bench.patch(json!({"spec": {"coredns": null}})).await.unwrap();
    bench.until_ready().await;
    let next = "kept but not acted on by this release: spec.gateway";
    told(bench, &object, &[&first, next]).await;
    quiet(bench).await;
    told(bench, &object, &[&first, next]).await;
}

/// Waits until there are as many Events of fields that are not supported as there are notes; they say just these.
async fn told(bench: &Bench, object: &HostedControlPlane, notes: &[&str]) {
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..100 {
        let list = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
        events = list.items;
        events.retain(|event| {
            let regarding = event
                .regarding
                .as_ref()
                .and_then(|regarding| regarding.uid.as_ref());
            event.reason.as_deref() == Some("FieldsNotSupported") && regarding == object.uid().as_ref()
        });
        if events.len() >= notes.len() {
            break;
        }
        tokio::time::sleep(bench.pause).await;
    }
    let mut said: Vec<&str> = events.iter().filter_map(|event| event.note.as_deref()).collect();
    said.sort_unstable();
    let mut notes = notes.to_vec();
    notes.sort_unstable();
    assert_eq!(said, notes);
    for event in &events {
        let regarding = event.regarding.clone().unwrap();
        assert_eq!(regarding.kind.as_deref(), Some("HostedControlPlane"));
        assert_eq!(
            regarding.api_version.as_deref(),
            Some("controlplane.cluster.x-k8s.io/v1alpha1")
        );
        assert_eq!(regarding.name.as_deref(), Some(NAME));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.series, None, "told more than once");
    }
}

/// A root that has gone is not made anew, and nothing else is touched.
pub async fn a_lost_root_is_not_made_anew(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    let before = quiet(bench).await;
    let secret: Secret = bench.api().get(&format!("{NAME}-ca")).await.unwrap();
    bench
        .api::<Secret>()
        .delete(&format!("{NAME}-ca"), &DeleteParams::default())
        .await
        .unwrap();
    bench
        .until("the loss is told", |object| {
            object.is_some_and(|object| {
                condition(object, "CertificatesAvailable")
                    .is_some_and(|condition| condition.reason == "CertificateAuthorityMissing")
                    && holds(object, "Available")
            })
        })
        .await;
    let after = quiet(bench).await;
    for (name, uid_and_version) in &before {
        if name != &format!("Secret {NAME}-ca") && !name.starts_with("HostedControlPlane") {
            assert_eq!(after.get(name), Some(uid_and_version), "{name}");
        }
    }
    assert!(!after.contains_key(&format!("Secret {NAME}-ca")));
    // Given back, all goes on.
    let mut restored = secret;
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    bench
        .api::<Secret>()
        .create(&PostParams::default(), &restored)
        .await
        .unwrap();
    bench.until_ready().await;
}

/// Deleted in order, with nothing left.
pub async fn delete_leaves_nothing(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    delete(bench).await;
    let left: Vec<String> = bench.contents().await.into_keys().collect();
    assert_eq!(left, Vec::<String>::new());
}

/// Deletes the control plane and waits until it is gone.
pub async fn delete(bench: &Bench) {
    bench
        .api::<HostedControlPlane>()
        .delete(NAME, &DeleteParams::default())
        .await
        .unwrap();
    bench.until("the end", |object| object.is_none()).await;
}
