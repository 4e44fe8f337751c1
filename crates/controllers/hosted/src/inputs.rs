//! What every concern starts from: one control plane and the Cluster that it belongs to, read and checked once.

use clusterwright_api::hosted::HostedControlPlaneSpec;
use clusterwright_api::{Cluster, HostedControlPlane};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::names::{Component, Names};
use crate::network::{Network, NetworkError};
use crate::version::{Version, VersionError};

/// The longest name of a Cluster: it is the value of labels.
const LONGEST_CLUSTER_NAME: usize = 63;

/// Why a control plane can't be planned for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The spec's version.
    #[error("spec.version")]
    Version(#[from] VersionError),
    /// The Cluster's networks.
    #[error("the Cluster's spec.clusterNetwork")]
    Network(#[from] NetworkError),
    /// The Cluster's name can't be a label's value.
    #[error("the Cluster's name is {0} characters long: more than 63 can't be a label")]
    ClusterName(usize),
    /// The object was never stored.
    #[error("the object has no namespace or no uid")]
    NotStored,
}

impl InputError {
    /// The whole of it in one line.
    pub fn line(&self) -> String {
        match self {
            Self::Version(source) => format!("{self}: {source}"),
            Self::Network(source) => format!("{self}: {source}"),
            Self::ClusterName(_) | Self::NotStored => self.to_string(),
        }
    }
}

/// One control plane and what its Cluster says of it.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The names of everything under it.
    pub names: Names,
    /// Its namespace.
    pub namespace: String,
    /// The reference that everything under it carries.
    pub owner: OwnerReference,
    /// What it is to be.
    pub spec: HostedControlPlaneSpec,
    /// The version that the spec asks for.
    pub version: Version,
    /// The hosted cluster's networks.
    pub network: Network,
}

impl Inputs {
    /// Reads and checks a control plane and its Cluster.
    pub fn new(
        object: &HostedControlPlane,
        cluster_name: &str,
        cluster: &Cluster,
    ) -> Result<Self, InputError> {
        if cluster_name.len() > LONGEST_CLUSTER_NAME {
            return Err(InputError::ClusterName(cluster_name.len()));
        }
        // It does not block the owner's foreground deletion, in which the garbage collector would take down all that
        // does at once, without our order.
        let owner = object.controller_owner_ref(&()).ok_or(InputError::NotStored)?;
        Ok(Self {
            names: Names::new(cluster_name),
            namespace: object.metadata.namespace.clone().ok_or(InputError::NotStored)?,
            owner,
            version: object.spec.version.parse()?,
            network: Network::of(cluster.spec.cluster_network.as_ref())?,
            spec: object.spec.clone(),
        })
    }

    /// The metadata of an object under the control plane.
    pub fn metadata(&self, name: String, component: Option<Component>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.names.labels(component)),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// The name by which pods of the management cluster reach the API server.
    pub fn internal_host(&self) -> String {
        format!("{}.{}.svc", self.names.api_service(), self.namespace)
    }
}
