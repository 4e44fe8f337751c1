//! The server on the network.
#![allow(clippy::unwrap_used)]

use clusterwright_apiserver::{ApiServer, ServeError, User};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use std::net::SocketAddr;

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn client(kubeconfig: &str) -> kube::Client {
    let config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    kube::Client::try_from(config).unwrap()
}

#[tokio::test]
async fn clients_with_certificates_and_tokens_are_known_and_others_refused() {
    let server = ApiServer::builder()
        .token("secret", User::new("robot", ["machines"]))
        .build();
    server.record().start();
    let serving = server.serve(any_port()).await.unwrap();
    let admin = client(&serving.kubeconfig().unwrap()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(admin.clone());
    let map = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    api.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(server.record().take()[0].user, "kubernetes-admin");

    let with = |token: Option<&str>| {
        let mut config: serde_json::Value = serde_json::from_str(&serving.kubeconfig().unwrap()).unwrap();
        config["users"][0]["user"] = token.map_or(json!({}), |token| json!({"token": token}));
        config.to_string()
    };
    let robot = client(&with(Some("secret"))).await;
    Api::<Namespace>::all(robot)
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(server.record().take()[0].user, "robot");

    for (token, code) in [(Some("wrong"), 401), (None, 403)] {
        let stranger = client(&with(token)).await;
        let refused = Api::<Namespace>::all(stranger).list(&ListParams::default()).await;
        assert!(
            matches!(refused, Err(kube::Error::Api(status)) if status.code == code),
            "{token:?}"
        );
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_told_and_a_stopped_server_frees_it() {
    let server = ApiServer::new();
    let serving = server.serve(any_port()).await.unwrap();
    let address = serving.address();
    let refused = server.serve(address).await.unwrap_err();
    assert!(matches!(refused, ServeError::Listen { .. }));
    assert!(
        refused
            .to_string()
            .starts_with(&format!("failed to listen on {address}: "))
    );

    // A watch that is open does not hold the server up.
    let admin = client(&serving.kubeconfig().unwrap()).await;
    let watch = Api::<Namespace>::all(admin)
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(4), serving.stop())
        .await
        .unwrap();
    drop(watch);
    server.serve(address).await.unwrap();
}

#[tokio::test]
async fn discovery_that_has_not_changed_says_that_and_no_more() {
    let server = ApiServer::new();
    let get = |tag: &str| {
        let request = http::Request::get("/apis")
            .header(
                "accept",
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            )
            .header("if-none-match", tag)
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        tower::ServiceExt::oneshot(server.service(), request)
    };
    let first = get("").await.unwrap();
    let tag = first.headers()["etag"].to_str().unwrap();
    let second = get(tag).await.unwrap();
    assert_eq!(second.status(), 304);
    assert_eq!(second.headers()["etag"], tag);
    // A cache would take it over and forget what kind of list it holds.
    assert!(!second.headers().contains_key("content-type"));
}
