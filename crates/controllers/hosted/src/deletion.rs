//! Taking a control plane down, in the order that leaves nothing half alive: what writes to etcd, then etcd, then
//! what it wrote on and the keys.

use clusterwright_api::HostedControlPlane;
use clusterwright_api::meta;
use clusterwright_api::reasons::Reason;
use clusterwright_runtime::client::{Client, Error};
use clusterwright_runtime::object::{Object, ObjectKey};
use clusterwright_runtime::owner;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DeleteParams;

use crate::graph::Why;
use crate::index;
use crate::names::{Component, Names};
use crate::pki::{Leaf, Root, SERVICE_ACCOUNT_PURPOSE};
use crate::rollout;
use crate::snapshot::DEPLOYMENTS;

/// Does the next step of a deletion. Gives what is waited for; `None` when nothing is left.
pub async fn step(client: &Client, object: &HostedControlPlane, names: &Names) -> Result<Option<Why>, Error> {
    let stages = Stages {
        client,
        object,
        names,
    };
    if let Some(left) = stages.api_servers().await? {
        return Ok(Some(left));
    }
    if let Some(left) = stages.etcd().await? {
        return Ok(Some(left));
    }
    stages.rest().await
}

struct Stages<'a> {
    client: &'a Client,
    object: &'a HostedControlPlane,
    names: &'a Names,
}

impl Stages<'_> {
    async fn api_servers(&self) -> Result<Option<Why>, Error> {
        let mut left = Vec::new();
        for component in DEPLOYMENTS {
            let name = self.names.workload(component);
            self.remove::<Deployment>(&name, &mut left).await?;
            self.remove::<PodDisruptionBudget>(&name, &mut left).await?;
        }
        self.pods(&DEPLOYMENTS, &mut left)?;
        Ok(why(Reason::DeletingAPIServers, &left))
    }

    async fn etcd(&self) -> Result<Option<Why>, Error> {
        let mut left = Vec::new();
        let name = self.names.workload(Component::Etcd);
        self.remove::<StatefulSet>(&name, &mut left).await?;
        self.remove::<PodDisruptionBudget>(&name, &mut left).await?;
        self.pods(&[Component::Etcd], &mut left)?;
        Ok(why(Reason::DeletingEtcd, &left))
    }

    async fn rest(&self) -> Result<Option<Why>, Error> {
        let mut left = Vec::new();
        for claim in self.belonging::<PersistentVolumeClaim>()? {
            // Claims have no owner: a set that is deleted by mistake must not take its data along.
            if claim
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(meta::MANAGED_BY_LABEL))
                .map(String::as_str)
                == Some(meta::MANAGER)
            {
                self.delete(&claim, &mut left).await?;
            }
        }
        for component in DEPLOYMENTS.into_iter().chain([Component::Etcd]) {
            self.remove::<ConfigMap>(&self.names.workload(component), &mut left)
                .await?;
        }
        let names = self.names;
        for name in [
            names.api_service(),
            names.etcd_service(),
            names.etcd_client_service(),
        ] {
            self.remove::<Service>(&name, &mut left).await?;
        }
        let leaves = Leaf::ALL.iter().map(|leaf| self.names.leaf_secret(leaf.name()));
        let purposes = ["kubeconfig", SERVICE_ACCOUNT_PURPOSE]
            .into_iter()
            .chain(Root::ALL.iter().map(|root| root.purpose()));
        let secrets: Vec<String> = leaves
            .chain(purposes.map(|purpose| self.names.contract_secret(purpose)))
            .collect();
        for name in secrets {
            self.remove::<Secret>(&name, &mut left).await?;
        }
        Ok(why(Reason::DeletingStorageAndSecrets, &left))
    }

    /// Deletes the object of that name if it is there and ours.
    async fn remove<K: Object>(&self, name: &str, left: &mut Vec<String>) -> Result<(), Error> {
        let namespace = self.object.metadata.namespace.as_deref();
        let key = ObjectKey::beside::<K>(namespace, name);
        match self.client.get::<K>(&key)? {
            Some(present) if owner::is_controlled_by(self.object, &present) => {
                self.delete(&present, left).await
            }
            _ => Ok(()),
        }
    }

    async fn delete<K: Object>(&self, present: &K, left: &mut Vec<String>) -> Result<(), Error> {
        let key = ObjectKey::of(present);
        self.client.delete::<K>(&key, &DeleteParams::default()).await?;
        // It may be gone at once, or wait for its own finalizers.
        if self.client.get::<K>(&key)?.is_some() {
            left.push(format!("{} {}", K::kind(&()), key.name()));
        }
        Ok(())
    }

    fn pods(&self, components: &[Component], left: &mut Vec<String>) -> Result<(), Error> {
        let pods = self.belonging::<Pod>()?;
        let remaining = pods.iter().filter(|pod| {
            rollout::is_live(pod) && components.iter().any(|component| rollout::is_of(pod, *component))
        });
        left.extend(remaining.map(|pod| format!("Pod {}", pod.metadata.name.as_deref().unwrap_or_default())));
        Ok(())
    }

    fn belonging<K: Object>(&self) -> Result<Vec<K>, Error> {
        let namespace = self.object.metadata.namespace.as_deref().unwrap_or_default();
        self.client
            .list_by(index::CLUSTER, &index::value(namespace, self.names.cluster()))
    }
}

fn why(reason: Reason, left: &[String]) -> Option<Why> {
    /// Enough to see what hangs.
    const NAMED: usize = 10;
    let (first, rest) = left.split_at(left.len().min(NAMED));
    let more = if rest.is_empty() {
        String::new()
    } else {
        format!(" and {} more", rest.len())
    };
    (!left.is_empty()).then(|| {
        Why::new(
            reason,
            format!("waits until these are gone: {}{more}", first.join(", ")),
        )
    })
}
