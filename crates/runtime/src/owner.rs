//! Owner references: whose part an object is, and so when garbage collection may remove it.
//!
//! An object may have many owners but only one *controller*, the owner that keeps it as it should be. Two
//! controllers over one object would undo each other's work without end, so a second one is refused here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

/// An owner reference can't be set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OwnerError {
    /// Another owner controls the object.
    #[error(
        "failed to make {owner} the controller of {object}: {controller_kind} {controller_name} is it already"
    )]
    AlreadyOwned {
        /// Who was to be the controller, as `Kind name`.
        owner: String,
        /// The object, as `Kind name`.
        object: String,
        /// The present controller's kind.
        controller_kind: String,
        /// The present controller's name.
        controller_name: String,
    },
    /// A namespaced owner was given to an object elsewhere; the garbage collector would take the owner for gone and
    /// remove the object.
    #[error(
        "failed to make {owner} in namespace {owner_namespace} an owner of {object}: that is not in the same \
         namespace"
    )]
    OtherNamespace {
        /// The owner, as `Kind name`.
        owner: String,
        /// The owner's namespace.
        owner_namespace: String,
        /// The object, as `Kind name`.
        object: String,
    },
    /// The owner was not created yet.
    #[error("failed to refer to {owner} as an owner: it has no name or no uid yet")]
    NoUid {
        /// The owner, as `Kind name`.
        owner: String,
    },
}

/// A reference to `owner` as the controller, which holds the owner's foreground deletion until the object is gone.
///
/// Where the admission plugin `OwnerReferencesPermissionEnforcement` is on, who writes it needs `update` on the
/// owner's `finalizers`; say so by [`Builder::grants`](crate::controller::Builder::grants).
pub fn controller_reference<O>(owner: &O) -> Result<OwnerReference, OwnerError>
where
    O: Resource<DynamicType = ()>,
{
    Ok(OwnerReference {
        controller: Some(true),
        block_owner_deletion: Some(true),
        ..owner_reference(owner)?
    })
}

/// A reference to `owner` as one owner among others.
pub fn owner_reference<O>(owner: &O) -> Result<OwnerReference, OwnerError>
where
    O: Resource<DynamicType = ()>,
{
    let meta = owner.meta();
    match (&meta.name, &meta.uid) {
        (Some(name), Some(uid)) if !name.is_empty() && !uid.is_empty() => Ok(OwnerReference {
            api_version: O::api_version(&()).into_owned(),
            kind: O::kind(&()).into_owned(),
            name: name.clone(),
            uid: uid.clone(),
            controller: None,
            block_owner_deletion: None,
        }),
        _ => Err(OwnerError::NoUid {
            owner: describe(owner),
        }),
    }
}

/// Makes `owner` the controller of `object`, and says whether that changed anything.
///
/// A reference to the same owner, whatever its version or uid, is brought up to date.
pub fn set_controller<O, K>(owner: &O, object: &mut K) -> Result<bool, OwnerError>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let reference = controller_reference(owner)?;
    if let Some(present) = controller_of(object)
        && !same_object(present, &reference)
    {
        return Err(OwnerError::AlreadyOwned {
            owner: describe(owner),
            object: describe(object),
            controller_kind: present.kind.clone(),
            controller_name: present.name.clone(),
        });
    }
    set(owner, object, reference)
}

/// Makes `owner` an owner of `object`, and says whether that changed anything. If it was the controller, it is that no
/// more.
pub fn set_owner<O, K>(owner: &O, object: &mut K) -> Result<bool, OwnerError>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let reference = owner_reference(owner)?;
    set(owner, object, reference)
}

fn set<O, K>(owner: &O, object: &mut K, reference: OwnerReference) -> Result<bool, OwnerError>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    if let Some(namespace) = owner
        .meta()
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        && object.meta().namespace.as_deref() != Some(namespace)
    {
        return Err(OwnerError::OtherNamespace {
            owner: describe(owner),
            owner_namespace: namespace.to_owned(),
            object: describe(object),
        });
    }
    let references = object.meta_mut().owner_references.get_or_insert_default();
    match references
        .iter_mut()
        .find(|present| same_object(present, &reference))
    {
        Some(present) if *present == reference => return Ok(false),
        Some(present) => *present = reference,
        None => references.push(reference),
    }
    Ok(true)
}

/// Removes `owner` from the owners of `object`, and says whether it was one.
pub fn remove<O, K>(owner: &O, object: &mut K) -> bool
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let uid = owner.meta().uid.as_deref();
    let Some(references) = &mut object.meta_mut().owner_references else {
        return false;
    };
    let before = references.len();
    references.retain(|reference| Some(reference.uid.as_str()) != uid);
    let removed = references.len() != before;
    if references.is_empty() {
        object.meta_mut().owner_references = None;
    }
    removed
}

/// The reference to the owner that controls `object`.
pub fn controller_of<K>(object: &K) -> Option<&OwnerReference>
where
    K: Resource<DynamicType = ()>,
{
    let references = object.meta().owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .find(|reference| reference.controller == Some(true))
}

