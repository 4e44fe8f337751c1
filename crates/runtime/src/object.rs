//! What an object is to this framework, and what names one.

use std::any::TypeId;
use std::fmt;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of object known at compile time: every type of `k8s-openapi`, every `CustomResource`, and
/// `PartialObjectMeta<K>` where metadata is enough. It is implemented for all of them.
pub trait Object:
    Resource<DynamicType = (), Scope: 'static>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope: 'static>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Whether objects of this kind live in namespaces.
pub fn is_namespaced<K: Object>() -> bool {
    TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>()
}

/// Namespace and name: what identifies an object within its kind.
///
/// Cheap to clone, since the queue, the cache and its indexes all hold one per object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    namespace: Option<Arc<str>>,
    name: Arc<str>,
}

impl ObjectKey {
    /// The key of an object in a namespace.
    pub fn namespaced(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// The key of an object that lives in no namespace.
    pub fn cluster(name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }

    /// The key under which an object of kind `K` with this name is found beside `namespace`: in it where the kind
    /// is namespaced, in none otherwise.
    pub fn beside<K: Object>(namespace: Option<&str>, name: &str) -> Self {
        match namespace {
            Some(namespace) if is_namespaced::<K>() => Self::namespaced(namespace, name),
            _ => Self::cluster(name),
        }
    }

    /// The key of an object. An object without a name, which was never created, has the empty one.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        match meta.namespace.as_deref() {
            Some(namespace) if !namespace.is_empty() => Self::namespaced(namespace, name),
            _ => Self::cluster(name),
        }
    }

    pub(crate) fn from_parts(namespace: Option<Arc<str>>, name: Arc<str>) -> Self {
        Self { namespace, name }
    }

    /// The namespace; `None` for objects that live in none.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    use kube::core::PartialObjectMeta;

    #[test]
    fn kinds_know_where_they_live() {
        assert!(is_namespaced::<Secret>());
        assert!(is_namespaced::<PartialObjectMeta<Secret>>());
        assert!(!is_namespaced::<Namespace>());
    }

    #[test]
    fn a_key_beside_an_object_follows_the_kinds_scope() {
        assert_eq!(ObjectKey::beside::<Secret>(Some("a"), "x").to_string(), "a/x");
        assert_eq!(ObjectKey::beside::<Namespace>(Some("a"), "x").to_string(), "x");
    }
}
