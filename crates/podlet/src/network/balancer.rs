//! The listeners of Services: what is planned is made so, and what stays is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::forward::forward;
use super::plan::{Behind, HostKey, HostPort, Plan};
use super::spread::Spread;
use crate::isolation::{Error, Isolation};

/// The listeners there are.
#[derive(Debug)]
pub struct Balancer {
    isolation: Arc<Isolation>,
    addresses: BTreeSet<Ipv4Addr>,
    places: BTreeMap<SocketAddrV4, Listening>,
    host: BTreeMap<HostKey, OnHost>,
}

/// What a port of a Service is at the machine's loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The number.
    pub number: u16,
    /// Why it is not the one that was preferred: which that was, and what the system said.
    pub refused: Option<(u16, String)>,
}

#[derive(Debug)]
struct OnHost {
    listening: Listening,
    given: Given,
}

/// Stops when it is dropped.
#[derive(Debug)]
struct Listening {
    spread: Arc<Spread>,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Balancer {
    /// With none yet.
    pub fn new(isolation: Arc<Isolation>) -> Self {
        Self {
            isolation,
            addresses: BTreeSet::new(),
            places: BTreeMap::new(),
            host: BTreeMap::new(),
        }
    }

    /// Makes it as planned, as far as that can be done, and returns what could not.
    pub async fn apply(&mut self, plan: &Plan) -> Vec<String> {
        let mut failures = Vec::new();
        for &address in &plan.addresses {
            if !self.addresses.contains(&address) {
                match self.isolation.add_address(address).await {
                    Ok(()) => drop(self.addresses.insert(address)),
                    Err(error) => failures.push(error.to_string()),
                }
            }
        }
        let gone: Vec<_> = self
            .places
            .keys()
            .filter(|place| !plan.places.contains_key(place))
            .copied()
            .collect();
        for place in gone {
            stop(self.places.remove(&place)).await;
        }
        for (&place, behind) in &plan.places {
            if let Err(error) = self.listen(place, behind).await {
                failures.push(error.to_string());
            }
        }
        let gone: Vec<_> = self
            .host
            .keys()
            .filter(|key| !plan.host.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            stop(self.host.remove(&key).map(|on_host| on_host.listening)).await;
        }
        for (key, port) in &plan.host {
            if let Err(error) = self.listen_on_host(key, port).await {
                failures.push(format!("failed to listen at a port of 127.0.0.1: {error}"));
            }
        }
        // Last, when nothing listens there any more.
        let gone: Vec<_> = self.addresses.difference(&plan.addresses).copied().collect();
        for address in gone {
            match self.isolation.remove_address(address).await {
                Ok(()) => drop(self.addresses.remove(&address)),
                Err(error) => failures.push(error.to_string()),
            }
        }
        failures
    }

    /// Which ports of the machine lead where.
    pub fn given(&self) -> impl Iterator<Item = (&HostKey, &Given)> {
        self.host.iter().map(|(key, on_host)| (key, &on_host.given))
    }

    async fn listen(&mut self, place: SocketAddrV4, behind: &Behind) -> Result<(), Error> {
        if let Some(listening) = self.places.get(&place) {
            listening.spread.set(behind.clone());
            return Ok(());
        }
        let listener = self.isolation.listen(place.into()).await?;
        let listening = self.start(listener, behind);
        self.places.insert(place, listening);
        Ok(())
    }

    async fn listen_on_host(&mut self, key: &HostKey, port: &HostPort) -> io::Result<()> {
        if let Some(on_host) = self.host.get(key) {
            on_host.listening.spread.set(port.behind.clone());
            return Ok(());
        }
        let mut refused = None;
        let mut bound = None;
        for &number in &port.preferred {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, number)).await {
                Ok(listener) => {
                    bound = Some(listener);
                    break;
                }
                Err(error) => refused = refused.or(Some((number, error.to_string()))),
            }
        }
        let listener = match bound {
            Some(listener) => listener,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let number = listener.local_addr()?.port();
        let on_host = OnHost {
            listening: self.start(listener, &port.behind),
            given: Given { number, refused },
        };
        self.host.insert(key.clone(), on_host);
        Ok(())
    }

    fn start(&self, listener: TcpListener, behind: &Behind) -> Listening {
        let spread = Arc::new(Spread::new(behind.clone()));
        let task = tokio::spawn(forward(listener, spread.clone(), self.isolation.clone()));
        Listening { spread, task }
    }
}

/// Stops listening, and waits until the port is free.
async fn stop(listening: Option<Listening>) {
    if let Some(mut listening) = listening {
        listening.task.abort();
        // It ends by being stopped, which is no error here.
        let _ = (&mut listening.task).await;
    }
}