/// Whether `owner`, this very object and not a former one of its name, controls `object`.
pub fn is_controlled_by<O, K>(owner: &O, object: &K) -> bool
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let uid = owner.meta().uid.as_deref();
    controller_of(object).is_some_and(|reference| Some(reference.uid.as_str()) == uid)
}

/// Whether `owner`, this very object and not a former one of its name, owns `object`, as its controller or not.
pub fn is_owned_by<O, K>(owner: &O, object: &K) -> bool
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let uid = owner.meta().uid.as_deref();
    let references = object.meta().owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .any(|reference| Some(reference.uid.as_str()) == uid)
}

/// Whether two references name one object. The version may differ, since an object is served in several; so may the
/// uid, where an owner was deleted and made again.
fn same_object(one: &OwnerReference, other: &OwnerReference) -> bool {
    let group = |reference: &OwnerReference| {
        reference
            .api_version
            .rsplit_once('/')
            .map(|(group, _)| group.to_owned())
            .unwrap_or_default()
    };
    one.kind == other.kind && one.name == other.name && group(one) == group(other)
}

fn describe<K>(object: &K) -> String
where
    K: Resource<DynamicType = ()>,
{
    format!(
        "{} {}",
        K::kind(&()),
        object.meta().name.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn meta(name: &str, namespace: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            uid: Some(format!("uid-{name}")),
            ..ObjectMeta::default()
        }
    }

    fn deployment(name: &str) -> Deployment {
        Deployment {
            metadata: meta(name, Some("a")),
            ..Deployment::default()
        }
    }

    fn config_map() -> ConfigMap {
        ConfigMap {
            metadata: meta("settings", Some("a")),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn sets_the_controller_once() {
        let (owner, mut object) = (deployment("web"), config_map());
        assert_eq!(set_controller(&owner, &mut object), Ok(true));
        assert_eq!(set_controller(&owner, &mut object), Ok(false));
        let reference = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
            uid: "uid-web".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        assert_eq!(object.metadata.owner_references, Some(vec![reference]));
        assert!(is_controlled_by(&owner, &object) && is_owned_by(&owner, &object));
    }

    #[test]
    fn refuses_a_second_controller() {
        let mut object = config_map();
        set_controller(&deployment("web"), &mut object).unwrap();
        let before = object.clone();
        let error = set_controller(&deployment("api"), &mut object).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to make Deployment api the controller of ConfigMap settings: Deployment web is it already"
        );
        assert_eq!(object, before);
        // As one owner among others it may come.
        assert_eq!(set_owner(&deployment("api"), &mut object), Ok(true));
        assert!(!is_controlled_by(&deployment("api"), &object) && is_owned_by(&deployment("api"), &object));
        assert_eq!(
            controller_of(&object).map(|reference| reference.name.as_str()),
            Some("web")
        );
    }

    #[test]
    fn follows_an_owner_that_was_made_again_or_moved_to_another_version() {
        let (mut owner, mut object) = (deployment("web"), config_map());
        set_controller(&owner, &mut object).unwrap();
        object.metadata.owner_references.as_mut().unwrap()[0].api_version = "apps/v1beta2".to_owned();
        owner.metadata.uid = Some("uid-new".to_owned());
        assert!(!is_controlled_by(&owner, &object));
        assert_eq!(set_controller(&owner, &mut object), Ok(true));
        assert!(is_controlled_by(&owner, &object));
        assert_eq!(object.metadata.owner_references.as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn kinds_and_groups_tell_owners_apart() {
        let mut object = config_map();
        let replica_set = ReplicaSet {
            metadata: meta("web", Some("a")),
            ..ReplicaSet::default()
        };
        set_owner(&deployment("web"), &mut object).unwrap();
        assert_eq!(set_owner(&replica_set, &mut object), Ok(true));
        assert_eq!(object.metadata.owner_references.as_ref().map(Vec::len), Some(2));
    }

    #[test]
    fn namespaces_must_agree() {
        let mut object = config_map();
        object.metadata.namespace = Some("b".to_owned());
        let error = set_controller(&deployment("web"), &mut object).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to make Deployment web in namespace a an owner of ConfigMap settings: that is not in the same \
             namespace"
        );
        let mut cluster_wide = Namespace {
            metadata: meta("b", None),
            ..Namespace::default()
        };
        assert!(set_controller(&deployment("web"), &mut cluster_wide).is_err());
        let node = Node {
            metadata: meta("n", None),
            ..Node::default()
        };
        assert_eq!(set_controller(&node, &mut object), Ok(true));
    }

    #[test]
    fn an_owner_must_exist() {
        let mut owner = deployment("web");
        owner.metadata.uid = None;
        let error = set_controller(&owner, &mut config_map()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to refer to Deployment web as an owner: it has no name or no uid yet"
        );
    }

    #[test]
    fn removes() {
        let mut object = config_map();
        set_controller(&deployment("web"), &mut object).unwrap();
        set_owner(&deployment("api"), &mut object).unwrap();
        assert!(remove(&deployment("web"), &mut object) && !remove(&deployment("web"), &mut object));
        assert!(remove(&deployment("api"), &mut object));
        assert_eq!(object.metadata.owner_references, None);
        assert!(!remove(&deployment("api"), &mut object));
    }
}
