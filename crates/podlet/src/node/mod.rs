//! The node: what registers it, runs the pods that are bound to it, and serves their claims.

mod addresses;
mod claims;
mod instance;
mod machine;
mod pods;
mod registration;
mod report;
mod room;
mod sources;
mod starting;
mod told;
mod volumes;
mod worker;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_clock::Clock;
use clusterwright_runtime::cache::{Cache, CacheOptions, Scope};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::controller::Environment;
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::manager::{Group, Manager, ManagerError, Options, RunContext, RunError, Runnable};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::addresses::Addresses;
pub use self::claims::{CLASS, PROVISIONER};
use self::instance::Instance;
pub use self::instance::{InstanceError, remove};
use self::machine::Machine;
use self::registration::Registration;
use crate::endpoints::{self, Access, Endpoints, Identity, Served};
use crate::image::Catalogue;
use crate::isolation::{self, Isolation};
use crate::network::{self, Network};
use crate::registry::Registry;

/// The name that the podlet's Events carry, and the owner of the fields that it writes.
const NAME: &str = "podlet";
/// How much longer than its pods the podlet may take to end.
const MARGIN: Duration = Duration::from_secs(10);
/// How soon what failed at the start is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How a podlet runs.
#[derive(Clone)]
pub struct Config {
    /// The cluster. Whose client it is may do what a kubelet may, read every `Secret` and `ConfigMap`, and manage
    /// persistent volumes.
    pub client: kube::Client,
    /// The node's name.
    pub node_name: String,
    /// The podlet's folder, of which no other podlet may have a part: claims stay in it, all else goes at the end.
    pub state_dir: PathBuf,
    /// What images there are.
    pub images: Catalogue,
    /// Labels of the node besides those that every node has.
    pub labels: BTreeMap<String, String>,
    /// The node's address; 127.0.0.1 by default.
    pub address: IpAddr,
    /// The port of the kubelet's endpoints at that address; 0, the default, is one that is free.
    pub port: u16,
    /// The authority of certificates that those who ask there may show, as PEM; without it tokens count only.
    pub client_authority: Option<String>,
    /// Where the API server is, if it is in the machine's network and no pod: pods reach it as the Service `kubernetes`.
    pub api_server: Option<SocketAddr>,
    /// The cluster's domain; `cluster.local` by default.
    pub domain: String,
    /// The podlet's own address in the pods' network, and how many bits of it name that; 10.244.0.1/16 by default.
    pub gateway: (Ipv4Addr, u8),
    /// How long pods have to end when the podlet does; 5 s by default.
    pub grace: Duration,
    /// The program that is started as a helper; this one by default.
    pub helper: Option<PathBuf>,
    /// Whether pods are in a user namespace; by default only if this process is not root.
    pub user_namespace: Option<bool>,
    /// The time.
    pub clock: Clock,
}

