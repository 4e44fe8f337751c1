//! The server as a client sees it: create, read, change, watch, delete.
#![allow(clippy::unwrap_used, clippy::panic)]

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
    // The last one comes two seconds before the end, for the client to go on from.
    assert_eq!(said, ["bookmark 1", "added a", "deleted a", "bookmark 0"]);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_a_list_and_the_watch_from_it() {
    const WRITES: usize = 300;
    let server = ApiServer::new();
    for _ in 0..8 {
        let api = maps(&server);
        let writer = tokio::spawn({
            let api = api.clone();
            async move {
                for n in 0..WRITES {
                    let name = format!("m{n}");
                    api.create(&PostParams::default(), &config(&name, "1"))
                        .await
                        .unwrap();
                }
            }
        });
        tokio::task::yield_now().await;
        let list = api.list(&ListParams::default()).await.unwrap();
        let from = list.metadata.resource_version.unwrap();
        let mut seen: std::collections::BTreeSet<String> =
            list.items.iter().map(ResourceExt::name_any).collect();
        let mut events = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
        while seen.len() < WRITES {
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), events.try_next()).await;
            let Ok(Ok(Some(WatchEvent::Added(map)))) = next else {
                panic!("after {} of {WRITES}: {next:?}", seen.len());
            };
            assert!(seen.insert(map.name_any()), "said twice");
        }
        writer.await.unwrap();
        api.delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .unwrap();
    }
}
