//! From Services to the addresses and ports that connections to them come in at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::objects::{Endpoint, Port, Reach, Service, ServiceKey, World};

/// What is to be listened at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Addresses that the podlet has in the pods' network: also those where nobody answers, so that whoever connects
    /// there is refused and does not wait.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Places in the pods' network with something behind them.
    pub places: BTreeMap<SocketAddrV4, Behind>,
    /// Ports of the machine's own loopback.
    pub host: BTreeMap<HostKey, HostPort>,
}

/// A port of a Service, as it is reached from the machine.
pub type HostKey = (ServiceKey, u16);

/// How a port is reached from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Which numbers it would have, the best first.
    pub preferred: Vec<u16>,
    /// What is behind it.
    pub behind: Behind,
}

/// What is behind a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Where connections go on.
    pub targets: Vec<Target>,
    /// How long a client that comes again gets the same.
    pub affinity: Option<Duration>,
}

/// Where a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// In the pods' network.
    Pod(SocketAddrV4),
    /// In the machine's.
    Host(SocketAddr),
}

/// Plans what Services need. `api_server` is where the `kubernetes` Service leads, if that is outside of the pods'
/// network.
pub fn plan(world: &World, own: Ipv4Addr, api_server: Option<SocketAddr>) -> Plan {
    let mut plan = Plan::default();
    for (key, service) in world {
        let addresses = service.addresses.iter().chain(&service.balancer);
        let addresses: Vec<Ipv4Addr> = addresses
            .copied()
            .filter(|&address| is_usable(address, own))
            .collect();
        plan.addresses.extend(&addresses);
        for port in service.ports.iter().filter(|port| port.protocol == "TCP") {
            let behind = Behind {
                targets: match api_server {
                    Some(api_server) if is_kubernetes(key) => vec![Target::Host(api_server)],
                    _ => targets(service, port),
                },
                affinity: service.affinity,
            };
            if !behind.targets.is_empty() {
                let places = addresses
                    .iter()
                    .map(|&address| SocketAddrV4::new(address, port.port));
                plan.places.extend(places.map(|place| (place, behind.clone())));
            }
            let own_number = match service.reach {
                Reach::Cluster => continue,
                Reach::Nodes => port.node_port,
                Reach::Balancer => Some(port.port),
            };
            // What it had before is in somebody's kubeconfig.
            let before = service.host_ports.get(&port.port).copied();
            let preferred = before.into_iter().chain(own_number).collect();
            plan.host
                .insert((key.clone(), port.port), HostPort { preferred, behind });
        }
    }
    plan
}

/// Not what would take connections that are somebody else's.
fn is_usable(address: Ipv4Addr, own: Ipv4Addr) -> bool {
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
        || address == own)
}

fn is_kubernetes((namespace, name): &ServiceKey) -> bool {
    namespace == "default" && name == "kubernetes"
}

