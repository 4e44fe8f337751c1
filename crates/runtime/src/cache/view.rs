//! Objects as the cache shows them to predicates, map functions and indexes.

use std::fmt;
use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::object::{Object, ObjectKey};

/// An object whose JSON is decoded only when somebody looks: a predicate on metadata costs no decoding of the rest.
///
/// One view is shared by all controllers that hear of a change, so that each part is decoded once.
pub struct View<K> {
    key: ObjectKey,
    json: Arc<[u8]>,
    meta: OnceLock<Box<ObjectMeta>>,
    object: OnceLock<Option<Box<K>>>,
}

impl<K: Object> View<K> {
    pub(crate) fn new(key: ObjectKey, json: Arc<[u8]>) -> Self {
        Self {
            key,
            json,
            meta: OnceLock::new(),
            object: OnceLock::new(),
        }
    }

    /// A view of an object that is at hand, for tests of predicates and map functions.
    ///
    /// # Errors
    ///
    /// When the object cannot be written as JSON.
    pub fn of(object: &K) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(object)?;
        Ok(Self::new(ObjectKey::of(object), json.into()))
    }

    /// Namespace and name.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The metadata, without managedFields.
    pub fn meta(&self) -> &ObjectMeta {
        self.meta.get_or_init(|| {
            #[derive(Deserialize)]
            struct Envelope {
                metadata: ObjectMeta,
            }
            match serde_json::from_slice::<Envelope>(&self.json) {
                Ok(envelope) => Box::new(envelope.metadata),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), key = %self.key, %error, "failed to decode metadata");
                    Box::new(ObjectMeta {
                        name: Some(self.key.name().to_owned()),
                        namespace: self.key.namespace().map(str::to_owned),
                        ..ObjectMeta::default()
                    })
                }
            }
        })
    }

    /// The object, without managedFields; `None` when it does not have the shape of its type.
    pub fn object(&self) -> Option<&K> {
        self.object
            .get_or_init(|| match serde_json::from_slice(&self.json) {
                Ok(object) => Some(Box::new(object)),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), key = %self.key, %error, "failed to decode an object");
                    None
                }
            })
            .as_deref()
    }
}

impl<K: Object> View<K> {
    pub(crate) fn into_object(self) -> Option<K> {
        self.object();
        self.object.into_inner().flatten().map(|object| *object)
    }
}

impl<K> fmt::Debug for View<K> {
    // Never the content, which may be a Secret's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.key).finish()
    }
}

/// What happened to an object, as far as the cache knows: states in between may have been skipped.
pub enum Change<'a, K> {
    /// It was not there before.
    Added(&'a View<K>),
    /// It was there already.
    Updated {
        /// What the cache held before.
        old: &'a View<K>,
        /// What it holds now.
        new: &'a View<K>,
    },
    /// It is gone. This is the last state that was seen.
    Deleted(&'a View<K>),
    /// Nothing happened to it: it comes by again after the resync period.
    Resync(&'a View<K>),
}

impl<K> Clone for Change<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Change<'_, K> {}

impl<'a, K> Change<'a, K> {
    /// The newest state; of an object that is gone, the last one.
    pub fn view(&self) -> &'a View<K> {
        match *self {
            Self::Added(view)
            | Self::Deleted(view)
            | Self::Resync(view)
            | Self::Updated { new: view, .. } => view,
        }
    }

    /// The state before, where there was one and it differs.
    pub fn old(&self) -> Option<&'a View<K>> {
        match *self {
            Self::Updated { old, .. } => Some(old),
            _ => None,
        }
    }
}

impl<K> fmt::Debug for Change<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Added(_) => "Added",
            Self::Updated { .. } => "Updated",
            Self::Deleted(_) => "Deleted",
            Self::Resync(_) => "Resync",
        };
        f.debug_tuple(name).field(&self.view().key).finish()
    }
}
