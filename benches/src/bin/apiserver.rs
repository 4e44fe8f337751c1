//! What the in-process API server costs: its start, and creates and status applies with ten callers at a time through
//! the tower service as tests use it. Its own figures over TLS are reported.
//!
//! With `hold ADDRESS` it serves TLS and keeps what it is given, for a measurement of its memory from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clusterwright_apiserver::ApiServer;
use clusterwright_benches::{figure, median};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use serde_json::json;

const CALLERS: usize = 10;
const OBJECTS: usize = 10_000;
const RUNS: usize = 3;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut arguments = std::env::args().skip(1);
        if arguments.next().as_deref() == Some("hold") {
            let address = arguments.next().context("hold needs an address")?;
            return hold(address.parse()?).await;
        }
        measure().await
    })
}

async fn hold(address: SocketAddr) -> Result<()> {
    let server = ApiServer::new();
    let serving = server.serve(address).await?;
    println!("{}", serving.kubeconfig()?);
    tokio::signal::ctrl_c().await?;
    serving.stop().await;
    Ok(())
}

async fn measure() -> Result<()> {
    let mut starts = Vec::new();
    for _ in 0..RUNS {
        starts.push(start().await?.as_secs_f64() * 1000.0);
    }
    figure::at_most("apiserver-start", median(starts), "ms", 20.0);
    let (mut creates, mut applies) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let server = ApiServer::new();
        let client = server.client();
        creates.push(rate(&client, create).await?);
        define(&client).await?;
        each(&client, make).await?;
        applies.push(rate(&client, apply).await?);
    }
    figure::report("apiserver-creates", median(creates), "/s");
    figure::report("apiserver-status-applies", median(applies), "/s");
    let server = ApiServer::new();
    let serving = server.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let config = Kubeconfig::from_yaml(&serving.kubeconfig()?)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    figure::report("apiserver-creates-tls", rate(&client, create).await?, "/s");
    serving.stop().await;
    Ok(())
}

/// From the constructor to the answer to the first list.
async fn start() -> Result<Duration> {
    let begin = Instant::now();
    let server = ApiServer::new();
    Api::<ConfigMap>::default_namespaced(server.client())
        .list(&ListParams::default())
        .await?;
    Ok(begin.elapsed())
}

/// Runs `call` for every number, ten at a time, and says how many went through in a second.
async fn rate<F>(client: &kube::Client, call: fn(kube::Client, usize) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let begin = Instant::now();
    each(client, call).await?;
    Ok(f64::from(u32::try_from(OBJECTS)?) / begin.elapsed().as_secs_f64())
}

async fn each<F>(client: &kube::Client, call: fn(kube::Client, usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let calls = (0..CALLERS).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in (caller..OBJECTS).step_by(CALLERS) {
                call(client.clone(), number).await?;
            }
            anyhow::Ok(())
        })
    });
    let mut calls = calls.collect::<futures::stream::FuturesUnordered<_>>();
    while let Some(ended) = calls.next().await {
        ended??;
    }
    Ok(())
}

async fn create(client: kube::Client, number: usize) -> Result<()> {
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": format!("map-{number}")},
        "data": {"payload": "x".repeat(240)},
    }))?;
    Api::default_namespaced(client)
        .create(&PostParams::default(), &map)
        .await?;
    Ok(())
}

async fn define(client: &kube::Client) -> Result<()> {
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "widgets.bench.example.com"},
        "spec": {
            "group": "bench.example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    "status": {"type": "object", "properties": {
                        "observed": {"type": "integer"},
                        "conditions": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["type"],
                            "items": {"type": "object", "required": ["type", "status"], "properties": {
                                "type": {"type": "string"}, "status": {"type": "string"},
                                "reason": {"type": "string"}, "message": {"type": "string"},
                            }},
                        },
                    }},
                }}},
            }],
        },
    }))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &definition)
        .await?;
    Ok(())
}

fn widgets(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("bench.example.com", "v1", "Widget");
    Api::default_namespaced_with(client, &ApiResource::from_gvk(&kind))
}

async fn make(client: kube::Client, number: usize) -> Result<()> {
    let widget = serde_json::from_value(json!({
        "apiVersion": "bench.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": format!("widget-{number}")},
        "spec": {"size": number},
    }))?;
    widgets(client).create(&PostParams::default(), &widget).await?;
    Ok(())
}

async fn apply(client: kube::Client, number: usize) -> Result<()> {
    let status = json!({
        "apiVersion": "bench.example.com/v1",
        "kind": "Widget",
        "status": {
            "observed": number,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Bench", "message": "it is"}],
        },
    });
    widgets(client)
        .patch_status(
            &format!("widget-{number}"),
            &PatchParams::apply("bench").force(),
            &Patch::Apply(&status),
        )
        .await?;
    Ok(())
}
