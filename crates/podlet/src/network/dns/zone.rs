//! Which names there are, and what they stand for.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use crate::network::objects::{Endpoint, Service, World};

/// All names of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    names: HashMap<String, Records>,
}

/// What a name stands for. A name with nothing is one that others are below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Addresses.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Ports, and the names of the machines that have them.
    pub services: BTreeSet<(u16, String)>,
    /// Another name.
    pub alias: Option<String>,
    /// For the name of an address: the names that have it.
    pub pointers: BTreeSet<String>,
}

impl Zone {
    /// The names of these Services.
    pub fn new(domain: &str, world: &World) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let mut zone = Self {
            names: HashMap::new(),
            domain,
        };
        zone.at(&zone.domain.clone());
        for ((namespace, name), service) in world {
            let name = format!("{name}.{namespace}.svc.{}", zone.domain);
            if let Some(alias) = &service.alias {
                let alias = alias.trim_end_matches('.').to_ascii_lowercase();
                zone.at(&name).alias = Some(alias);
            } else if service.addresses.is_empty() {
                zone.add_headless(&name, service);
            } else {
                zone.add_service(&name, service);
            }
        }
        zone
    }

    /// The domain that all names but those of addresses are below.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What a name, in lower case and without a dot at its end, stands for.
    pub fn get(&self, name: &str) -> Option<&Records> {
        self.names.get(name)
    }

    fn add_service(&mut self, name: &str, service: &Service) {
        for &address in &service.addresses {
            self.at(name).addresses.insert(address);
            self.at(&reverse(address)).pointers.insert(name.to_owned());
        }
        for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
            let target = (port.port, name.to_owned());
            self.at(&service_name(&port.name, &port.protocol, name))
                .services
                .insert(target);
        }
    }

    fn add_headless(&mut self, name: &str, service: &Service) {
        // The name is there even while nothing is behind it.
        self.at(name);
        let answered = |endpoint: &&Endpoint| endpoint.ready || service.publishes_unready;
        for endpoint in service.endpoints.iter().filter(answered) {
            let own = match &endpoint.hostname {
                Some(hostname) => format!("{}.{name}", hostname.to_ascii_lowercase()),
                None => format!("{}.{name}", endpoint.address.to_string().replace('.', "-")),
            };
            self.at(name).addresses.insert(endpoint.address);
            self.at(&own).addresses.insert(endpoint.address);
            if endpoint.hostname.is_some() {
                self.at(&reverse(endpoint.address)).pointers.insert(own.clone());
            }
            for (port, number, protocol) in endpoint.ports.iter().filter(|(port, _, _)| !port.is_empty()) {
                self.at(&service_name(port, protocol, name))
                    .services
                    .insert((*number, own.clone()));
            }
        }
    }

    /// The place of a name. Those above it are names too.
    fn at(&mut self, name: &str) -> &mut Records {
        let mut above = name;
        while let Some((_, rest)) = above.split_once('.') {
            if self.names.contains_key(rest) || rest.len() < self.domain.len() {
                break;
            }
            self.names.insert(rest.to_owned(), Records::default());
            above = rest;
        }
        self.names.entry(name.to_owned()).or_default()
    }
}

fn service_name(port: &str, protocol: &str, service: &str) -> String {
    format!("_{port}._{protocol}.{service}").to_ascii_lowercase()
}

fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}
