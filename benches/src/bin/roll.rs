//! Three real API servers of a hosted cluster, replaced one after the other while they are asked 200 times a second
//! through the load balancer by Go's ordinary HTTP transport (`benches/peers`): how many requests fail.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clusterwright_benches::programs::{self, Up};
use clusterwright_benches::{connect, figure, median};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde_json::json;

const ROLLS: usize = 1;
const RATE: f64 = 200.0;
/// How long the load goes on before the first roll, and after each.
const AROUND: Duration = Duration::from_secs(5);
/// How long a roll may take before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(300);

const MANIFESTS: &str = "
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: bench, namespace: default}
spec:
  controlPlaneRef: {apiGroup: controlplane.cluster.x-k8s.io, kind: HostedControlPlane, name: bench}
---
apiVersion: controlplane.cluster.x-k8s.io/v1alpha1
kind: HostedControlPlane
metadata: {name: bench, namespace: default}
spec: {version: v1.36.3, replicas: 3}
";

/// What the load says when it ends.
#[derive(Deserialize)]
struct Outcome {
    requests: f64,
    failed: f64,
    errors: Option<Vec<String>>,
    watches: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    seconds: f64,
}

fn main() -> Result<()> {
    let binary = programs::clusterwright()?;
    let load = programs::peer("load")?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let up = Up::start(&binary, MANIFESTS)?;
    let hosted = up.line("export KUBECONFIG=")?;
    let hosted = hosted.split("  # ").next().unwrap_or_default();
    up.line("All was ready")?;

    let load = Load::start(&load, Path::new(hosted))?;
    let took = runtime.block_on(rolls(&up.kubeconfig))?;
    let outcome = load.end()?;
    for error in outcome.errors.iter().flatten() {
        println!("{error}");
    }
    figure::at_most("roll.failed", outcome.failed, "requests", 0.0);
    figure::at_least(
        "roll.rate",
        outcome.requests / outcome.seconds,
        "1/s",
        RATE * 0.99,
    );
    figure::report("roll.requests", outcome.requests, "requests");
    figure::report("roll.seconds", median(took), "s");
    figure::report("roll.p50", outcome.p50_ms, "ms");
    figure::report("roll.p99", outcome.p99_ms, "ms");
    figure::report("roll.longest", outcome.longest_ms, "ms");
    figure::report("roll.watches_ended", outcome.watches, "watches");
    up.end()
}

/// The program that asks, until its input is closed.
struct Load {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Load {
    /// Returns when it has begun.
    fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("--server")
            .arg(kubeconfig)
            .args(["--rate", &RATE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the load")?;
        let output = child.stdout.take().context("the load has no output")?;
        let mut load = Self {
            child,
            output: BufReader::new(output),
        };
        if load.line()?.trim_end() != "begun" {
            bail!("the load does not begin");
        }
        Ok(load)
    }

    fn end(mut self) -> Result<Outcome> {
        drop(self.child.stdin.take());
        let line = self.line()?;
        serde_json::from_str(&line).context("failed to read what the load says")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("failed to read what the load says")?;
        Ok(line)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the API servers replaced, one roll after the other; how many seconds each took.
async fn rolls(kubeconfig: &Path) -> Result<Vec<f64>> {
    let client = connect(kubeconfig).await?;
    let kind = GroupVersionKind::gvk("controlplane.cluster.x-k8s.io", "v1alpha1", "HostedControlPlane");
    let planes: Api<DynamicObject> =
        Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind));
    let mut took = Vec::new();
    tokio::time::sleep(AROUND).await;
    for roll in 0..ROLLS {
        let start = Instant::now();
        let old = names(&client).await?;
        // Whatever changes the template does.
        let args = json!({"v": (roll % 2 + 1).to_string()});
        let patch = json!({"spec": {"deployment": {"apiServer": {"args": args}}}});
        planes
            .patch("bench", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .context("failed to change the control plane")?;
        while !is_replaced(&client, &old).await? {
            if start.elapsed() > PATIENCE {
                bail!("the API servers are not replaced in {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        took.push(start.elapsed().as_secs_f64());
        tokio::time::sleep(AROUND).await;
    }
    Ok(took)
}

/// Whether none of the old API servers is left, and all of the new are ready.
async fn is_replaced(client: &kube::Client, old: &[String]) -> Result<bool> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let status = deployments
        .get("bench-api-server")
        .await?
        .status
        .unwrap_or_default();
    let names = names(client).await?;
    Ok(status.available_replicas == Some(3)
        && names.len() == 3
        && names.iter().all(|name| !old.contains(name)))
}

/// The API servers' pods.
async fn names(client: &kube::Client) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pods = pods.list(&ListParams::default()).await?;
    let names = pods.into_iter().filter_map(|pod| pod.metadata.name);
    Ok(names
        .filter(|name| name.starts_with("bench-api-server-"))
        .collect())
}
