//! The calls that API servers are measured with: the same client, bodies and shapes of objects for each of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

/// How many objects of each kind are made.
pub const OBJECTS: usize = 10_000;

/// How many calls are under way at a time.
const CALLERS: usize = 10;

/// Calls that are made before any is counted.
const WARM_UP: usize = 1000;

/// The bytes of a `ConfigMap` as it is sent.
const SIZE: usize = 300;

/// What a server did in a second; what it held is asked for when all the `ConfigMap`s are there and nothing else.
#[derive(Debug)]
pub struct Rates<M> {
    pub creates: f64,
    pub applies: f64,
    pub memory: M,
}

/// Fills a fresh server: with `ConfigMap`s, then with custom resources that each get one status applied.
pub async fn fill<M>(client: &kube::Client, memory: impl AsyncFnOnce() -> Result<M>) -> Result<Rates<M>> {
    define(client).await?;
    rate(client, WARM_UP, |client, _| async move {
        Api::<ConfigMap>::default_namespaced(client)
            .list(&ListParams::default().limit(1))
            .await?;
        Ok(())
    })
    .await?;
    let creates = rate(client, OBJECTS, create).await?;
    let memory = memory().await?;
    rate(client, OBJECTS, make).await?;
    let applies = rate(client, OBJECTS, apply).await?;
    Ok(Rates {
        creates,
        applies,
        memory,
    })
}

/// Runs `call` for every number, ten at a time, and says how many went through in a second.
async fn rate<F>(client: &kube::Client, calls: usize, call: fn(kube::Client, usize) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let begin = Instant::now();
    let mut callers = (0..CALLERS)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in (caller..calls).step_by(CALLERS) {
                    call(client.clone(), number).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect::<FuturesUnordered<_>>();
    while let Some(ended) = callers.next().await {
        ended??;
    }
    Ok(f64::from(u32::try_from(calls)?) / begin.elapsed().as_secs_f64())
}

async fn create(client: kube::Client, number: usize) -> Result<()> {
    let with = |payload: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": format!("map-{number}")},
            "data": {"payload": payload},
        })
    };
    let padding = SIZE.saturating_sub(with("").to_string().len());
    let map: ConfigMap = serde_json::from_value(with(&"x".repeat(padding)))?;
    Api::default_namespaced(client)
        .create(&PostParams::default(), &map)
        .await
        .context("failed to create a ConfigMap")?;
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
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    definitions.create(&PostParams::default(), &definition).await?;
    served(&definitions, "widgets.bench.example.com").await
}

/// Waits until the defined resource is served.
pub async fn served(definitions: &Api<CustomResourceDefinition>, name: &str) -> Result<()> {
    let established = kube::runtime::conditions::is_crd_established();
    let waiting = kube::runtime::wait::await_condition(definitions.clone(), name, established);
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .context("the definition is not served")??;
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
    widgets(client)
        .create(&PostParams::default(), &widget)
        .await
        .context("failed to create a custom resource")?;
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
        .await
        .context("failed to apply a status")?;
    Ok(())
}
