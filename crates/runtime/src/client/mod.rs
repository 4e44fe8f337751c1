//! The client of a controller: it reads from the cache and writes to the server.
//!
//! What it writes shows in its reads at once, because the answer goes into the cache: no reconcile acts on a state
//! older than this process's own last write. Writes that would change nothing are not sent.
//!
//! # Retries
//!
//! Nothing is retried in here: a reconcile that fails comes again with its back-off, and with what `Retry-After`
//! asked for. So a [`kube::Client`] made from a `Config` should have `default_retry` off: kube's policy retries up
//! to 15 times with waits of minutes, which would hold a worker past the reconcile's timeout.

mod error;
mod noop;
mod read;
mod write;

use std::sync::Arc;

pub use error::Error;
pub use read::List;
pub use write::Applied;

use crate::cache::Cache;
use crate::object::{Object, ObjectKey};

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    api: kube::Client,
    cache: Cache,
    manager: String,
}

impl Client {
    /// A client that reads from `cache` and writes through `api` as the field manager of that name, which is the one
    /// owner of every field that this process applies (at most 128 bytes).
    pub fn new(api: kube::Client, cache: Cache, field_manager: impl Into<String>) -> Self {
        let manager = field_manager.into();
        cache.remember_applies_of(&manager);
        Self(Arc::new(Inner { api, cache, manager }))
    }

    /// The client underneath, for what this one does not offer. Its writes show in reads when the watch brings them.
    pub fn kube(&self) -> &kube::Client {
        &self.0.api
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// The field manager.
    pub fn field_manager(&self) -> &str {
        &self.0.manager
    }
}

fn kind<K: Object>() -> String {
    K::kind(&()).into_owned()
}

fn failed<K: Object>(verb: &'static str, key: &ObjectKey) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Api {
        verb,
        kind: kind::<K>(),
        key: key.clone(),
        source: Box::new(source),
    }
}

fn decode<K: Object>(key: &ObjectKey, json: &[u8]) -> Result<K, Error> {
    serde_json::from_slice(json).map_err(|source| Error::Decode {
        kind: kind::<K>(),
        key: key.clone(),
        source,
    })
}
