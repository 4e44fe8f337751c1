//! What all that the podlet does has in common.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_clock::Clock;
use clusterwright_runtime::client::Client;
use clusterwright_runtime::events::Recorder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::addresses::Addresses;
use crate::image::Catalogue;
use crate::isolation::Isolation;
use crate::registry::Registry;

/// The node's parts.
#[derive(Clone)]
pub struct Machine {
    /// Reads from the cache, writes to the server.
    pub client: Client,
    /// Publishes Events.
    pub recorder: Recorder,
    /// The time.
    pub clock: Clock,
    /// What makes namespaces and processes.
    pub isolation: Arc<Isolation>,
    /// The pods that run.
    pub registry: Registry,
    /// What images there are.
    pub images: Arc<Catalogue>,
    /// The node's name.
    pub node: Arc<str>,
    /// The node's address.
    pub host: IpAddr,
    /// The podlet's address in the pods' network, where it answers DNS.
    pub gateway: Ipv4Addr,
    /// The cluster's domain.
    pub domain: Arc<str>,
    /// The pods' addresses.
    pub addresses: Arc<Addresses>,
    /// What the node has, by resource.
    pub capacity: Arc<BTreeMap<String, String>>,
    /// The folder that goes with the podlet.
    pub volatile: PathBuf,
    /// The folder of claims, which stays.
    pub claims: PathBuf,
    /// Cancelled when all pods are to end, without a word to the server: the next podlet starts them again.
    pub ending: CancellationToken,
    /// How long pods have to end then.
    pub grace: Duration,
    /// The pods' workers.
    pub workers: TaskTracker,
}

impl Machine {
    /// The empty folder that roots are built at.
    pub fn root_at(&self) -> PathBuf {
        self.volatile.join("root")
    }

    /// The folder of a pod.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.volatile.join("pods").join(uid)
    }
}
