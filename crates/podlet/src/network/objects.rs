//! Services and their endpoints, as far as the network needs them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

/// The label by which a slice names its Service.
pub const SERVICE: &str = "kubernetes.io/service-name";
/// How long a client is kept at an endpoint if a Service that wants it so does not say, as the API has it: 3 h.
const AFFINITY: Duration = Duration::from_secs(10_800);

/// The annotation that says at which ports of 127.0.0.1 the machine reaches a Service's ports: a JSON object from the
/// Service's to the machine's.
pub const HOST_PORTS: &str = "podlet.clusterwright.dev/host-ports";

/// All Services, with their endpoints.
pub type World = BTreeMap<ServiceKey, Service>;

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its addresses in the cluster. None, if it is headless.
    pub addresses: Vec<Ipv4Addr>,
    /// The addresses of its load balancer, where those are not reached through a proxy of that.
    pub balancer: Vec<Ipv4Addr>,
    /// What it is another name of.
    pub alias: Option<String>,
    /// Whether names of endpoints are answered before they are ready.
    pub publishes_unready: bool,
    /// How long a client that comes again gets the same endpoint.
    pub affinity: Option<Duration>,
    /// Whether it has a port on the nodes, or a load balancer.
    pub reach: Reach,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Ports of the machine's loopback that were given to its ports before.
    pub host_ports: BTreeMap<u16, u16>,
    /// What is behind it.
    pub endpoints: Vec<Endpoint>,
}

/// From where a Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// From pods.
    #[default]
    Cluster,
    /// By a port of the nodes too.
    Nodes,
    /// From everywhere.
    Balancer,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name, which may be empty if there is only one.
    pub name: String,
    /// The number.
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// The port of the nodes.
    pub node_port: Option<u16>,
}

/// A pod, or whatever else answers for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name within the Service.
    pub hostname: Option<String>,
    /// Whether it is to get connections.
    pub ready: bool,
    /// Whether it would answer, even if it is about to end.
    pub serving: bool,
    /// Whether it is about to end.
    pub terminating: bool,
    /// Its ports: name, number, protocol.
    pub ports: Vec<(String, u16, String)>,
}

/// The Services with the endpoints that slices give them. What is malformed is left out.
pub fn world<'a>(
    services: impl Iterator<Item = &'a core::Service>,
    slices: impl Iterator<Item = &'a discovery::EndpointSlice>,
) -> World {
    let mut world: World = services
        .filter_map(|service| {
            let metadata = &service.metadata;
            Some((
                (metadata.namespace.clone()?, metadata.name.clone()?),
                read(service),
            ))
        })
        .collect();
    for slice in slices {
        let key = || {
            let namespace = slice.metadata.namespace.clone()?;
            let name = slice.metadata.labels.as_ref()?.get(SERVICE)?;
            Some((namespace, name.clone()))
        };
        if slice.address_type == "IPv4"
            && let Some(service) = key().and_then(|key| world.get_mut(&key))
        {
            add(service, slice);
        }
    }
    for service in world.values_mut() {
        service.endpoints.sort_by_key(|endpoint| endpoint.address);
    }
    world
}

fn read(service: &core::Service) -> Service {
    let Some(spec) = &service.spec else {
        return Service::default();
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if text(&spec.type_) == "ExternalName" {
        return Service {
            alias: spec.external_name.clone(),
            ..Service::default()
        };
    }
    let ingress = service.status.iter().flat_map(|status| &status.load_balancer);
    let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
    let affinity = || {
        let config = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?;
        config.timeout_seconds?.try_into().ok().map(Duration::from_secs)
    };
    Service {
        addresses: (spec.cluster_ips.iter().flatten())
            .filter_map(|address| address.parse().ok())
            .collect(),
        balancer: ingress
            .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
            .collect(),
        alias: None,
        publishes_unready: spec.publish_not_ready_addresses.unwrap_or_default(),
        affinity: (text(&spec.session_affinity) == "ClientIP").then(|| affinity().unwrap_or(AFFINITY)),
        reach: match text(&spec.type_).as_str() {
            "LoadBalancer" => Reach::Balancer,
            "NodePort" => Reach::Nodes,
            _ => Reach::Cluster,
        },
        ports: (spec.ports.iter().flatten())
            .filter_map(|port| {
                Some(Port {
                    name: text(&port.name),
                    port: number(port.port)?,
                    protocol: protocol(port.protocol.as_deref()),
                    node_port: port.node_port.and_then(number),
                })
            })
            .collect(),
        host_ports: host_ports(service),
        endpoints: Vec::new(),
    }
}

/// The ports of the machine's that are noted at a Service. What is malformed is none.
pub fn host_ports(service: &core::Service) -> BTreeMap<u16, u16> {
    let noted = service
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(HOST_PORTS));
    let ports = noted.and_then(|noted| serde_json::from_str(noted).ok());
    ports.unwrap_or_default()
}

fn add(service: &mut Service, slice: &discovery::EndpointSlice) {
    let ports: Vec<_> = (slice.ports.iter().flatten())
        .filter_map(|port| {
            let name = port.name.clone().unwrap_or_default();
            Some((name, number(port.port?)?, protocol(port.protocol.as_deref())))
        })
        .collect();
    for endpoint in slice.endpoints.iter().flatten() {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // What is not said is taken for the best, as the API has it.
        let ready = conditions.ready.unwrap_or(true);
        let found = endpoint.addresses.iter().filter_map(|address| {
            Some(Endpoint {
                address: address.parse().ok()?,
                hostname: endpoint.hostname.clone().filter(|name| !name.is_empty()),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or_default(),
                ports: ports.clone(),
            })
        });
        service.endpoints.extend(found);
    }
}

fn number(port: i32) -> Option<u16> {
    port.try_into().ok().filter(|port| *port != 0)
}

fn protocol(protocol: Option<&str>) -> String {
    protocol.unwrap_or("TCP").to_owned()
}
