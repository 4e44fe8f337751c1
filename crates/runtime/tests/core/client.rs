//! The client: what it reads is never older than what it wrote, and what it need not write it does not.

use std::time::Duration;

use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_runtime::cache::CacheOptions;
use clusterwright_runtime::client::Client;
use clusterwright_runtime::controller::{Controller, Owner};
use clusterwright_runtime::reconcile::Outcome;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::harness::{Func, World, config_map, eventually, key, mirror_of};

/// A world whose watch on ConfigMaps says nothing for an hour.
async fn behind() -> World {
    let mut world = World::new();
    let rule = Rule::on(
        "watch",
        "configmaps",
        Fault::StaleWatch(Duration::from_secs(3600)),
    );
    world.server.faults().add(rule.always());
    world.create("a").await;
    world.cache.informer::<ConfigMap>();
    world.start([]).await;
    world
}

fn data(object: Option<&ConfigMap>) -> Option<&str> {
    object?.data.as_ref()?.get("k").map(String::as_str)
}

#[tokio::test(start_paused = true)]
async fn own_writes_show_at_once_however_late_the_watch_is() {
    let world = behind().await;
    let read = || world.client.get::<ConfigMap>(&key("a")).unwrap();
    let patch = Patch::Merge(json!({ "data": { "k": "1" } }));
    world
        .client
        .patch::<ConfigMap, _>(&key("a"), &patch)
        .await
        .unwrap();
    assert_eq!(data(read().as_ref()), Some("1"));
    let mut object = read().unwrap();
    object.data = Some([("k".to_owned(), "2".to_owned())].into());
    world.client.replace(&object).await.unwrap();
    assert_eq!(data(read().as_ref()), Some("2"));
    let mut config = config_map("a");
    config.data = Some([("k".to_owned(), "3".to_owned())].into());
    world.client.apply(&config).await.unwrap();
    assert_eq!(data(read().as_ref()), Some("3"));
    world.client.create(&config_map("b")).await.unwrap();
    assert!(world.client.get::<ConfigMap>(&key("b")).unwrap().is_some());
    assert!(
        world
            .client
            .delete::<ConfigMap>(&key("a"), &DeleteParams::default())
            .await
            .unwrap()
    );
    assert_eq!(read(), None);
    assert!(
        !world
            .client
            .delete::<ConfigMap>(&key("a"), &DeleteParams::default())
            .await
            .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn what_others_did_to_our_writes_is_found_out_even_if_the_watch_is_stuck() {
    let world = behind().await;
    world.client.create(&config_map("b")).await.unwrap();
    world.client.create(&config_map("c")).await.unwrap();
    world.delete::<ConfigMap>("b").await;
    world.set("c", "k", "theirs").await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(world.client.get::<ConfigMap>(&key("b")).unwrap(), None);
    let c = world.client.get::<ConfigMap>(&key("c")).unwrap();
    assert_eq!(data(c.as_ref()), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_controller_with_a_stale_cache_makes_nothing_twice() {
    let mut world = World::new();
    let rule = Rule::on("watch", "secrets", Fault::StaleWatch(Duration::from_secs(600)));
    world.server.faults().add(rule.always());
    let informer = world.cache.informer::<Secret>();
    informer.index("owner", |secret| {
        let owners = secret.metadata.owner_references.iter().flatten();
        owners.map(|owner| owner.name.clone()).collect()
    });
    // Makes a child with a name that the server chooses, if there is none.
    let reconciler = Func::new(|cx, key| async move {
        let Some(owner) = cx.client().get::<ConfigMap>(&key)? else {
            return Ok(Outcome::Done);
        };
        if cx.client().list_by::<Secret>("owner", key.name())?.is_empty() {
            let mut child = mirror_of(&owner);
            child.metadata.name = None;
            child.metadata.generate_name = Some("child-".into());
            cx.client().create(&child).await?;
        }
        Ok(Outcome::RequeueAfter(Duration::from_secs(1)))
    });
    let controller = Controller::builder("children", reconciler).owns::<Secret>(Owner::ControllerOnly);
    let controller = controller.build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let children = world
        .other::<Secret>()
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    assert_eq!(children.items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_apply_that_changes_nothing_is_not_sent() {
    let mut world = World::new();
    world.cache.informer::<ConfigMap>();
    world.start([]).await;
    let mut config = config_map("a");
    config.data = Some([("k".to_owned(), "1".to_owned())].into());
    assert!(world.client.apply(&config).await.unwrap().sent);
    let again = world.client.apply(&config).await.unwrap();
    assert!(!again.sent);
    assert_eq!(data(Some(&again.object)), Some("1"));

    // Another adds what we do not care for: still nothing to do.
    world.set("a", "other", "x").await;
    let seen = || async {
        let object = world.client.get::<ConfigMap>(&key("a")).unwrap().unwrap();
        object.data.unwrap().contains_key("other")
    };
    eventually("seen", seen).await;
    assert!(!world.client.apply(&config).await.unwrap().sent);

    // Another takes what we want.
    world.set("a", "k", "2").await;
    let seen = || async { data(world.client.get(&key("a")).unwrap().as_ref()) == Some("2") };
    eventually("seen", seen).await;
    assert!(world.client.apply(&config).await.unwrap().sent);

    // We want less than before: what is left would contain it, but something has to go.
    config.data = None;
    let less = world.client.apply(&config).await.unwrap();
    assert!(less.sent);
    assert_eq!(data(Some(&less.object)), None);

    // Another owner's fields are not ours.
    let other = Client::new(world.server.client(), world.cache.clone(), "elsewhere");
    assert!(other.apply(&config).await.unwrap().sent);
}

/// A process that has just started.
async fn restarted(world: &World) -> World {
    let mut next = World::with(world.server.clone(), CacheOptions::default());
    next.cache.informer::<Service>();
    next.start([]).await;
    next
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_applied_is_not_sent_again() {
    let mut world = World::new();
    world.cache.informer::<Service>();
    world.start([]).await;
    let mut service: Service = serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "default", "labels": { "a": "1" } },
        "spec": { "type": "LoadBalancer", "selector": { "app": "s" },
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
    }))
    .unwrap();
    world.client.apply(&service).await.unwrap();
    let status = |address: &str| -> Service {
        let status = json!({ "loadBalancer": { "ingress": [{ "ip": address }] } });
        serde_json::from_value(json!({ "metadata": service.metadata, "status": status })).unwrap()
    };
    world.client.apply_status(&status("10.1.2.3")).await.unwrap();

    let next = restarted(&world).await;
    let started = &next.client;
    assert!(!started.apply(&service).await.unwrap().sent);
    assert!(!started.apply_status(&status("10.1.2.3")).await.unwrap().sent);
    assert!(started.apply_status(&status("10.1.2.4")).await.unwrap().sent);

    // What the earlier process applied and this one does not want has to go.
    service.metadata.labels = None;
    let next = restarted(&world).await;
    let applied = next.client.apply(&service).await.unwrap();
    assert!(applied.sent);
    assert_eq!(applied.object.metadata.labels, None);

    // Another has taken a field since: it is taken back.
    let next = restarted(&world).await;
    let started = &next.client;
    let theirs = json!({ "apiVersion": "v1", "kind": "Service", "spec": { "selector": { "app": "t" } } });
    let params = PatchParams::apply("they").force();
    world
        .other::<Service>()
        .patch("s", &params, &Patch::Apply(theirs))
        .await
        .unwrap();
    let seen = || async {
        let object = started.get::<Service>(&key("s")).unwrap().unwrap();
        object.spec.unwrap().selector.unwrap()["app"] == "t"
    };
    eventually("seen", seen).await;
    assert!(started.apply(&service).await.unwrap().sent);
}

#[tokio::test(start_paused = true)]
async fn a_status_is_applied_on_its_own() {
    let mut world = World::new();
    world.cache.informer::<Service>();
    world.start([]).await;
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "default" },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    }))
    .unwrap();
    world.client.apply(&service).await.unwrap();
    let mut status = service.clone();
    status.spec = None;
    status.status =
        serde_json::from_value(json!({ "loadBalancer": { "ingress": [{ "ip": "10.1.2.3" }] } })).unwrap();
    let applied = world.client.apply_status(&status).await.unwrap();
    assert!(applied.sent);
    assert_eq!(applied.object.spec.unwrap().ports.unwrap()[0].port, 80);
    assert!(!world.client.apply_status(&status).await.unwrap().sent);
    assert!(
        !world.client.apply(&service).await.unwrap().sent,
        "the status is not ours to restate"
    );
}

