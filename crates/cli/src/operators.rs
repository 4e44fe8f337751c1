//! The controllers, wired the same for every command.

use anyhow::Result;
use clusterwright_api::HostedControlPlane;
use clusterwright_api::meta::WATCH_FILTER_LABEL;
use clusterwright_hosted::pki::LEAF_VALIDITY;
use clusterwright_runtime::cache::{Cache, CacheOptions, Scope};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::controller::Environment;
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::manager::Manager;
use clusterwright_runtime::rbac::Grants;
use kube::core::{Expression, Selector};
use std::num::NonZeroUsize;
use std::time::Duration;

/// The owner of the fields that the controllers apply, and the name that their Events carry.
pub const NAME: &str = "clusterwright";

/// The image of this program.
pub const IMAGE: &str = concat!("ghcr.io/clusterwright/clusterwright:v", env!("CARGO_PKG_VERSION"));

/// How the etcds of hosted clusters are asked for their members.
#[derive(Clone, Default)]
pub enum Etcds {
    /// By port-forward, through the manager's own client.
    #[default]
    Forwarded,
    /// By port-forward through this client, where the manager's has no connection that could be upgraded.
    ForwardedBy(kube::Client),
    /// They are simulated, as their pods are.
    Simulated,
}

/// Which objects, how many at once, and what can't be known from them.
#[derive(Clone)]
pub struct Options {
    /// The image of this program, for what of it runs in pods.
    pub image: String,
    /// How etcds are asked.
    pub etcds: Etcds,
    /// Only this namespace; all by default.
    pub namespace: Option<String>,
    /// Only objects whose label `cluster.x-k8s.io/watch-filter` has this value.
    pub watch_filter: Option<String>,
    /// How many objects a controller reconciles at once; each controller's own number by default.
    pub concurrency: Option<NonZeroUsize>,
    /// How long certificates of hosted control planes are valid.
    pub certificate_life: Duration,
    /// Whether the part of Cluster API's core manager that is needed is played here.
    pub clusters: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            image: IMAGE.to_owned(),
            etcds: Etcds::default(),
            namespace: None,
            watch_filter: None,
            concurrency: None,
            certificate_life: LEAF_VALIDITY,
            clusters: false,
        }
    }
}

impl Options {
    fn hosted(&self, own: kube::Client) -> clusterwright_hosted::Options {
        let image = self.image.as_str();
        let hosted = match &self.etcds {
            Etcds::Forwarded => clusterwright_hosted::Options::new(image, own),
            Etcds::ForwardedBy(client) => clusterwright_hosted::Options::new(image, client.clone()),
            Etcds::Simulated => clusterwright_hosted::Options::simulated(image, own),
        };
        clusterwright_hosted::Options {
            leaf_life: self.certificate_life,
            ..hosted
        }
    }
}

/// Adds the cache, the Events and the controllers to the manager.
pub fn add(manager: &mut Manager, instance: &str, options: &Options) -> Result<()> {
    let scope = match &options.namespace {
        Some(namespace) => Scope::all().namespaces([namespace.clone()]),
        None => Scope::all(),
    };
    let cache = Cache::new(
        manager.client(),
        CacheOptions {
            scope: scope.clone(),
            ..CacheOptions::default()
        },
    );
    if let Some(filter) = &options.watch_filter {
        let label = Expression::Equal(WATCH_FILTER_LABEL.to_owned(), filter.clone());
        cache.scope::<HostedControlPlane>(scope.labels(Selector::from(label)));
    }
    let client = Client::new(manager.client(), cache.clone(), NAME);
    let clock = manager.clock();
    let (recorder, events) = Recorder::new(manager.client(), NAME, instance, clock);
    let environment = Environment {
        client: client.clone(),
        clock,
        metrics: manager.metrics().clone(),
        recorder,
    };

    let mut hosted = clusterwright_hosted::controller(&client, options.hosted(manager.client()));
    let mut cluster = options
        .clusters
        .then(|| clusterwright_cluster::controller(&client));
    if let Some(concurrency) = options.concurrency {
        hosted = hosted.concurrency(concurrency.get());
        cluster = cluster.map(|cluster| cluster.concurrency(concurrency.get()));
    }
    manager.add(cache.runnable())?;
    manager.add(events)?;
    manager.add(hosted.build(&environment))?;
    if let Some(cluster) = cluster {
        manager.add(cluster.build(&environment))?;
    }
    Ok(())
}

/// What the manager of `clusterwright manager` needs to be allowed to do with the objects that it watches.
pub fn grants() -> Grants {
    // No request is made: a description needs a client, and this server is nobody's.
    let nobody = clusterwright_apiserver::ApiServer::new().client();
    let cache = Cache::new(nobody.clone(), CacheOptions::default());
    let client = Client::new(nobody.clone(), cache, NAME);
    let options = Options::default().hosted(nobody);
    clusterwright_hosted::controller(&client, options)
        .declared()
        .clone()
}
