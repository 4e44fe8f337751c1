//! The controller of hosted control planes: from a `HostedControlPlane` to etcd, API servers, controller manager and
//! scheduler as pods of the management cluster, with their certificates, Services and kubeconfig.
//!
//! A pass reads what is there ([`snapshot`]), works on a graph of nodes ([`graph`], [`pass`]) whose plans are pure
//! ([`pki`], [`exposure`], [`etcd`], [`components`], [`version`]), writes what differs ([`execute`]) and says how
//! it stands ([`status`]). What fails stops only what depends on it.

pub mod access;
pub mod components;
pub mod deletion;
pub mod error;
pub mod etcd;
pub mod execute;
pub mod exposure;
pub mod graph;
pub mod index;
pub mod inputs;
mod members;
pub mod names;
pub mod network;
pub mod pass;
pub mod pki;
pub mod quantity;
pub mod reconcile;
pub mod rollout;
pub mod snapshot;
pub mod status;
pub mod trouble;
pub mod unsupported;
pub mod version;

pub use reconcile::HostedControlPlanes;

use std::sync::Arc;
use std::time::Duration;

use clusterwright_api::hosted::HostedControlPlane;
use clusterwright_api::{Cluster, meta};
use clusterwright_runtime::cache::{Cache, Scope};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::controller::{Builder, Controller, Owner};
use clusterwright_runtime::object::{Object, ObjectKey};
use clusterwright_runtime::rbac::{Grants, Verb};
use etcd::membership::Membership;
use etcd::{PortForward, Simulated};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{Expression, Selector};

/// The controller's name in metrics, logs and Events.
pub const NAME: &str = "hostedcontrolplane";
/// How many control planes are reconciled at once, unless the builder is told otherwise.
pub const DEFAULT_CONCURRENCY: usize = 10;

/// What the controller can't know from the objects.
#[derive(Clone)]
pub struct Options {
    /// The image of this program, for what of it runs in pods.
    pub image: String,
    /// How running etcds are asked for their members.
    pub membership: Arc<dyn Membership>,
    /// How long leaf certificates are valid; they are renewed when a third of it is left. One that is there keeps the
    /// life that it was made for.
    pub leaf_life: Duration,
}

impl Options {
    /// As it is in a cluster: etcd is asked by port-forward through `client`, whose connections have to be real ones.
    pub fn new(image: impl Into<String>, client: kube::Client) -> Self {
        Self {
            image: image.into(),
            membership: Arc::new(PortForward::new(client)),
            leaf_life: pki::LEAF_VALIDITY,
        }
    }

    /// For pods that are simulated: so are the members of etcd.
    pub fn simulated(image: impl Into<String>, client: kube::Client) -> Self {
        Self {
            image: image.into(),
            membership: Arc::new(Simulated::new(client)),
            leaf_life: pki::LEAF_VALIDITY,
        }
    }
}

/// The controller, to be built. `client` is the one that it will run with; its cache must not have been asked for
/// these kinds yet, or it holds more of them than it needs to.
pub fn controller(client: &Client, options: Options) -> Builder<HostedControlPlanes, PersistentVolumeClaim> {
    prepare(client.cache());
    let apply_and_delete = || Verb::APPLY.into_iter().chain([Verb::Delete]);
    Controller::builder(NAME, HostedControlPlanes { options })
        .concurrency(DEFAULT_CONCURRENCY)
        .finalizer(meta::HOSTED_CONTROL_PLANE_FINALIZER)
        .writes_status::<HostedControlPlane>()
        .watches(|cluster: &Cluster, _: &Client| control_plane_of(cluster))
        .owns::<Service>(Owner::ControllerOnly)
        .writes::<Service>(apply_and_delete())
        .owns::<ConfigMap>(Owner::ControllerOnly)
        .writes::<ConfigMap>(apply_and_delete())
        .owns::<StatefulSet>(Owner::ControllerOnly)
        .writes::<StatefulSet>(apply_and_delete())
        .owns::<Deployment>(Owner::ControllerOnly)
        .writes::<Deployment>(apply_and_delete())
        .owns::<PodDisruptionBudget>(Owner::ControllerOnly)
        .writes::<PodDisruptionBudget>(apply_and_delete())
        .watches(|secret: &Secret, client: &Client| index::control_planes(secret, client))
        .writes::<Secret>(apply_and_delete().chain([Verb::Update]))
        .watches(|pod: &Pod, client: &Client| index::control_planes(pod, client))
        .writes::<Pod>([Verb::Delete])
        // A WebSocket begins with a GET, and is a connection that is made.
        .grants(Grants::new().on_subresource::<Pod>("portforward", [Verb::Get, Verb::Create]))
        .watches(|claim: &PersistentVolumeClaim, client: &Client| index::control_planes(claim, client))
        .writes::<PersistentVolumeClaim>([Verb::Delete])
}

/// Narrows the cache to what belongs to clusters, and makes the indexes that the controller reads by.
fn prepare(cache: &Cache) {
    fn scope<K: Object>(cache: &Cache) {
        let label = Expression::Exists(meta::CLUSTER_NAME_LABEL.to_owned());
        cache.scope::<K>(Scope::all().labels(Selector::from(label)));
    }
    scope::<Secret>(cache);
    scope::<ConfigMap>(cache);
    scope::<Service>(cache);
    scope::<Deployment>(cache);
    scope::<StatefulSet>(cache);
    scope::<PodDisruptionBudget>(cache);
    scope::<Pod>(cache);
    scope::<PersistentVolumeClaim>(cache);
    cache
        .informer::<HostedControlPlane>()
        .index(index::CLUSTER, index::of_control_plane);
    cache.informer::<Pod>().index(index::CLUSTER, index::of_labelled);
    cache
        .informer::<PersistentVolumeClaim>()
        .index(index::CLUSTER, index::of_labelled);
}

fn control_plane_of(cluster: &Cluster) -> Vec<ObjectKey> {
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let reference = cluster.spec.control_plane_ref.as_ref().filter(|reference| {
        reference.kind == "HostedControlPlane" && reference.api_group == "controlplane.cluster.x-k8s.io"
    });
    reference
        .map(|reference| ObjectKey::namespaced(namespace, reference.name.as_str()))
        .into_iter()
        .collect()
}
