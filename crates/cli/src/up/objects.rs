//! The objects that the tree is made of: those that were applied and what comes of them.

use super::manifests::Manifest;
use super::tree::Root;
use anyhow::{Context, Result};
use clusterwright_api::{Cluster, HostedControlPlane};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Client, discovery};
use serde_json::Value;

/// Lists the kinds that matter.
pub struct Objects {
    client: Client,
    kinds: Vec<ApiResource>,
}

impl Objects {
    /// The kinds of the manifests, and those that controllers make.
    pub async fn new(client: Client, manifests: &[Manifest]) -> Result<Self> {
        let mut kinds = vec![
            ApiResource::erase::<Cluster>(&()),
            ApiResource::erase::<HostedControlPlane>(&()),
            ApiResource::erase::<StatefulSet>(&()),
            ApiResource::erase::<Deployment>(&()),
            ApiResource::erase::<ReplicaSet>(&()),
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<Service>(&()),
            ApiResource::erase::<Secret>(&()),
            ApiResource::erase::<PersistentVolumeClaim>(&()),
            ApiResource::erase::<PodDisruptionBudget>(&()),
        ];
        for manifest in manifests {
            let gvk: GroupVersionKind = manifest.gvk();
            if kinds
                .iter()
                .any(|kind| kind.group == gvk.group && kind.kind == gvk.kind)
            {
                continue;
            }
            let (kind, _) = discovery::pinned_kind(&client, &gvk)
                .await
                .with_context(|| format!("failed to find the kind of {manifest}"))?;
            kinds.push(kind);
        }
        Ok(Self { client, kinds })
    }

    /// What was applied.
    pub fn roots(manifests: &[Manifest]) -> Vec<Root> {
        let root = |manifest: &Manifest| Root {
            group: manifest.gvk().group,
            kind: manifest.kind().to_owned(),
            namespace: manifest.namespace().to_owned(),
            name: manifest.name().to_owned(),
        };
        manifests.iter().map(root).collect()
    }

    /// All objects of these kinds, as they are now.
    pub async fn list(&self) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        for kind in &self.kinds {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), kind);
            let list = api
                .list(&ListParams::default())
                .await
                .with_context(|| format!("failed to list {}", kind.plural))?;
            for object in list {
                let mut object = serde_json::to_value(object).context("failed to read an object")?;
                // The items of a list do not say what they are.
                object["apiVersion"] = Value::from(kind.api_version.as_str());
                object["kind"] = Value::from(kind.kind.as_str());
                objects.push(object);
            }
        }
        Ok(objects)
    }
}