#[tokio::test(start_paused = true)]
async fn other_writes_that_change_nothing_are_not_sent_either() {
    let mut world = World::new();
    world.create("a").await;
    world.cache.informer::<ConfigMap>();
    world.start([]).await;
    let object = world.client.get::<ConfigMap>(&key("a")).unwrap().unwrap();
    world.client.replace(&object).await.unwrap();
    let patch = Patch::Merge(json!({ "data": null }));
    world
        .client
        .patch::<ConfigMap, _>(&key("a"), &patch)
        .await
        .unwrap();
    assert_eq!(
        (
            world.calls("update", "configmaps"),
            world.calls("patch", "configmaps")
        ),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_told_apart_from_other_refusals() {
    let mut world = World::new();
    world.cache.informer::<ConfigMap>();
    let object = world.create("a").await;
    world.start([]).await;
    world.set("a", "k", "theirs").await;
    let mut ours = object;
    ours.data = Some([("k".to_owned(), "ours".to_owned())].into());
    let error = world.client.replace(&ours).await.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.reason(), "Conflict");
    assert_eq!(error.to_string(), "failed to update ConfigMap default/a");
    let error = world.client.create(&config_map("a")).await.unwrap_err();
    assert!(error.is_already_exists());
    let error = world.client.get::<Secret>(&key("a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read Secret: no controller or cache watches it"
    );
    let live = world.client.get_live::<Secret>(&key("a")).await.unwrap();
    assert_eq!(live, None);
    let params = PatchParams::default();
    let bad = Patch::Merge(json!({ "data": { "k": 1 } }));
    world
        .other::<ConfigMap>()
        .patch("a", &params, &bad)
        .await
        .unwrap_err();
}
