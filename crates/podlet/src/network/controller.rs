//! Watches Services and their slices, and says at the Services how they are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use clusterwright_runtime::client::{self, Client, List};
use clusterwright_runtime::controller::{Builder, Controller};
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::rbac::Verb;
use clusterwright_runtime::reconcile::{Context, Outcome, ReconcileError, Reconciler, Request};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Patch;
use serde_json::json;
use tokio::sync::Mutex;

use super::objects::{self, HOST_PORTS, Reach, SERVICE, ServiceKey, World};
use super::{Given, Network};

/// The addresses of load balancers: the half of 198.18.0.0/15, which is nobody's (RFC 2544), that stages don't use.
const BALANCERS: [u8; 2] = [198, 19];

/// Makes the network what Services ask for.
pub struct Services(Mutex<State>);

struct State {
    network: Network,
    world: World,
    /// Services whose owner was told of ports that are not served.
    told: BTreeSet<ServiceKey>,
}

/// Why a Service is not served as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused something.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// An address or a port could not be had.
    #[error("failed to serve Services: {0}")]
    Listen(String),
    /// Every address for load balancers is given.
    #[error("failed to find an address for a load balancer: all of 198.19.0.0/16 are given")]
    Exhausted,
}

impl ReconcileError for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Client(error) => error.reason(),
            Self::Listen(_) => "ListenFailed",
            Self::Exhausted => "NoAddress",
        }
    }
}

/// The controller, to be built.
pub fn controller(network: Network) -> Builder<Services, EndpointSlice> {
    let state = State {
        network,
        world: World::new(),
        told: BTreeSet::new(),
    };
    Controller::builder("podlet-services", Services(Mutex::new(state)))
        .watches(|slice: &EndpointSlice, _: &Client| {
            let metadata = &slice.metadata;
            let service = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE));
            let service = service.zip(metadata.namespace.as_deref());
            service
                .map(|(name, namespace)| ObjectKey::namespaced(namespace, name.as_str()))
                .into_iter()
                .collect()
        })
        .writes::<Service>([Verb::Patch])
        .writes_status::<Service>()
}

impl Reconciler for Services {
    type Object = Service;
    type Error = Error;

    async fn reconcile(&self, cx: &Context, request: Request<Service>) -> Result<Outcome, Error> {
        let service = cx.get(&request)?;
        let namespace = request.namespace().unwrap_or_default().to_owned();
        let key = (namespace.clone(), request.name().to_owned());
        let slices = List::all()
            .namespace(namespace)
            .matching([(SERVICE, request.name())]);
        let slices = cx.client().list::<EndpointSlice>(&slices)?;

        let mut state = self.0.lock().await;
        let State { network, world, told } = &mut *state;
        world.remove(&key);
        world.extend(objects::world(service.iter(), slices.iter()));
        let failures = network.apply(world).await;
        let given: BTreeMap<u16, Given> = network
            .given()
            .filter(|((of, _), _)| *of == key)
            .map(|((_, port), given)| (*port, given.clone()))
            .collect();
        if let Some(service) = &service {
            note_ports(cx, service, &given).await?;
            balance(cx, service, &key).await?;
            tell_unserved(cx, service, told, &key);
        } else {
            told.remove(&key);
        }
        if failures.is_empty() {
            Ok(Outcome::Done)
        } else {
            Err(Error::Listen(failures.join("; ")))
        }
    }
}

/// Says at a Service which ports of the machine lead to it.
async fn note_ports(cx: &Context, service: &Service, given: &BTreeMap<u16, Given>) -> Result<(), Error> {
    let ports: BTreeMap<u16, u16> = given.iter().map(|(port, given)| (*port, given.number)).collect();
    if ports == objects::host_ports(service) {
        return Ok(());
    }
    let noted = (!ports.is_empty()).then(|| json!(ports).to_string());
    let patch = json!({"metadata": {"annotations": {HOST_PORTS: noted}}});
    cx.client()
        .patch::<Service, _>(&ObjectKey::of(service), &Patch::Merge(patch))
        .await?;
    for (port, given) in given {
        if let Some((number, why)) = &given.refused {
            let note = format!(
                "Port {number} of 127.0.0.1 can't be had ({why}): port {port} is reached at 127.0.0.1:{}",
                given.number
            );
            cx.recorder().warning(service, "HostPortTaken", "Listening", note);
        }
    }
    Ok(())
}

/// Gives a load balancer an address, where nobody else does, and takes it away from what is none any more.
async fn balance(cx: &Context, service: &Service, key: &ServiceKey) -> Result<(), Error> {
    let read = |service: &Service| {
        let world = objects::world(std::iter::once(service), std::iter::empty());
        world.into_values().next().unwrap_or_default()
    };
    let is_ours = |address: &Ipv4Addr| address.octets()[..2] == BALANCERS;
    let known = read(service);
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_ref());
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let has = ingress.is_some_and(|balancer| balancer.ingress.iter().flatten().next().is_some());
    let ingress = if known.reach == Reach::Balancer && class.is_none() && !has {
        let all = cx.client().list::<Service>(&List::all())?;
        let taken: BTreeSet<Ipv4Addr> = all.iter().flat_map(|service| read(service).balancer).collect();
        let address = free(&taken).ok_or(Error::Exhausted)?;
        json!([{"ip": address, "ipMode": "VIP"}])
    } else if known.reach != Reach::Balancer && known.balancer.iter().any(is_ours) {
        json!(null)
    } else {
        return Ok(());
    };
    let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let key = ObjectKey::namespaced(key.0.as_str(), key.1.as_str());
    cx.client()
        .patch_status::<Service, _>(&key, &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// The first address that is not taken.
fn free(taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let [a, b] = BALANCERS;
    let all = (1..u16::MAX).map(|number| {
        let [c, d] = number.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    });
    all.into_iter().find(|address| !taken.contains(address))
}

/// Says once that ports of a Service lead nowhere.
fn tell_unserved(cx: &Context, service: &Service, told: &mut BTreeSet<ServiceKey>, key: &ServiceKey) {
    let spec = service.spec.iter();
    let ports = spec.flat_map(|spec| spec.ports.iter().flatten());
    let mut unserved: Vec<String> = ports
        .filter(|port| port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP"))
        .map(|port| format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or_default()))
        .collect();
    unserved.dedup();
    // A headless one is only names, which are answered.
    let headless = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
    if unserved.is_empty() || headless {
        told.remove(key);
    } else if told.insert(key.clone()) {
        let note = format!(
            "The podlet passes on TCP only: {} of this Service leads nowhere. Pods reach it by a headless Service's names",
            unserved.join(", ")
        );
        cx.recorder()
            .warning(service, "UnsupportedProtocol", "Listening", note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_once() {
        let mut taken = BTreeSet::new();
        for _ in 0..300 {
            assert!(taken.insert(free(&taken).unwrap()));
        }
        assert!(
            taken.contains(&Ipv4Addr::new(198, 19, 0, 1)) && taken.contains(&Ipv4Addr::new(198, 19, 1, 44))
        );
    }
}
