//! Finalizers: the framework adds them before the first reconcile and removes them after the clean-up.
//!
//! Both are merge patches of the whole list with the object's `resourceVersion` in them, so that a list that has
//! changed meanwhile is a conflict, not a loss.

use kube::ResourceExt as _;
use kube::api::Patch;
use serde_json::json;

use crate::client::{Client, Error};
use crate::object::{Object, ObjectKey};

/// Where an object is in its life, as its finalizer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It lives and lacks the finalizer.
    New,
    /// It lives and has it.
    Alive,
    /// It is being deleted and waits for the clean-up.
    Ending,
    /// It is being deleted and waits for others.
    Left,
}

pub(crate) fn stage(object: &impl Object, finalizer: &str) -> Stage {
    let has = object.finalizers().iter().any(|name| name == finalizer);
    match (object.meta().deletion_timestamp.is_some(), has) {
        (false, false) => Stage::New,
        (false, true) => Stage::Alive,
        (true, true) => Stage::Ending,
        (true, false) => Stage::Left,
    }
}

/// Adds the finalizer to an object that lacks it.
pub(crate) async fn add<K: Object>(client: &Client, object: &K, finalizer: &str) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(finalizer.to_owned());
    set(client, object, &finalizers).await
}

/// Removes the finalizer. An object that is gone needs no more.
pub(crate) async fn remove<K: Object>(client: &Client, object: &K, finalizer: &str) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|name| name != finalizer);
    match set(client, object, &finalizers).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

async fn set<K: Object>(client: &Client, object: &K, finalizers: &[String]) -> Result<(), Error> {
    let meta = object.meta();
    let patch = json!({
        "metadata": {
            // The uid keeps an object of the same name that was made since from being taken for this one.
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "finalizers": finalizers,
        }
    });
    client
        .patch::<K, _>(&ObjectKey::of(object), &Patch::Merge(patch))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn the_stage_follows_deletion_and_finalizer() {
        let object = |metadata| serde_json::from_value::<ConfigMap>(json!({ "metadata": metadata })).unwrap();
        let deleted = "2026-01-01T00:00:00Z";
        assert_eq!(stage(&object(json!({ "finalizers": ["y"] })), "x"), Stage::New);
        assert_eq!(
            stage(&object(json!({ "finalizers": ["y", "x"] })), "x"),
            Stage::Alive
        );
        let ending = object(json!({ "finalizers": ["x"], "deletionTimestamp": deleted }));
        assert_eq!(stage(&ending, "x"), Stage::Ending);
        assert_eq!(stage(&ending, "z"), Stage::Left);
    }
}
