//! What is there: everything under one control plane, read once at the start of a pass.

use std::collections::BTreeMap;

use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_runtime::client::{Client, Error};
use clusterwright_runtime::object::{Object, ObjectKey};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::etcd::book::Book;
use crate::etcd::plan::{PodState, majority};
use crate::etcd::{helper_image, pod_state};
use crate::index;
use crate::inputs::Inputs;
use crate::names::{Component, Names};
use crate::pki::{Leaf, Root, SERVICE_ACCOUNT_PURPOSE};
use crate::rollout::{self, Rollout};
use crate::version::Deployed;

/// The components that run in Deployments.
pub const DEPLOYMENTS: [Component; 3] = [
    Component::ApiServer,
    Component::ControllerManager,
    Component::Scheduler,
];

/// Everything under one control plane.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Roots, the service account's key pair and leaves, by the Secret's name.
    pub secrets: BTreeMap<String, Secret>,
    /// The API server's Service.
    pub service: Option<Service>,
    /// etcd.
    pub etcd: Option<StatefulSet>,
    /// What etcd's members may do.
    pub book: Option<Book>,
    /// The other components.
    pub deployments: BTreeMap<Component, Deployment>,
    /// The disruption budgets of [`DEPLOYMENTS`].
    pub budgets: BTreeMap<Component, PodDisruptionBudget>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// The claims of etcd's members, with the cluster's data.
    pub claims: Vec<PersistentVolumeClaim>,
}

impl Snapshot {
    /// Reads it from the cache.
    pub fn read(client: &Client, namespace: &str, names: &Names) -> Result<Self, Error> {
        let mut snapshot = Self {
            service: get(client, namespace, &names.api_service())?,
            etcd: get(client, namespace, &names.workload(Component::Etcd))?,
            book: get::<ConfigMap>(client, namespace, &names.workload(Component::Etcd))?
                .and_then(|map| Book::read(&map)),
            pods: client.list_by(index::CLUSTER, &index::value(namespace, names.cluster()))?,
            claims: client.list_by(index::CLUSTER, &index::value(namespace, names.cluster()))?,
            ..Self::default()
        };
        let secrets = Root::ALL
            .iter()
            .map(|root| names.contract_secret(root.purpose()))
            .chain([names.contract_secret(SERVICE_ACCOUNT_PURPOSE)])
            .chain(Leaf::ALL.iter().map(|leaf| names.leaf_secret(leaf.name())));
        for name in secrets {
            if let Some(secret) = get(client, namespace, &name)? {
                snapshot.secrets.insert(name, secret);
            }
        }
        for component in DEPLOYMENTS {
            let name = names.workload(component);
            if let Some(deployment) = get(client, namespace, &name)? {
                snapshot.deployments.insert(component, deployment);
            }
            if let Some(budget) = get(client, namespace, &name)? {
                snapshot.budgets.insert(component, budget);
            }
        }
        Ok(snapshot)
    }

    /// The replicas of a Deployment; none if there is none.
    pub fn rollout(&self, component: Component) -> Rollout {
        self.deployments
            .get(&component)
            .map(Rollout::of_deployment)
            .unwrap_or_default()
    }

    /// etcd's members; none if there is none.
    pub fn etcd_rollout(&self) -> Rollout {
        self.etcd
            .as_ref()
            .map(Rollout::of_stateful_set)
            .unwrap_or_default()
    }

    /// So many members of etcd have to be ready for it to work.
    pub fn etcd_majority(&self) -> i32 {
        let members = usize::try_from(self.etcd_rollout().desired).unwrap_or_default();
        i32::try_from(majority(members)).unwrap_or(i32::MAX)
    }

    /// How the pods of etcd's members stand, by their names.
    pub fn etcd_pods(&self) -> BTreeMap<String, PodState> {
        let pods = self
            .pods
            .iter()
            .filter(|pod| rollout::is_of(pod, Component::Etcd));
        pods.map(|pod| (pod.metadata.name.clone().unwrap_or_default(), pod_state(pod)))
            .collect()
    }

    /// The image of ours in etcd's pods.
    pub fn helper_image(&self) -> Option<&str> {
        helper_image(&self.etcd.as_ref()?.spec.as_ref()?.template)
    }

