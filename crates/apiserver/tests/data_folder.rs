//! A server that keeps what was written, and one that goes on with it.
#![allow(clippy::unwrap_used, clippy::panic)]

use clusterwright_apiserver::{ApiServer, OpenError};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, ResourceExt,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn open(folder: &Path) -> ApiServer {
    ApiServer::builder().rbac().open(folder).unwrap()
}

fn maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "default")
}

fn widgets(server: &ApiServer) -> Api<DynamicObject> {
    let kind = kube::core::GroupVersionKind::gvk("example.com", "v1", "Widget");
    Api::namespaced_with(server.client(), "default", &ApiResource::from_gvk(&kind))
}

async fn make(server: &ApiServer, name: &str, value: &str) -> ConfigMap {
    let map = object(json!({"metadata": {"name": name}, "data": {"k": value}}));
    maps(server).create(&PostParams::default(), &map).await.unwrap()
}

fn definition() -> CustomResourceDefinition {
    object(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}},
                }}},
            }],
        },
    }))
}

/// The one file of the folder whose name ends so.
fn file(folder: &Path, ending: &str) -> PathBuf {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    assert_eq!(found.len(), 1, "{ending}: {found:?}");
    found.remove(0)
}

#[tokio::test]
async fn another_server_goes_on_where_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    definitions
        .create(&PostParams::default(), &definition())
        .await
        .unwrap();
    let widget = object(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}));
    widgets(&server)
        .create(&PostParams::default(), &widget)
        .await
        .unwrap();
    let first = make(&server, "stays", "1").await;
    make(&server, "goes", "1").await;
    make(&server, "held", "1").await;
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    maps(&server)
        .patch("held", &PatchParams::default(), &hold)
        .await
        .unwrap();
    for name in ["goes", "held"] {
        maps(&server)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    let change = Patch::Merge(json!({"data": {"k": "2"}}));
    maps(&server)
        .patch("stays", &PatchParams::default(), &change)
        .await
        .unwrap();
    // What every cluster starts with is not made anew over what became of it.
    let roles = |server: &ApiServer| Api::<ClusterRole>::all(server.client());
    roles(&server)
        .delete("view", &DeleteParams::default())
        .await
        .unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"mine": "yes"}}}));
    roles(&server)
        .patch("edit", &PatchParams::default(), &label)
        .await
        .unwrap();

    let before = maps(&server).list(&ListParams::default()).await.unwrap();
    let namespaces = Api::<Namespace>::all(server.client())
        .list(&ListParams::default())
        .await
        .unwrap();
    let widgets_before = widgets(&server).list(&ListParams::default()).await.unwrap();
    server.close();

    let server = open(folder.path());
    let after = maps(&server).list(&ListParams::default()).await.unwrap();
    assert_eq!(after.items, before.items);
    assert_eq!(after.items.len(), 2);
    assert_eq!(
        Api::<Namespace>::all(server.client())
            .list(&ListParams::default())
            .await
            .unwrap()
            .items,
        namespaces.items
    );
    assert_eq!(
        widgets(&server).list(&ListParams::default()).await.unwrap().items,
        widgets_before.items
    );
    assert_eq!(widgets_before.items[0].data["spec"], Value::Null);
    assert_eq!(roles(&server).get("edit").await.unwrap().labels()["mine"], "yes");
    assert!(
        roles(&server).get("view").await.is_ok(),
        "a role that is missing is made again"
    );

    // Versions go on, and the past is gone as after a compaction.
    let version = |map: &ConfigMap| map.resource_version().unwrap().parse::<u64>().unwrap();
    let newest = before.items.iter().map(version).max().unwrap();
    assert!(version(&make(&server, "new", "1").await) > newest);
    let since = first.resource_version().unwrap();
    let refused = maps(&server).watch(&WatchParams::default(), &since).await;
    let expired = match refused {
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
        Ok(stream) => match futures::StreamExt::next(&mut Box::pin(stream)).await {
            Some(Ok(kube::api::WatchEvent::Error(status))) => status.code,
            other => panic!("{other:?}"),
        },
    };
    assert_eq!(expired, 410);
    // A deletion that was held goes on when nothing holds it.
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps(&server)
        .patch("held", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert!(maps(&server).get_opt("held").await.unwrap().is_none());
}

