//! What connects pods: names, and addresses of Services.

mod balancer;
pub mod controller;
pub mod dns;
mod forward;
pub mod objects;
pub mod plan;
mod spread;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::balancer::Balancer;
pub use self::balancer::Given;
use self::dns::Zone;
use self::objects::World;
use self::plan::HostKey;
use crate::isolation::{Error, Isolation};

/// Where names are asked for.
const DNS: u16 = 53;

/// What the network is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The podlet's own address in the pods' network, where it answers questions for names.
    pub address: Ipv4Addr,
    /// The cluster's domain.
    pub domain: String,
    /// Where the API server is, in the machine's network: pods reach it as the `kubernetes` Service. Not given, that
    /// is a Service like others.
    pub api_server: Option<SocketAddr>,
}

/// The names and the listeners of Services. All of them go when this is dropped; connections go with the pods.
#[derive(Debug)]
pub struct Network {
    settings: Settings,
    zone: watch::Sender<Arc<Zone>>,
    balancer: Balancer,
    names: JoinHandle<()>,
}

impl Network {
    /// Answers questions for names from now on, of which it knows none yet.
    ///
    /// # Errors
    /// If it can't listen in the pods' network.
    pub async fn start(isolation: Arc<Isolation>, settings: Settings) -> Result<Self, Error> {
        let address = (settings.address, DNS).into();
        let datagrams = isolation.bind(address).await?;
        let connections = isolation.listen(address).await?;
        let (zone, known) = watch::channel(Arc::new(Zone::new(&settings.domain, &World::new())));
        Ok(Self {
            settings,
            zone,
            balancer: Balancer::new(isolation),
            names: tokio::spawn(dns::serve(known, datagrams, connections)),
        })
    }

    /// Makes names and listeners what these Services ask for, and returns what could not be done.
    pub async fn apply(&mut self, world: &World) -> Vec<String> {
        let zone = Zone::new(&self.settings.domain, world);
        self.zone.send_if_modified(|known| {
            let new = **known != zone;
            if new {
                *known = Arc::new(zone);
            }
            new
        });
        let plan = plan::plan(world, self.settings.address, self.settings.api_server);
        self.balancer.apply(&plan).await
    }

    /// Which ports of the machine's loopback lead to which ports of Services.
    pub fn given(&self) -> impl Iterator<Item = (&HostKey, &Given)> {
        self.balancer.given()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.names.abort();
    }
}
