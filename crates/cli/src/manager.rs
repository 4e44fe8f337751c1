//! `clusterwright manager`: the controllers against a cluster.

use crate::connect::{self, ClusterArgs};
use crate::operators;
use crate::signals::Signals;
use anyhow::{Context, Result, bail};
use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_clock::Clock;
use clusterwright_hosted::pki::{ROOT_VALIDITY, SHORTEST_LEAF_VALIDITY};
use clusterwright_runtime::config::{ManagerArgs, parse_duration};
use clusterwright_runtime::health::Health;
use clusterwright_runtime::leader;
use clusterwright_runtime::manager::{HttpServer, Manager, Options};
use clusterwright_runtime::metrics::Metrics;
use clusterwright_runtime::object::Object;
use clusterwright_runtime::telemetry::LogArgs;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use std::time::Duration;
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
    /// How long certificates of hosted control planes are valid, 30m to 87600h; they are renewed when a third of it is
    /// left. One that is there keeps the life that it was made for
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = parse_certificate_life)]
    certificate_life: Duration,
    /// The image of this program, for what of it runs in pods of hosted control planes
    #[arg(long, value_name = "IMAGE", default_value = operators::IMAGE)]
    image: String,
    #[command(flatten)]
    manager: ManagerArgs,
    #[command(flatten)]
    logs: LogArgs,
}

fn parse_certificate_life(text: &str) -> Result<Duration, String> {
    let life = parse_duration(text).map_err(|error| error.to_string())?;
    if life < SHORTEST_LEAF_VALIDITY {
        return Err(
            "it is shorter than 30m, in which programs may not see the new certificates in time".to_owned(),
        );
    }
    if life > ROOT_VALIDITY {
        return Err("it is longer than 87600h, after which the roots end".to_owned());
    }
    Ok(life)
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
        image: args.image,
        etcds: operators::Etcds::Forwarded,
        namespace: args.manager.watch_namespace().map(str::to_owned),
        watch_filter: args.watch_filter,
        concurrency: args.manager.max_concurrent_reconciles,
        certificate_life: args.certificate_life,
        clusters: false,
    };
    operators::add(&mut manager, &leader::identity(), &options)?;

    let shutdown = CancellationToken::new();
    tokio::spawn(Signals::listen()?.stop(shutdown.clone()));
    manager.run(shutdown).await.context("the manager ended")
}

/// Says what is missing or forbidden before anything starts, rather than in the log of an informer.
async fn preflight(client: &Client, namespace: Option<&str>) -> Result<()> {
    allowed(client, namespace).await?;
    let ours = "install the custom resources first, with `clusterwright install` or `kubectl apply -f \
                deploy/install.yaml`";
    let theirs = "install Cluster API's core provider first, with `clusterctl init`";
    served::<HostedControlPlane>(client, namespace, ours).await?;
    served::<Cluster>(client, namespace, theirs).await
}

/// Whether the controllers may do all that they will.
async fn allowed(client: &Client, namespace: Option<&str>) -> Result<()> {
    let denied = operators::grants().denied(client, namespace).await;
    let denied = denied.context("failed to ask the cluster what the controllers may do")?;
    if denied.is_empty() {
        return Ok(());
    }
    let scope = match namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in all namespaces".to_owned(),
    };
    bail!(
        "the cluster does not allow what the controllers need {scope}: {denied}; deploy/install.yaml has the roles"
    )
}

/// Whether a kind is there.
async fn served<K: Object + Resource<Scope = NamespaceResourceScope>>(
    client: &Client,
    namespace: Option<&str>,
    way_out: &str,
) -> Result<()> {
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (kind, version) = (K::plural(&()), K::api_version(&()));
    match api.list(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!("the cluster has no {kind} in {version}: {way_out}")
        }
        Err(error) => Err(error).with_context(|| format!("failed to list {kind}")),
    }
}
