//! Claims: folders of this machine that outlive pods, and the volumes that stand for them.
//!
//! A volume is made when a pod of this node's wants it (`WaitForFirstConsumer`), and bound here as well, since where
//! the controllers run in one process nothing else would. A volume controller that runs beside it finds both sides
//! bound to each other and has nothing to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clusterwright_runtime::client::{Client, Error};
use clusterwright_runtime::controller::{Builder, Controller};
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::reconcile::{Context, Outcome, ReconcileError, Reconciler, Request};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::json;

use super::machine::Machine;
use super::pods::{REFERENCES, reference};
use crate::tree;

/// The class, and what provisions for it.
pub const CLASS: &str = "podlet";
/// The provisioner's name.
pub const PROVISIONER: &str = "podlet.clusterwright.dev/folder";
/// What says which provisioner made a volume; the volume controller leaves those of others alone.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// What says for which node the scheduler wants a volume.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// What makes a class the one that claims get which name none, and what claims named theirs by before they had a field.
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// What says on which node a volume is.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The index of volumes by claim.
const CLAIM: &str = "claim";

/// Why a claim is not served.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The server refused something, or was not there.
    #[error(transparent)]
    Client(#[from] Error),
    /// The machine refused something.
    #[error("failed to {doing} {path}", path = path.display())]
    Folder {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It asks for what there is not.
    #[error("the podlet has folders only, and no devices: volumeMode must be Filesystem")]
    Device,
}

impl ReconcileError for ClaimError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Client(error) => error.reason(),
            Self::Folder { .. } | Self::Device => "ProvisioningFailed",
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Device)
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Client(error) => error.retry_after(),
            Self::Folder { .. } | Self::Device => None,
        }
    }
}

/// The folder of a volume, if it is one of this podlet's. What the object says of a path is not heeded: it is
/// somebody else's word.
pub fn folder_of(volume: &PersistentVolume, node: &str, claims: &Path) -> Result<PathBuf, String> {
    let name = volume.name_any();
    if volume.annotations().get(PROVISIONED_BY).map(String::as_str) != Some(PROVISIONER) {
        return Err(format!(
            "persistentvolume \"{name}\" is not of the podlet's: it has folders of its own only, of StorageClass {CLASS}"
        ));
    }
    if node_of(volume) != Some(node) {
        return Err(format!("persistentvolume \"{name}\" is on another node"));
    }
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    if plain {
        Ok(claims.join(name))
    } else {
        Err(format!(
            "persistentvolume \"{name}\" has a name that is no folder's"
        ))
    }
}

/// The node that a volume of the podlet's is on.
fn node_of(volume: &PersistentVolume) -> Option<&str> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    let term = affinity.required.as_ref()?.node_selector_terms.first()?;
    let expression = term.match_expressions.as_ref()?.first()?;
    let is_host = expression.key == HOSTNAME && expression.operator == "In";
    let nodes = expression.values.as_ref().filter(|_| is_host)?;
    nodes.first().map(String::as_str)
}

fn claim_of(volume: &PersistentVolume) -> Option<ObjectKey> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(ObjectKey::namespaced(
        claim.namespace.as_deref()?,
        claim.name.as_deref()?,
    ))
}

/// The values of the index [`CLAIM`].
fn claims_of(volume: &PersistentVolume) -> Vec<String> {
    claim_of(volume)
        .map(|claim| claim.to_string())
        .into_iter()
        .collect()
}

/// The controller.
pub fn controller(machine: Arc<Machine>) -> Builder<Claims, StorageClass> {
    let cache = machine.client.cache();
    cache.informer::<PersistentVolume>().index(CLAIM, claims_of);
    Controller::builder("claims", Claims { machine })
        .watches(|volume: &PersistentVolume, _: &Client| claim_of(volume).into_iter().collect())
        .watches(|pod: &Pod, _: &Client| {
            let namespace = pod.namespace().unwrap_or_default();
            let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
            let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
            claims
                .map(|claim| ObjectKey::namespaced(namespace.as_str(), claim.claim_name.as_str()))
                .collect()
        })
        .watches(|_: &StorageClass, client: &Client| {
            let all = clusterwright_runtime::client::List::all();
            client
                .list_keys::<PersistentVolumeClaim>(&all)
                .unwrap_or_default()
        })
}

