//! `clusterwright manager`: the controllers against a cluster.

use crate::connect::{self, ClusterArgs};
use crate::operators;
use anyhow::{Context, Result, bail};
use clusterwright_api::HostedControlPlane;
use clusterwright_clock::Clock;
use clusterwright_runtime::config::ManagerArgs;
use clusterwright_runtime::health::Health;
use clusterwright_runtime::leader;
use clusterwright_runtime::manager::{HttpServer, Manager, Options};
use clusterwright_runtime::metrics::Metrics;
use clusterwright_runtime::telemetry::LogArgs;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;

/// The name of the Lease.
pub const LEASE: &str = "clusterwright";

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Reconcile only objects whose label cluster.x-k8s.io/watch-filter has this value [default: all]
    #[arg(long, value_name = "VALUE")]
    watch_filter: Option<String>,
    #[command(flatten)]
    manager: ManagerArgs,
    #[command(flatten)]
    logs: LogArgs,
}

pub async fn run(args: Args) -> Result<()> {
    args.logs.init().context("failed to start the logs")?;
    let config = args.cluster.config().await?;
    let server = config.cluster_url.to_string();
    let own_namespace = args
        .manager
        .own_namespace()
        .unwrap_or_else(|| config.default_namespace.clone());
    let metrics = Metrics::new();
    let client = metrics
        .connect(config)
        .context("failed to use the cluster's configuration")?;
    connect::check(&client, &server).await?;
    preflight(&client, args.manager.watch_namespace()).await?;

    let election = args
        .manager
        .leader_election
        .election(LEASE, Some(&own_namespace))?;
    let health = Health::new();
    let mut manager = Manager::new(
        client,
        Options {
            leader_election: election,
            shutdown_timeout: args.manager.shutdown_timeout,
            clock: Clock::system(),
            metrics: metrics.clone(),
            health: health.clone(),
            ..Options::default()
        },
    )?;
    if let Some(address) = args.manager.health.health_probe_bind_address.address() {
        manager.add(HttpServer::bind("health", address, health.router()).await?)?;
    }
    if let Some(address) = args.manager.metrics.metrics_bind_address.address() {
        manager.add(HttpServer::bind("metrics", address, metrics.router()).await?)?;
    }
    let options = operators::Options {
        namespace: args.manager.watch_namespace().map(str::to_owned),
        watch_filter: args.watch_filter,
        concurrency: args.manager.max_concurrent_reconciles,
        clusters: false,
    };
    operators::add(&mut manager, &leader::identity(), &options)?;

    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone()));
    manager.run(shutdown).await.context("the manager ended")
}

/// Cancels on the first SIGTERM or Ctrl-C; a second one ends the process at once.
async fn stop_on_signal(shutdown: CancellationToken) {
    signal().await;
    tracing::info!("shutting down");
    shutdown.cancel();
    signal().await;
    std::process::exit(130);
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without handlers the signal ends the process, which is what was asked for.
    let _ = interrupt.await;
}

/// Says what is missing or forbidden before anything starts, rather than in the log of an informer.
async fn preflight(client: &Client, namespace: Option<&str>) -> Result<()> {
    let api: Api<HostedControlPlane> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match api.list(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => bail!(
            "the cluster has no {}: install the custom resources first, with `clusterwright install` or \
             `kubectl apply -f deploy/install.yaml`",
            HostedControlPlane::plural(&())
        ),
        Err(kube::Error::Api(status)) if status.code == 403 => bail!(
            "the cluster does not allow what the controllers need: {}; deploy/install.yaml has the roles",
            status.message
        ),
        Err(error) => Err(error).context("failed to list the hosted control planes"),
    }
}