    /// Which versions run.
    pub fn deployed(&self) -> Deployed {
        let version = |component| {
            let deployment = self.deployments.get(&component)?;
            rollout::template_version(rollout::template(deployment)?)
        };
        let annotations = self
            .etcd
            .as_ref()
            .and_then(|set| set.metadata.annotations.as_ref());
        let etcd =
            annotations.and_then(|annotations| annotations.get(clusterwright_api::meta::VERSION_ANNOTATION));
        let api_server = version(Component::ApiServer);
        Deployed {
            etcd: etcd.and_then(|version| version.parse().ok()),
            etcd_complete: self.etcd_rollout().is_complete(),
            api_server_complete: self.rollout(Component::ApiServer).is_complete()
                && api_server
                    .as_ref()
                    .is_some_and(|version| rollout::all_run(&self.pods, Component::ApiServer, version)),
            api_server,
            controller_manager: version(Component::ControllerManager),
            scheduler: version(Component::Scheduler),
        }
    }

    /// When the oldest pod of a component was made.
    pub fn oldest_pod(&self, component: Component) -> Option<Timestamp> {
        self.pods
            .iter()
            .filter(|pod| rollout::is_of(pod, component) && rollout::is_live(pod))
            .filter_map(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
            .min()
    }

    /// The size that etcd's volumes were asked for with.
    pub fn volume_size(&self) -> Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
        let claims = self
            .etcd
            .as_ref()?
            .spec
            .as_ref()?
            .volume_claim_templates
            .as_ref()?;
        let requests = claims
            .first()?
            .spec
            .as_ref()?
            .resources
            .as_ref()?
            .requests
            .as_ref()?;
        requests.get("storage").cloned()
    }

    /// Whether the cluster has been running with its roots and keys: to make new ones would cut it off. What runs and
    /// its data say so, whatever became of the status.
    pub fn roots_in_use(&self, object: &HostedControlPlane) -> bool {
        is_initialized(object)
            || self.etcd.is_some()
            || !self.deployments.is_empty()
            || !self.claims.is_empty()
    }

    /// Whether an API server of the cluster has ever answered, as far as status and workloads tell.
    pub fn has_answered(&self, object: &HostedControlPlane) -> bool {
        is_initialized(object) || self.rollout(Component::ApiServer).available > 0
    }

    /// Whether the API servers are to be made for the first time.
    pub fn is_first_start(&self, object: &HostedControlPlane) -> bool {
        !self.has_answered(object) || !self.deployments.contains_key(&Component::ApiServer)
    }
}

/// Whether the control plane has ever answered.
pub fn is_initialized(object: &HostedControlPlane) -> bool {
    let status = object.status.as_ref();
    let initialization = status.and_then(|status| status.initialization.as_ref());
    initialization.and_then(|initialization| initialization.control_plane_initialized) == Some(true)
}

fn get<K: Object>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Error> {
    client.get(&ObjectKey::namespaced(namespace, name))
}

/// The name of the Cluster that owns the control plane: Cluster API's core manager (or whoever does its work) makes
/// it an owner.
pub fn owner_cluster(object: &HostedControlPlane) -> Option<&str> {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .find(|owner| {
            owner.kind == "Cluster" && owner.api_version.split('/').next() == Some("cluster.x-k8s.io")
        })
        .map(|owner| owner.name.as_str())
}

/// Whether reconciliation is stopped, and by what.
pub fn paused_by(object: &HostedControlPlane, cluster: Option<&Cluster>) -> Option<&'static str> {
    let annotations = object.metadata.annotations.as_ref();
    if cluster.is_some_and(|cluster| cluster.spec.paused == Some(true)) {
        Some("spec.paused of the Cluster is true")
    } else if annotations.is_some_and(|all| all.contains_key(clusterwright_api::meta::PAUSED_ANNOTATION)) {
        Some("the annotation cluster.x-k8s.io/paused is set")
    } else {
        None
    }
}

/// One control plane, its Cluster and what is under it.
pub struct Read {
    /// The control plane.
    pub object: HostedControlPlane,
    /// Its Cluster.
    pub cluster: Cluster,
    /// What every concern starts from.
    pub inputs: Inputs,
    /// What is there.
    pub snapshot: Snapshot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_in_use_by_what_runs_and_by_data_without_any_status() {
        let object = HostedControlPlane::default();
        let in_use = |snapshot: &Snapshot| snapshot.roots_in_use(&object);
        assert!(!in_use(&Snapshot::default()));
        assert!(in_use(&Snapshot {
            claims: vec![PersistentVolumeClaim::default()],
            ..Snapshot::default()
        }));
        assert!(in_use(&Snapshot {
            etcd: Some(StatefulSet::default()),
            ..Snapshot::default()
        }));
        assert!(in_use(&Snapshot {
            deployments: [(Component::Scheduler, Deployment::default())].into(),
            ..Snapshot::default()
        }));
    }
}