/// The endpoints that new connections go to: those that are ready, or if none is, those that still answer while they
/// end, as kube-proxy has it.
fn targets(service: &Service, port: &Port) -> Vec<Target> {
    let of = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<Target> {
        let endpoints = service.endpoints.iter().filter(|endpoint| wanted(endpoint));
        let targets = endpoints.flat_map(|endpoint| {
            let ports = endpoint.ports.iter();
            let ports = ports.filter(|(name, _, protocol)| *name == port.name && *protocol == port.protocol);
            ports.map(|(_, number, _)| Target::Pod(SocketAddrV4::new(endpoint.address, *number)))
        });
        targets.collect()
    };
    let ready = of(&|endpoint| endpoint.ready);
    if ready.is_empty() {
        of(&|endpoint| endpoint.serving && endpoint.terminating)
    } else {
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8, ready: bool, serving: bool, terminating: bool) -> Endpoint {
        Endpoint {
            address: Ipv4Addr::new(10, 244, 0, last),
            hostname: None,
            ready,
            serving,
            terminating,
            ports: vec![
                ("https".to_owned(), 6443, "TCP".to_owned()),
                ("https".to_owned(), 53, "UDP".to_owned()),
                ("other".to_owned(), 1, "TCP".to_owned()),
            ],
        }
    }

    fn service(endpoints: Vec<Endpoint>) -> Service {
        let port = |name: &str, port, protocol: &str| Port {
            name: name.to_owned(),
            port,
            protocol: protocol.to_owned(),
            node_port: Some(30_443),
        };
        Service {
            addresses: vec![Ipv4Addr::new(10, 96, 0, 7)],
            ports: vec![port("https", 443, "TCP"), port("dns", 53, "UDP")],
            endpoints,
            ..Service::default()
        }
    }

    fn planned(service: Service) -> Plan {
        let key = ("prod".to_owned(), "api".to_owned());
        plan(&World::from([(key, service)]), Ipv4Addr::new(10, 244, 0, 1), None)
    }

    fn behind(service: Service) -> Vec<String> {
        let plan = planned(service);
        let place = "10.96.0.7:443".parse().unwrap();
        assert!(plan.places.keys().all(|other| *other == place), "{plan:?}");
        assert_eq!(plan.addresses.len(), 1);
        let targets = plan.places.get(&place).map(|behind| behind.targets.clone());
        let shown = targets.into_iter().flatten().map(|target| match target {
            Target::Pod(place) => place.to_string(),
            Target::Host(place) => format!("host {place}"),
        });
        shown.collect()
    }

    #[test]
    fn the_ready_first_then_those_that_end_but_answer() {
        let ready = || endpoint(2, true, true, false);
        let ends = || endpoint(3, false, true, true);
        let failed = || endpoint(4, false, false, false);
        let unready = || endpoint(5, false, true, false);
        assert_eq!(
            behind(service(vec![ends(), ready(), failed()])),
            ["10.244.0.2:6443"]
        );
        assert_eq!(
            behind(service(vec![ends(), failed(), unready()])),
            ["10.244.0.3:6443"]
        );
        assert!(behind(service(vec![failed(), unready()])).is_empty());
        assert!(behind(service(vec![])).is_empty());
    }

    #[test]
    fn addresses_that_are_somebody_elses_are_left_alone() {
        let mut taken = service(vec![endpoint(2, true, true, false)]);
        taken.balancer = vec![
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::new(10, 244, 0, 1),
            Ipv4Addr::new(224, 0, 0, 1),
            Ipv4Addr::UNSPECIFIED,
        ];
        assert_eq!(planned(taken).addresses.len(), 1);
    }

    #[test]
    fn ports_of_the_machine() {
        let key = (("prod".to_owned(), "api".to_owned()), 443);
        let preferred = |reach, before: &[(u16, u16)]| {
            let mut service = service(vec![]);
            service.reach = reach;
            service.host_ports = before.iter().copied().collect();
            planned(service).host.get(&key).map(|port| port.preferred.clone())
        };
        assert_eq!(preferred(Reach::Cluster, &[]), None);
        assert_eq!(preferred(Reach::Nodes, &[]), Some(vec![30_443]));
        assert_eq!(preferred(Reach::Balancer, &[]), Some(vec![443]));
        assert_eq!(
            preferred(Reach::Balancer, &[(443, 40_000), (80, 1)]),
            Some(vec![40_000, 443])
        );
    }

    #[test]
    fn the_api_server_is_where_it_is() {
        let key = ("default".to_owned(), "kubernetes".to_owned());
        let world = World::from([(key, service(vec![endpoint(2, true, true, false)]))]);
        let api_server = "127.0.0.1:6443".parse().unwrap();
        let planned = plan(&world, Ipv4Addr::new(10, 244, 0, 1), Some(api_server));
        let behind = planned.places.values().next().unwrap();
        assert_eq!(behind.targets, [Target::Host(api_server)]);
    }
}
