//! The server as a client sees it: create, read, change, watch, delete.
#![allow(clippy::unwrap_used)]

use clusterwright_apiserver::ApiServer;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, ResourceExt, WatchEvent, WatchParams,
};
use serde_json::json;

fn config(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"app": value}}, "data": {"k": value}}),
    )
    .unwrap()
}

fn maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "default")
}

#[tokio::test(start_paused = true)]
async fn objects_are_created_read_changed_and_deleted() {
    let server = ApiServer::new();
    let api = maps(&server);
    let made = api
        .create(&PostParams::default(), &config("a", "1"))
        .await
        .unwrap();
    assert!(made.uid().is_some());
    assert_eq!(api.get("a").await.unwrap(), made);
    let again = api.create(&PostParams::default(), &config("a", "1")).await;
    assert!(
        matches!(again, Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists")
    );

    let mut changed = made.clone();
    changed
        .data
        .get_or_insert_default()
        .insert("k".into(), "2".into());
    let stored = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(stored.resource_version(), made.resource_version());
    let stale = api.replace("a", &PostParams::default(), &changed).await;
    assert!(
        matches!(stale, Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "Conflict")
    );
    let same = api.replace("a", &PostParams::default(), &stored).await.unwrap();
    assert_eq!(same.resource_version(), stored.resource_version());

    let patch = Patch::Merge(json!({"data": {"k": null, "l": "3"}}));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(
        patched.data.unwrap().into_iter().collect::<Vec<_>>(),
        [("l".to_owned(), "3".to_owned())]
    );

    api.delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .right()
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn lists_are_paged_and_selected() {
    let server = ApiServer::new();
    let api = maps(&server);
    for n in 0..5 {
        let map = config(&format!("m{n}"), if n % 2 == 0 { "even" } else { "odd" });
        api.create(&PostParams::default(), &map).await.unwrap();
    }
    let odd = api.list(&ListParams::default().labels("app=odd")).await.unwrap();
    assert_eq!(odd.items.len(), 2);
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    // What comes in between is in no page of the list.
    api.create(&PostParams::default(), &config("m3a", "odd"))
        .await
        .unwrap();
    api.delete("m4", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = api
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    let names: Vec<String> = rest.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["m2", "m3", "m4"]);
    server.compact();
    let expired = api.list(&ListParams::default().continue_token(&token)).await;
    assert!(matches!(expired, Err(kube::Error::Api(status)) if status.code == 410));
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_happens_and_what_leaves_the_selection() {
    let server = ApiServer::new();
    let api = maps(&server);
    let params = WatchParams::default().labels("app=1").timeout(10);
    let mut events = api.watch(&params, "0").await.unwrap().boxed();
    api.create(&PostParams::default(), &config("a", "1"))
        .await
        .unwrap();
    api.create(&PostParams::default(), &config("b", "2"))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "2"}}}));
    api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    let seen = |event: WatchEvent<ConfigMap>| match event {
        WatchEvent::Added(map) => format!("added {}", map.name_any()),
        WatchEvent::Deleted(map) => format!("deleted {}", map.name_any()),
        WatchEvent::Bookmark(mark) => format!("bookmark {}", mark.metadata.annotations.len()),
        other => format!("{other:?}"),
    };
    let mut said = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        said.push(seen(event));
    }
    assert_eq!(said, ["bookmark 1", "added a", "deleted a"]);
}

#[tokio::test(start_paused = true)]
async fn namespaces_hold_what_is_in_them() {
    let server = ApiServer::new();
    let namespaces: Api<Namespace> = Api::all(server.client());
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(
        names,
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );
    let missing: Api<ConfigMap> = Api::namespaced(server.client(), "missing");
    let refused = missing.create(&PostParams::default(), &config("a", "1")).await;
    assert!(
        matches!(refused, Err(kube::Error::Api(status)) if status.code == 404 && status.message == "namespaces \"missing\" not found")
    );
}