impl Config {
    /// With the defaults.
    pub fn new(
        client: kube::Client,
        node_name: impl Into<String>,
        state_dir: impl Into<PathBuf>,
        images: Catalogue,
    ) -> Self {
        Self {
            client,
            node_name: node_name.into(),
            state_dir: state_dir.into(),
            images,
            labels: BTreeMap::new(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            client_authority: None,
            api_server: None,
            domain: "cluster.local".to_owned(),
            gateway: (Ipv4Addr::new(10, 244, 0, 1), 16),
            grace: Duration::from_secs(5),
            helper: None,
            user_namespace: None,
            clock: Clock::system(),
        }
    }
}

/// Why a podlet does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PodletError {
    /// Its folder can't be taken.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// This machine does not let pods be isolated.
    #[error(transparent)]
    Isolation(#[from] isolation::Error),
    /// The kubelet's endpoints can't be served.
    #[error(transparent)]
    Endpoints(#[from] endpoints::StartError),
    /// Something ended other than it was told to.
    #[error("the podlet ended")]
    Manager(#[from] ManagerError),
}

/// A podlet that has its folder and namespaces, and runs nothing yet. All that it runs ends when it is dropped.
pub struct Podlet {
    config: Config,
    instance: Instance,
    isolation: Arc<Isolation>,
    registry: Registry,
    network: Network,
    endpoints: Endpoints,
}

impl Podlet {
    /// Takes the folder, cleans up what an earlier podlet left there, and makes the namespaces.
    ///
    /// # Errors
    /// If the folder is another podlet's, or this machine refuses namespaces, with the reason.
    pub async fn start(config: Config) -> Result<Self, PodletError> {
        let folder = config.state_dir.clone();
        let instance = blocking("take the podlet's folder", move || Instance::take(&folder)).await?;
        let root = instance.volatile().join("root");
        std::fs::create_dir_all(&root).map_err(|source| InstanceError::Io {
            doing: format!("make {}", root.display()),
            source,
        })?;
        let mut settings = isolation::Config::new(instance.volatile());
        (settings.address, settings.prefix) = config.gateway;
        if let Some(helper) = &config.helper {
            settings.helper.clone_from(helper);
        }
        if let Some(user_namespace) = config.user_namespace {
            settings.user_namespace = user_namespace;
        }
        let isolation = Arc::new(Isolation::start(&settings).await?);
        instance.remember(isolation.helper())?;
        let network = network::Settings {
            address: settings.address,
            domain: config.domain.clone(),
            api_server: config.api_server,
        };
        let network = Network::start(isolation.clone(), network).await?;
        let registry = Registry::default();
        let identity = Identity::self_signed(&config.node_name, &[config.address]);
        let endpoints = Endpoints::start(
            (config.address, config.port).into(),
            identity.map_err(endpoints::StartError::from)?,
            config.client_authority.as_deref(),
            Access::new(config.node_name.clone(), Some(config.client.clone())),
            Served {
                registry: registry.clone(),
                isolation: isolation.clone(),
                clock: config.clock,
            },
        );
        let endpoints = endpoints.await?;
        Ok(Self {
            config,
            instance,
            isolation,
            registry,
            network,
            endpoints,
        })
    }

    /// The pods that run.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What reaches and enters them.
    pub fn isolation(&self) -> &Arc<Isolation> {
        &self.isolation
    }

    /// Runs the pods that are bound to the node until `shutdown` is cancelled, and ends them then. The cluster is not
    /// told that they end: whichever podlet comes next with this name starts them again.
    ///
    /// # Errors
    /// If the helpers end before, and all pods with them.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), PodletError> {
        let config = &self.config;
        let options = Options {
            clock: config.clock,
            shutdown_timeout: config.grace + MARGIN,
            ..Options::default()
        };
        let mut manager = Manager::new(config.client.clone(), options)?;
        let cache = Cache::new(manager.client(), CacheOptions::default());
        cache.scope::<Pod>(Scope::all().fields(format!("spec.nodeName={}", config.node_name)));
        cache.informer::<Pod>().index(pods::REFERENCES, pods::references);
        let client = Client::new(manager.client(), cache.clone(), NAME);
        let (recorder, events) = Recorder::new(manager.client(), NAME, &config.node_name, config.clock);
        let machine = Arc::new(self.machine(client.clone(), recorder.clone()));
        let environment = Environment {
            client,
            clock: config.clock,
            metrics: manager.metrics().clone(),
            recorder,
        };
        manager.add(cache.runnable())?;
        manager.add(events)?;
        manager.add(Registration {
            machine: machine.clone(),
            labels: config.labels.clone(),
            port: self.endpoints.address().port(),
        })?;
        manager.add(Lives(machine.clone()))?;
        manager.add(pods::controller(machine.clone()).build(&environment))?;
        manager.add(claims::controller(machine).build(&environment))?;
        manager.add(network::controller::controller(self.network).build(&environment))?;
        let ended = manager.run(shutdown).await;
        let Self {
            instance, isolation, ..
        } = self;
        // The helpers remove what is volatile. Whoever still reads a log there has its end.
        isolation.end();
        blocking("clean up", move || instance.clean()).await?;
        Ok(ended?)
    }

    fn machine(&self, client: Client, recorder: Recorder) -> Machine {
        let config = &self.config;
        let (gateway, prefix) = config.gateway;
        Machine {
            client,
            recorder,
            clock: config.clock,
            isolation: self.isolation.clone(),
            registry: self.registry.clone(),
            images: Arc::new(config.images.clone()),
            node: config.node_name.as_str().into(),
            host: config.address,
            gateway,
            domain: config.domain.as_str().into(),
            addresses: Arc::new(Addresses::new(gateway, prefix)),
            capacity: Arc::new(registration::capacity(&self.instance.claims())),
            volatile: self.instance.volatile(),
            claims: self.instance.claims(),
            ending: CancellationToken::new(),
            grace: config.grace,
            workers: TaskTracker::new(),
        }
    }
}

/// Does what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, InstanceError> + Send + 'static,
) -> Result<T, InstanceError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| InstanceError::Io {
        doing: doing.to_owned(),
        source: std::io::Error::other(error),
    })?
}

/// The pods' workers as a whole: they end after the controllers that tell them what to do.
struct Lives(Arc<Machine>);

impl Runnable for Lives {
    fn name(&self) -> &'static str {
        "pods"
    }

    fn group(&self) -> Group {
        Group::Always
    }

    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(async move {
            cx.ready.set();
            let machine = self.0;
            let class = async {
                while let Err(error) = machine.client.apply(&claims::class()).await {
                    tracing::warn!(%error, "failed to write the StorageClass of claims");
                    tokio::time::sleep(RETRY).await;
                }
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                () = cx.shutdown.cancelled() => Ok(()),
                () = machine.isolation.gone() => Err(isolation::Error::Gone.into()),
                () = class => Ok(()),
            };
            machine.ending.cancel();
            machine.workers.close();
            machine.workers.wait().await;
            ended
        })
    }
}
