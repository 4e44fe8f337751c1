//! Garbage collection and deletion of namespaces on the server in this process, under a paused clock.

use super::Companions;
use crate::ApiServer;
use crate::faults::{Fault, Rule};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Waits until `met`; a minute of paused time is plenty.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut met: impl FnMut() -> F) {
    for _ in 0..6000 {
        if met().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

pub(super) fn start(server: &ApiServer, configure: impl FnOnce(Companions) -> Companions) -> DropGuard {
    let shutdown = CancellationToken::new();
    let companions = configure(Companions::new(server.client(), server.clock()));
    tokio::spawn(companions.run(shutdown.clone()));
    shutdown.drop_guard()
}

async fn create(client: &Client, namespace: &str, name: &str, metadata: Value) -> ConfigMap {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .extend(metadata.as_object().unwrap().clone());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap()
}

fn owned_by(owner: &ConfigMap, block: bool) -> Value {
    json!({"ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid().unwrap(),
        "blockOwnerDeletion": block,
    }]})
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

async fn is_gone(api: &Api<ConfigMap>, name: &str) -> bool {
    api.get_opt(name).await.unwrap().is_none()
}

fn propagating(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    }
}

async fn release(api: &Api<ConfigMap>, name: &str) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions);
    let api = maps(&client);
    let owner = create(&client, "default", "owner", json!({})).await;
    let child = create(&client, "default", "child", owned_by(&owner, false)).await;
    create(&client, "default", "grandchild", owned_by(&child, true)).await;
    create(&client, "default", "other", json!({})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 4);
    api.delete("owner", &propagating(PropagationPolicy::Background))
        .await
        .unwrap();
    eventually("dependents are gone", async || {
        is_gone(&api, "child").await && is_gone(&api, "grandchild").await
    })
    .await;
    assert!(!is_gone(&api, "other").await);
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owner_was_never_there_goes_and_one_with_a_real_owner_only_loses_the_reference() {
    let server = ApiServer::new();
    let client = server.client();
    let api = maps(&client);
    let owner = create(&client, "default", "owner", json!({})).await;
    let ghost = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "no-such-uid"});
    create(&client, "default", "lost", json!({"ownerReferences": [ghost]})).await;
    let mut references = owned_by(&owner, false);
    references["ownerReferences"].as_array_mut().unwrap().push(ghost);
    create(&client, "default", "half", references).await;
    // Companions that start late find what happened before, also while one kind takes long to list.
    let slow = Rule::on("list", "secrets", Fault::Latency(Duration::from_secs(2)));
    server.faults().add(slow.always());
    let _running = start(&server, |companions| companions);
    eventually("the lost one is gone", async || is_gone(&api, "lost").await).await;
    eventually("the half lost one has one owner", async || {
        api.get("half").await.unwrap().owner_references().len() == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn in_the_foreground_dependents_go_first() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions);
    let api = maps(&client);
    let owner = create(&client, "default", "owner", json!({})).await;
    let mut held = owned_by(&owner, true);
    held["finalizers"] = json!(["example.com/hold"]);
    create(&client, "default", "child", held).await;
    create(&client, "default", "loose", owned_by(&owner, false)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.delete("owner", &propagating(PropagationPolicy::Foreground))
        .await
        .unwrap();
    eventually("the loose one is gone", async || is_gone(&api, "loose").await).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        api.get("owner").await.unwrap().finalizers(),
        ["foregroundDeletion"]
    );
    assert!(
        api.get("child")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    release(&api, "child").await;
    eventually("the owner is gone", async || is_gone(&api, "owner").await).await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions);
    let api = maps(&client);
    let owner = create(&client, "default", "owner", json!({})).await;
    create(&client, "default", "child", owned_by(&owner, true)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.delete("owner", &propagating(PropagationPolicy::Orphan))
        .await
        .unwrap();
    eventually("the owner is gone", async || is_gone(&api, "owner").await).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(api.get("child").await.unwrap().owner_references().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_another_namespace_is_none() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(other).unwrap())
        .await
        .unwrap();
    let owner = create(&client, "other", "owner", json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    create(&client, "default", "child", owned_by(&owner, false)).await;
    let api = maps(&client);
    eventually("the child is gone", async || is_gone(&api, "child").await).await;
    let events: Api<Event> = Api::namespaced(client, "default");
    let reported = async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        events
            .items
            .iter()
            .any(|event| event.reason.as_deref() == Some("OwnerRefInvalidNamespace"))
    };
    eventually("an event says so", reported).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_namespace_is_emptied_and_says_what_is_left() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let doomed = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}});
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(doomed).unwrap())
        .await
        .unwrap();
    create(
        &client,
        "doomed",
        "held",
        json!({"finalizers": ["example.com/hold"]}),
    )
    .await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "doomed");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    namespaces
        .delete("doomed", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the secret is gone", async || {
        secrets.get_opt("s").await.unwrap().is_none()
    })
    .await;
    let says = async || {
        let namespace = namespaces.get("doomed").await.unwrap();
        let conditions = namespace.status.unwrap().conditions.unwrap_or_default();
        let message = |kind: &str| {
            let found = conditions.iter().find(|condition| condition.type_ == kind);
            found
                .and_then(|condition| condition.message.clone())
                .unwrap_or_default()
        };
        message("NamespaceContentRemaining")
            == "Some resources are remaining: configmaps. has 1 resource instances"
            && message("NamespaceFinalizersRemaining")
                == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    };
    eventually("the conditions say what is left", says).await;
    release(&Api::namespaced(client.clone(), "doomed"), "held").await;
    eventually("the namespace is gone", async || {
        namespaces.get_opt("doomed").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_switched_off_does_nothing() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| {
        companions.garbage_collection(false).namespaces(false)
    });
    let owner = create(&client, "default", "owner", json!({})).await;
    create(&client, "default", "child", owned_by(&owner, false)).await;
    let api = maps(&client);
    api.delete("owner", &DeleteParams::background()).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!is_gone(&api, "child").await);
}

#[tokio::test(start_paused = true)]
async fn every_namespace_has_the_certificate_and_keeps_it() {
    let server = ApiServer::new();
    let _running = start(&server, |companions| {
        companions.root_certificate("the certificate")
    });
    let client = server.client();
    let all: Api<Namespace> = Api::all(client.clone());
    let team = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    all.create(&PostParams::default(), &team).await.unwrap();
    for namespace in ["default", "kube-system", "team"] {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let is_there = async || {
            let map = maps.get_opt("kube-root-ca.crt").await.unwrap();
            map.is_some_and(|map| json!(map.data) == json!({"ca.crt": "the certificate"}))
        };
        eventually("published", is_there).await;
        let other = Patch::Merge(json!({"data": {"ca.crt": "another", "more": "x"}}));
        maps.patch("kube-root-ca.crt", &PatchParams::default(), &other)
            .await
            .unwrap();
        eventually("set right", is_there).await;
        maps.delete("kube-root-ca.crt", &DeleteParams::default())
            .await
            .unwrap();
        eventually("published again", is_there).await;
    }
    all.delete("team", &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", async || {
        all.get_opt("team").await.unwrap().is_none()
    })
    .await;
}