/// The class that claims get which name none.
pub fn class() -> StorageClass {
    let class = json!({
        "metadata": {
            "name": CLASS,
            "annotations": {DEFAULT: "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    serde_json::from_value(class).unwrap_or_default()
}

/// See the module.
pub struct Claims {
    machine: Arc<Machine>,
}

impl Reconciler for Claims {
    type Object = PersistentVolumeClaim;
    type Error = ClaimError;

    async fn reconcile(
        &self,
        cx: &Context,
        request: Request<PersistentVolumeClaim>,
    ) -> Result<Outcome, ClaimError> {
        let claim = cx.get(&request)?;
        let uid = claim.as_ref().and_then(|claim| claim.metadata.uid.as_deref());
        let volumes = cx
            .client()
            .list_by::<PersistentVolume>(CLAIM, &request.key().to_string())?;
        for volume in volumes {
            let of = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            if of.and_then(|claim| claim.uid.as_deref()) != uid {
                self.release(cx, &volume).await?;
            }
        }
        if let Some(claim) = claim {
            self.serve(cx, &request, &claim).await?;
        }
        Ok(Outcome::Done)
    }
}

impl Claims {
    /// Makes a volume for a claim, where one is wanted here, and binds the two.
    async fn serve(
        &self,
        cx: &Context,
        request: &Request<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), ClaimError> {
        let spec = claim.spec.clone().unwrap_or_default();
        let uid = claim.uid().unwrap_or_default();
        let name = format!("pvc-{uid}");
        let bound = claim
            .status
            .as_ref()
            .is_some_and(|status| status.phase.as_deref() == Some("Bound"));
        let another = spec.volume_name.as_deref().is_some_and(|volume| volume != name);
        if bound || another || claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        if spec.storage_class_name.is_none() && !claim.annotations().contains_key(OLD_CLASS) {
            return self.give_class(cx, request, claim).await;
        }
        if !self.is_wanted(cx, request, claim)? {
            return Ok(());
        }
        if spec.volume_mode.as_deref() == Some("Block") {
            return Err(ClaimError::Device);
        }
        let folder = self.machine.claims.join(&name);
        std::fs::create_dir_all(&folder).map_err(|source| ClaimError::Folder {
            doing: "make",
            path: folder.clone(),
            source,
        })?;
        let wanted = self.volume(request, claim, &name, &folder);
        let volume = match cx.client().create(&wanted).await {
            Ok(volume) => {
                let note = format!("Successfully provisioned volume {name}");
                cx.recorder()
                    .normal(claim, "ProvisioningSucceeded", "Provisioning", note);
                volume
            }
            Err(error) if error.is_already_exists() => {
                let found = cx.client().get_live(&ObjectKey::cluster(name.as_str())).await?;
                found.unwrap_or(wanted)
            }
            Err(error) => return Err(error.into()),
        };
        if node_of(&volume) == Some(&*self.machine.node) {
            self.bind(cx, request, claim, &volume).await?;
        }
        Ok(())
    }

    /// Gives a claim that names no class the podlet's, where that is the default: there was none when it was made. A
    /// volume controller does the same.
    async fn give_class(
        &self,
        cx: &Context,
        request: &Request<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), ClaimError> {
        let class: Option<StorageClass> = cx.client().get(&ObjectKey::cluster(CLASS))?;
        let default = class.and_then(|class| class.annotations().get(DEFAULT).cloned());
        if default.as_deref() != Some("true") {
            return Ok(());
        }
        let named = Patch::Merge(json!({
            "metadata": {"uid": claim.metadata.uid},
            "spec": {"storageClassName": CLASS},
        }));
        cx.client()
            .patch::<PersistentVolumeClaim, _>(request.key(), &named)
            .await?;
        Ok(())
    }

    /// Whether this podlet is to make the claim's volume.
    fn is_wanted(
        &self,
        cx: &Context,
        request: &Request<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
    ) -> Result<bool, ClaimError> {
        let class = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref());
        let Some(class) = class.filter(|class| !class.is_empty()) else {
            return Ok(false);
        };
        let class: Option<StorageClass> = cx.client().get(&ObjectKey::cluster(class))?;
        let Some(class) = class.filter(|class| class.provisioner == PROVISIONER) else {
            return Ok(false);
        };
        if class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
            return Ok(true);
        }
        if let Some(node) = claim.annotations().get(SELECTED_NODE) {
            return Ok(**node == *self.machine.node);
        }
        let namespace = request.namespace().unwrap_or_default();
        let reference = reference::<PersistentVolumeClaim>(namespace, request.name());
        let pods = cx.client().list_keys_by::<Pod>(REFERENCES, &reference)?;
        Ok(!pods.is_empty())
    }

    fn volume(
        &self,
        request: &Request<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        name: &str,
        folder: &Path,
    ) -> PersistentVolume {
        let spec = claim.spec.clone().unwrap_or_default();
        let size = spec.resources.and_then(|resources| resources.requests);
        let volume = json!({
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "capacity": size,
                "accessModes": spec.access_modes,
                "volumeMode": "Filesystem",
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec.storage_class_name,
                "local": {"path": folder},
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": claim.metadata.uid,
                    "namespace": request.namespace(), "name": request.name(),
                    "resourceVersion": claim.metadata.resource_version,
                },
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": HOSTNAME, "operator": "In", "values": [&*self.machine.node]},
                ]}]}},
            },
        });
        serde_json::from_value(volume).unwrap_or_default()
    }

    async fn bind(
        &self,
        cx: &Context,
        request: &Request<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), ClaimError> {
        let client = cx.client();
        let name = volume.name_any();
        let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
        client
            .patch_status::<PersistentVolume, _>(&ObjectKey::cluster(name.as_str()), &bound)
            .await?;
        let uid = &claim.metadata.uid;
        let annotations = json!({
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
        });
        let named = Patch::Merge(json!({
            "metadata": {"uid": uid, "annotations": annotations},
            "spec": {"volumeName": name},
        }));
        client
            .patch::<PersistentVolumeClaim, _>(request.key(), &named)
            .await?;
        let spec = volume.spec.clone().unwrap_or_default();
        let status = Patch::Merge(json!({
            "metadata": {"uid": uid},
            "status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity},
        }));
        client
            .patch_status::<PersistentVolumeClaim, _>(request.key(), &status)
            .await?;
        Ok(())
    }

    /// Takes back the volume of a claim that is gone.
    async fn release(&self, cx: &Context, volume: &PersistentVolume) -> Result<(), ClaimError> {
        let Ok(folder) = folder_of(volume, &self.machine.node, &self.machine.claims) else {
            return Ok(());
        };
        let key = ObjectKey::of(volume);
        let released = Patch::Merge(json!({
            "metadata": {"uid": volume.metadata.uid},
            "status": {"phase": "Released"},
        }));
        match cx
            .client()
            .patch_status::<PersistentVolume, _>(&key, &released)
            .await
        {
            Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
            done => done.map(drop)?,
        }
        let policy = volume.spec.as_ref();
        let policy = policy.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        if policy != Some("Delete") {
            return Ok(());
        }
        // Before the volume: as long as that is there, what is left of the folder is not forgotten.
        let path = folder.clone();
        let removed = tokio::task::spawn_blocking(move || tree::remove(&path)).await;
        removed
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|source| ClaimError::Folder {
                doing: "remove",
                path: folder,
                source,
            })?;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: volume.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match cx.client().delete::<PersistentVolume>(&key, &params).await {
            Err(error) if error.is_conflict() => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }
}
