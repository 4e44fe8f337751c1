//! A pod's volumes, as they are on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clusterwright_runtime::object::ObjectKey;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodSpec,
};

use super::claims;
use super::machine::Machine;
use super::sources::{Found, Tokens};
use crate::environment::Objects;
use crate::pod::VolumeAt;
use crate::volume::{self, Files, Sources};

/// Why a volume can't be had yet.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// What it is made of can't be read.
    #[error("failed to read what its volumes are made of: {0}")]
    Read(#[from] clusterwright_runtime::client::Error),
    /// A token was not issued.
    #[error("failed to fetch token: {0}")]
    Token(#[from] kube::Error),
    /// Something is missing.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Missing {
        /// The volume.
        volume: String,
        /// What.
        source: volume::Error,
    },
    /// A claim is not ready.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
    Claim {
        /// The volume.
        volume: String,
        /// Why.
        why: String,
    },
    /// The machine refused to write it.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : failed to write it: {source}")]
    Write {
        /// The volume.
        volume: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A volume that is to be on this machine.
enum Wanted {
    Files(Files),
    Folder,
}

/// Makes a pod's volumes hold what they are to, and returns where they are.
///
/// # Errors
/// If something that they need is missing. What was there before stays.
pub async fn write(
    machine: &Machine,
    pod: &Arc<Pod>,
    tokens: &Tokens,
) -> Result<BTreeMap<String, VolumeAt>, VolumeError> {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let found = Found::of(pod, &machine.client).await?;
    let tokens = tokens.of(pod, &machine.client).await?;
    let sources = Sources {
        objects: Objects {
            pod,
            config_maps: &found.config_maps,
            secrets: &found.secrets,
            capacity: &machine.capacity,
        },
        tokens: &tokens,
    };
    let single_user = machine.isolation.single_user();
    let group = spec.security_context.as_ref();
    let group = group
        .and_then(|context| u32::try_from(context.fs_group?).ok())
        .filter(|_| !single_user);
    let folder = machine.pod(pod.metadata.uid.as_deref().unwrap_or_default());
    let mut at = BTreeMap::new();
    for volume in spec.volumes.iter().flatten() {
        let name = &volume.name;
        let missing = |source| VolumeError::Missing {
            volume: name.clone(),
            source,
        };
        let mut place = VolumeAt {
            path: folder.join("volumes").join(name),
            read_only: false,
        };
        let wanted = if let Some(claim) = &volume.persistent_volume_claim {
            let why = |why| VolumeError::Claim {
                volume: name.clone(),
                why,
            };
            place = claimed(machine, pod, claim).map_err(why)?;
            Wanted::Folder
        } else if let Some(mut files) = volume::files(volume, sources).map_err(missing)? {
            if single_user {
                for file in files.values_mut() {
                    file.user = None;
                }
            }
            place.read_only = true;
            Wanted::Files(files)
        } else {
            Wanted::Folder
        };
        put(place.path.clone(), wanted, group)
            .await
            .map_err(|source| VolumeError::Write {
                volume: name.clone(),
                source,
            })?;
        at.insert(name.clone(), place);
    }
    Ok(at)
}

async fn put(path: PathBuf, wanted: Wanted, group: Option<u32>) -> std::io::Result<()> {
    let written = tokio::task::spawn_blocking(move || match wanted {
        Wanted::Files(files) => volume::write(&path, &files, group).map(drop),
        Wanted::Folder => volume::folder(&path, group),
    });
    written.await.map_err(std::io::Error::other)?
}

/// The folder of a claim.
fn claimed(
    machine: &Machine,
    pod: &Pod,
    source: &PersistentVolumeClaimVolumeSource,
) -> Result<VolumeAt, String> {
    let name = source.claim_name.as_str();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let key = ObjectKey::namespaced(namespace, name);
    let read = |error: clusterwright_runtime::client::Error| error.to_string();
    let claim: PersistentVolumeClaim = machine
        .client
        .get(&key)
        .map_err(read)?
        .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
    let bound = claim
        .status
        .as_ref()
        .is_some_and(|status| status.phase.as_deref() == Some("Bound"));
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let Some(volume) = volume.filter(|_| bound) else {
        return Err(format!("persistentvolumeclaim \"{name}\" is not bound yet"));
    };
    let found: PersistentVolume = machine
        .client
        .get(&ObjectKey::cluster(volume))
        .map_err(read)?
        .ok_or_else(|| format!("persistentvolume \"{volume}\" not found"))?;
    let path = claims::folder_of(&found, &machine.node, &machine.claims)?;
    if !Path::new(&path).is_dir() {
        return Err(format!(
            "the folder of persistentvolume \"{volume}\" is gone from this machine"
        ));
    }
    Ok(VolumeAt {
        path,
        read_only: source.read_only == Some(true),
    })
}
