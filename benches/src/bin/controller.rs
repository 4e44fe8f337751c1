//! One status write for each of 3000 custom resources on the real API server, by a controller on our framework and
//! by the same controller on controller-runtime (`benches/peers`), in turn.
//!
//! Each round deletes the resources and makes them anew, so that both start from the same. A program counts from its
//! start until each resource was reconciled twice: once to write the status, once to see that nothing is left to do.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clusterwright_benches::load::served;
use clusterwright_benches::myapp::{MyApp, MyAppStatus, stored};
use clusterwright_benches::{connect, figure, median, programs};
use clusterwright_clock::Clock;
use clusterwright_runtime::cache::{Cache, CacheOptions, Change};
use clusterwright_runtime::client::{Client, Error};
use clusterwright_runtime::controller::{Controller, Environment};
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::manager::{Manager, Options};
use clusterwright_runtime::metrics::Metrics;
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::reconcile::{Context, Outcome, Reconciler, Request};
use clusterwright_testkit::ControlPlane;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{CustomResourceExt as _, ResourceExt as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const OBJECTS: usize = 3000;
const WORKERS: usize = 5;
const ROUNDS: usize = 3;

/// How long a program may take before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(300);

/// What one run of a program took.
#[derive(Debug, Deserialize, Serialize)]
struct Run {
    seconds: f64,
    cpu_seconds: f64,
    rss_bytes: f64,
    reconciles: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    match args.as_slice() {
        [_, ours, kubeconfig] if ours == "--ours" => {
            let run = runtime.block_on(ours_on(Path::new(kubeconfig)))?;
            println!("{}", serde_json::to_string(&run)?);
            Ok(())
        }
        _ => compare(&runtime),
    }
}

fn compare(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let peer = programs::peer("controller")?;
    let ours = std::env::current_exe().context("failed to find this program")?;
    let server = ControlPlane::builder().start()?;
    let kubeconfig = server.kubeconfig();
    let client = runtime.block_on(connect(&kubeconfig))?;
    runtime.block_on(define(&client))?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        runtime.block_on(fill(&client))?;
        own.push(measure(Command::new(&ours).arg("--ours").arg(&kubeconfig))?);
        runtime.block_on(fill(&client))?;
        others.push(measure(Command::new(&peer).arg("--server").arg(&kubeconfig))?);
    }
    let mid = |runs: &[Run], of: fn(&Run) -> f64| median(runs.iter().map(of).collect());
    let ratio = |of: fn(&Run) -> f64| median(own.iter().zip(&others).map(|(a, b)| of(a) / of(b)).collect());
    let rate: fn(&Run) -> f64 = |run| run.reconciles / run.seconds;
    let cpu: fn(&Run) -> f64 = |run| run.cpu_seconds / run.reconciles * 1e6;
    figure::at_least("controller.rate_ratio", ratio(rate), "x", 1.0);
    figure::at_most("controller.cpu_per_reconcile_ratio", ratio(cpu), "x", 0.5);
    figure::at_most("controller.memory_ratio", ratio(|run| run.rss_bytes), "x", 0.5);
    for (who, runs) in [("ours", &own), ("controller-runtime", &others)] {
        figure::report(&format!("controller.{who}.rate"), mid(runs, rate), "1/s");
        figure::report(
            &format!("controller.{who}.cpu_per_reconcile"),
            mid(runs, cpu),
            "µs",
        );
        figure::report(
            &format!("controller.{who}.memory"),
            mid(runs, |run| run.rss_bytes) / 1e6,
            "MB",
        );
        figure::report(
            &format!("controller.{who}.event_to_start_p50"),
            mid(runs, |run| run.p50_ms),
            "ms",
        );
        figure::report(
            &format!("controller.{who}.event_to_start_p99"),
            mid(runs, |run| run.p99_ms),
            "ms",
        );
    }
    Ok(())
}

fn measure(command: &mut Command) -> Result<Run> {
    let output = command.output().context("failed to start a program to measure")?;
    if !output.status.success() {
        bail!(
            "a measured program failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("failed to read what a measured program printed")
}

async fn define(client: &kube::Client) -> Result<()> {
    let definitions = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &MyApp::crd())
        .await
        .context("failed to create the definition")?;
    served(&definitions, MyApp::crd_name()).await
}

/// Deletes what there is and creates the resources, without a status.
async fn fill(client: &kube::Client) -> Result<()> {
    let api: Api<MyApp> = Api::default_namespaced(client.clone());
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    let create = |number: usize| {
        let api = api.clone();
        async move {
            let mut object = stored(number, 0);
            if let Some(fields) = object.as_object_mut() {
                fields.remove("status");
            }
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.retain(|field, _| {
                    ["name", "namespace", "labels", "annotations"].contains(&field.as_str())
                });
            }
            let object: MyApp = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object)
                .await
                .context("failed to create a resource")?;
            anyhow::Ok(())
        }
    };
    futures::stream::iter((0..OBJECTS).map(create))
        .buffer_unordered(10)
        .try_collect::<()>()
        .await
}

