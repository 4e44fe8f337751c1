//! Faults on purpose, and the record of calls.
#![allow(clippy::unwrap_used)]

use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::faults::{Fault, Rule};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

fn config(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "default")
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result.unwrap_err() {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_strikes_the_call_it_is_for_before_or_after() {
    let server = ApiServer::new();
    let api = maps(&server);
    let rule = |fault| Rule::on("create", "configmaps", fault);
    server.faults().add(rule(Fault::Conflict).nth(2));
    server.faults().add(rule(Fault::Cut).nth(3).after_it_is_applied());
    server.faults().add(rule(Fault::Internal).nth(4));
    server.faults().add(rule(Fault::Cut).nth(5));
    let mut codes = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let made = api.create(&PostParams::default(), &config(name)).await;
        codes.push(made.map_or_else(|error| code::<()>(Err(error)), |_| 201));
    }
    assert_eq!(codes, [201, 409, 0, 500, 0, 201]);
    let there = api.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = there
        .items
        .iter()
        .filter_map(|map| map.metadata.name.as_deref())
        .collect();
    assert_eq!(names, ["a", "c", "f"]);
}

#[tokio::test(start_paused = true)]
async fn latency_passes_on_the_paused_clock() {
    let server = ApiServer::new();
    let api = maps(&server);
    let slow = Fault::Latency(Duration::from_secs(7));
    server
        .faults()
        .add(Rule::on("*", "configmaps", slow).name("a").always());
    let begin = Instant::now();
    assert_eq!(code(api.get("b").await), 404);
    assert_eq!(begin.elapsed().as_secs(), 0);
    assert_eq!(code(api.get("a").await), 404);
    assert_eq!(begin.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn watches_fall_behind_and_break() {
    let server = ApiServer::new();
    let api = maps(&server);
    let stale = Fault::StaleWatch(Duration::from_secs(5));
    let dropped = Fault::DropWatch(Duration::from_secs(9));
    server.faults().add(Rule::on("watch", "configmaps", stale));
    server.faults().add(Rule::on("watch", "configmaps", dropped));
    let begin = Instant::now();
    let mut events = api.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    api.create(&PostParams::default(), &config("a")).await.unwrap();
    assert!(matches!(events.try_next().await, Ok(Some(WatchEvent::Added(_)))));
    assert_eq!(begin.elapsed().as_secs(), 5);
    assert!(events.try_next().await.is_err());
    assert_eq!(begin.elapsed().as_secs(), 9);
}

#[tokio::test(start_paused = true)]
async fn calls_are_recorded_with_who_and_what() {
    let server = ApiServer::new();
    server.record().start();
    let client = server.client_as("robot", ["machines"]);
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let _ = api.get("a").await;
    let calls = server.record().take();
    let call = &calls[0];
    assert_eq!(
        (
            call.verb,
            &*call.resource,
            &*call.namespace,
            &*call.name,
            &*call.user,
            call.code
        ),
        ("get", "configmaps", "default", "a", "robot", 404)
    );
    server.record().stop();
    let _ = api.get("a").await;
    assert!(server.record().calls().is_empty());
}
