//! An API server with the controllers that workloads need, and podlets for its one node.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::companions::{Companions, Stages};
use clusterwright_podlet::image::Catalogue;
use clusterwright_podlet::isolation;
use clusterwright_podlet::registry::Registry;
use clusterwright_podlet::{Config, Podlet, PodletError};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::common::{PROGRAM, shell_image};

pub const NODE: &str = "machine";
/// The image of the machine's own programs.
pub const IMAGE: &str = "example.com/shell:1";

pub struct Cluster {
    pub server: ApiServer,
    pub client: Client,
    pub folder: TempDir,
    _stop: DropGuard,
}

/// A podlet that runs until it is stopped.
pub struct Running {
    pub registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), PodletError>>,
}

impl Running {
    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), PodletError> {
        self.task.await.unwrap()
    }

    /// Ends it and waits until it has.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Whether this machine can't run pods at all.
pub fn refused(error: &PodletError) -> bool {
    matches!(error, PodletError::Isolation(isolation::Error::Unavailable(_)))
}

impl Cluster {
    pub fn new() -> Self {
        let server = ApiServer::new();
        let stop = CancellationToken::new();
        let stages = Stages::controllers_only().bind_to(NODE);
        let companions = Companions::new(server.client(), server.clock()).stages(Some(stages));
        tokio::spawn(companions.run(stop.clone()));
        Self {
            client: server.client(),
            server,
            folder: tempfile::tempdir().unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("podlet")
    }

    pub fn config(&self) -> Config {
        let images =
            Catalogue::new(self.folder.path().join("tools")).with("example.com/shell", shell_image());
        let mut config = Config::new(self.client.clone(), NODE, self.state_dir(), images);
        config.helper = Some(PathBuf::from(PROGRAM));
        config
    }

    pub async fn podlet(&self) -> Result<Running, PodletError> {
        Self::run(self.config()).await
    }

    pub async fn run(config: Config) -> Result<Running, PodletError> {
        let podlet = Podlet::start(config).await?;
        let shutdown = CancellationToken::new();
        Ok(Running {
            registry: podlet.registry().clone(),
            task: tokio::spawn(podlet.run(shutdown.clone())),
            shutdown,
        })
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates an object of a YAML text.
    pub async fn create<K>(&self, text: &str) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_saphyr::from_str(text).unwrap();
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Waits until an object is as said. It is given a minute, which only a failure takes.
    pub async fn until<K>(&self, name: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let mut last = None;
        for _ in 0..3000 {
            last = self.api::<K>().get_opt(name).await.unwrap();
            if let Some(object) = last.as_ref().filter(|object| holds(object)) {
                return object.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "{name} does not come to that: {last:#?}; {:#?}",
            self.events(name).await
        );
    }

    pub async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        for _ in 0..3000 {
            if self.api::<K>().get_opt(name).await.unwrap().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} does not go");
    }

    /// What Events say of an object: `reason: note`.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let all = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let about = all.items.into_iter().filter(|event| {
            let of = event.regarding.as_ref();
            of.and_then(|of| of.name.as_deref()) == Some(name)
        });
        about
            .map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default()
                )
            })
            .collect()
    }

    /// Waits until an Event says this of an object.
    pub async fn until_told(&self, name: &str, start: &str) {
        for _ in 0..3000 {
            let events = self.events(name).await;
            if events.iter().any(|event| event.starts_with(start)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody says {start:?}: {:#?}", self.events(name).await);
    }
}

/// The status of a condition.
pub fn condition(pod: &Pod, kind: &str) -> String {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions).flatten();
    let mut found = conditions.filter(|condition| condition.type_ == kind);
    found
        .next()
        .map(|condition| condition.status.clone())
        .unwrap_or_default()
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == "True"
}

pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// The first container's status as JSON.
pub fn container(pod: &Pod) -> serde_json::Value {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    serde_json::to_value(statuses.and_then(|all| all.first())).unwrap()
}
