//! The writes: each only where it changes something, and none to what is another's.

use clusterwright_runtime::client::Client;
use clusterwright_runtime::object::{Object, ObjectKey};
use clusterwright_runtime::owner;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;

use crate::error::Error;
use crate::inputs::Inputs;

/// Makes an object as it is to be. Gives it as it is now.
pub async fn apply<K: Object>(client: &Client, inputs: &Inputs, desired: &K) -> Result<K, Error> {
    let key = ObjectKey::of(desired);
    if let Some(present) = client.get::<K>(&key)? {
        check_owner(inputs, &present)?;
    }
    Ok(client.apply(desired).await?.object)
}

/// Stores a new or a changed Secret. A new one must not be there yet, a changed one must be as it was read, so that
/// two keys never take each other's place.
pub async fn store(client: &Client, inputs: &Inputs, secret: &Secret) -> Result<Secret, Error> {
    check_owner(inputs, secret)?;
    let stored = if secret.metadata.resource_version.is_some() {
        client.replace(secret).await?
    } else {
        client.create(secret).await?
    };
    Ok(stored)
}

/// Deletes an object of ours, if it is there.
pub async fn delete<K: Object>(client: &Client, inputs: &Inputs, present: Option<&K>) -> Result<(), Error> {
    if let Some(present) = present
        && owner::controller_of(present).is_some_and(|owner| owner.uid == inputs.owner.uid)
    {
        client
            .delete::<K>(&ObjectKey::of(present), &DeleteParams::default())
            .await?;
    }
    Ok(())
}

fn check_owner<K: Object>(inputs: &Inputs, present: &K) -> Result<(), Error> {
    match owner::controller_of(present) {
        Some(owner) if owner.uid != inputs.owner.uid => Err(Error::AlreadyOwned {
            kind: K::kind(&()).into_owned(),
            name: present.meta().name.clone().unwrap_or_default(),
            by: format!("{} {}", owner.kind, owner.name),
        }),
        _ => Ok(()),
    }
}