/// When the first event that a resource has not been reconciled for was seen, and how long others waited.
#[derive(Default)]
struct Waits {
    seen: HashMap<ObjectKey, Instant>,
    waited: Vec<Duration>,
    reconciles: usize,
    settled: usize,
}

struct Apps {
    waits: Arc<Mutex<Waits>>,
    done: Arc<Notify>,
}

impl Reconciler for Apps {
    type Object = MyApp;
    type Error = Error;

    async fn reconcile(&self, cx: &Context, request: Request<MyApp>) -> Result<Outcome, Error> {
        {
            let mut waits = self.waits.lock();
            waits.reconciles += 1;
            if let Some(since) = waits.seen.remove(request.key()) {
                waits.waited.push(since.elapsed());
            }
        }
        let Some(app) = cx.get(&request)? else {
            return Ok(Outcome::Done);
        };
        let generation = app.metadata.generation.unwrap_or_default();
        if app
            .status
            .as_ref()
            .is_some_and(|status| status.observed_generation == generation)
        {
            let mut waits = self.waits.lock();
            waits.settled += 1;
            if waits.settled == OBJECTS {
                self.done.notify_one();
            }
            return Ok(Outcome::Done);
        }
        let mut wanted = MyApp::new(&app.name_any(), app.spec.clone());
        wanted.metadata.namespace = app.namespace();
        wanted.status = Some(MyAppStatus {
            observed_generation: generation,
            ready_replicas: app.spec.replicas,
            phase: "Running".to_owned(),
        });
        cx.client().apply_status(&wanted).await?;
        Ok(Outcome::Done)
    }
}

async fn ours_on(kubeconfig: &Path) -> Result<Run> {
    let start = Instant::now();
    let mut manager = Manager::new(connect(kubeconfig).await?, Options::default())?;
    let cache = Cache::new(manager.client(), CacheOptions::default());
    let client = Client::new(manager.client(), cache.clone(), "ours");
    let clock = Clock::system();
    let (recorder, events) = Recorder::new(manager.client(), "ours", "ours", clock);
    let environment = Environment {
        client,
        clock,
        metrics: Metrics::new(),
        recorder,
    };
    let waits = Arc::new(Mutex::new(Waits::default()));
    let done = Arc::new(Notify::new());
    let stamp = {
        let waits = Arc::clone(&waits);
        move |change: &Change<'_, MyApp>| {
            waits
                .lock()
                .seen
                .entry(change.view().key().clone())
                .or_insert_with(Instant::now);
            true
        }
    };
    let apps = Apps {
        waits: Arc::clone(&waits),
        done: Arc::clone(&done),
    };
    let controller = Controller::builder("apps", apps)
        .predicate(stamp)
        .concurrency(WORKERS)
        .build(&environment);
    manager.add(cache.runnable())?;
    manager.add(events)?;
    manager.add(controller)?;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(manager.run(shutdown.clone()));
    tokio::time::timeout(PATIENCE, done.notified())
        .await
        .context("not all resources were reconciled in time")?;
    let seconds = start.elapsed().as_secs_f64();
    let (cpu_seconds, rss_bytes) = usage()?;
    shutdown.cancel();
    running.await.context("the manager crashed")??;
    let mut waits = waits.lock();
    waits.waited.sort();
    let at = |share: usize| {
        let waited = &waits.waited;
        waited
            .get((waited.len().saturating_sub(1)) * share / 100)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let reconciles = waits.reconciles as f64;
    Ok(Run {
        seconds,
        cpu_seconds,
        rss_bytes,
        reconciles,
        p50_ms: at(50),
        p99_ms: at(99),
    })
}

/// CPU seconds of this process so far, and its largest resident memory in bytes.
fn usage() -> Result<(f64, f64)> {
    let cpu = clusterwright_benches::cpu_time()?;
    let status =
        std::fs::read_to_string("/proc/self/status").context("failed to read the process's status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .context("no VmHWM in the status")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("an empty VmHWM")?
        .parse()?;
    Ok((cpu.as_secs_f64(), kib * 1024.0))
}