#[tokio::test]
async fn tokens_and_kubeconfigs_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client(), "default");
    accounts
        .create(
            &PostParams::default(),
            &object(json!({"metadata": {"name": "robot"}})),
        )
        .await
        .unwrap();
    let request: TokenRequest =
        object(json!({"spec": {"audiences": [], "expirationSeconds": 3600}, "metadata": {}}));
    let token = accounts
        .create_token_request("robot", &PostParams::default(), &request)
        .await
        .unwrap()
        .status
        .unwrap()
        .token;
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let serving = server.serve(address).await.unwrap();
    let (address, kubeconfig) = (serving.address(), serving.kubeconfig().unwrap());
    serving.stop().await;
    server.close();

    let server = open(folder.path());
    let serving = server.serve(address).await.unwrap();
    let config = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let review: TokenReview = object(json!({"metadata": {}, "spec": {"token": token}}));
    let review = Api::<TokenReview>::all(client)
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    let status = review.status.unwrap();
    assert_eq!(status.error, None);
    assert_eq!(
        status.user.unwrap().username.as_deref(),
        Some("system:serviceaccount:default:robot")
    );
    serving.stop().await;
}

#[tokio::test]
async fn half_a_line_at_the_end_is_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    make(&server, "whole", "1").await;
    server.close();
    let log = file(folder.path(), ".log");
    let whole = fs::read(&log).unwrap();
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    for cut in [last + 1, last + 20, whole.len() - 1] {
        fs::write(&log, &whole[..cut]).unwrap();
        let server = open(folder.path());
        assert!(
            maps(&server).get_opt("whole").await.unwrap().is_none(),
            "cut at {cut}"
        );
        server.close();
        assert_eq!(fs::read(&log).unwrap(), &whole[..last]);
        let server = open(folder.path());
        make(&server, "next", "1").await;
        server.close();
        let server = open(folder.path());
        assert!(maps(&server).get_opt("next").await.unwrap().is_some());
        server.close();
    }
}

#[tokio::test]
async fn what_was_not_written_by_a_server_is_refused_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    make(&server, "a", "1").await;
    make(&server, "b", "1").await;
    let in_use = ApiServer::builder().open(folder.path()).unwrap_err();
    assert!(matches!(in_use, OpenError::InUse { .. }), "{in_use}");
    server.close();

    let log = file(folder.path(), ".log");
    let written = fs::read(&log).unwrap();
    let lines = String::from_utf8_lossy(&written).lines().count();
    let mut touched = written.clone();
    let at = touched.len() - 400;
    touched[at] ^= 1;
    fs::write(&log, &touched).unwrap();
    let damaged = ApiServer::builder().open(folder.path()).unwrap_err();
    let said = damaged.to_string();
    assert!(
        said.contains(log.to_str().unwrap()) && said.contains("put the folder back"),
        "{said}"
    );
    let OpenError::Damaged { line, .. } = damaged else {
        panic!("{said}")
    };
    assert!(
        (lines as u64 - 1..=lines as u64).contains(&line),
        "{line} of {lines}"
    );
    assert_eq!(fs::read(&log).unwrap(), touched);

    fs::write(&log, "something else\n").unwrap();
    let other = ApiServer::builder().open(folder.path()).unwrap_err();
    assert!(matches!(other, OpenError::Damaged { line: 1, .. }), "{other}");
    fs::write(&log, &written).unwrap();

    fs::write(folder.path().join("authority.pem"), "no key").unwrap();
    let key = ApiServer::builder().open(folder.path()).unwrap_err();
    assert!(matches!(key, OpenError::Key { .. }), "{key}");
    let nowhere = ApiServer::builder().open("/dev/null/here").unwrap_err();
    assert!(
        nowhere.to_string().starts_with("failed to make /dev/null/here: "),
        "{nowhere}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    open(&folder).close();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_long_log_becomes_a_state() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    make(&server, "kept", "1").await;
    make(&server, "gone", "1").await;
    maps(&server)
        .delete("gone", &DeleteParams::default())
        .await
        .unwrap();
    make(&server, "large", "").await;
    // 20 MB of writes, most of which are overwritten.
    for round in 0..40 {
        let value = format!("{round}").repeat(250_000);
        let change = Patch::Merge(json!({"data": {"k": value}}));
        maps(&server)
            .patch("large", &PatchParams::default(), &change)
            .await
            .unwrap();
    }
    let state = folder.path().join("000000000002.state");
    while !state.exists() || folder.path().join("000000000001.log").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    make(&server, "after", "1").await;
    let before = maps(&server).list(&ListParams::default()).await.unwrap().items;
    server.close();
    assert!(fs::metadata(&state).unwrap().len() < 2_000_000);
    let server = open(folder.path());
    assert_eq!(
        maps(&server).list(&ListParams::default()).await.unwrap().items,
        before
    );
}
