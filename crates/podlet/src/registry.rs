//! The pods that run here, for those who serve them: logs, commands, forwarded ports.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::pod::PodState;

/// A pod that runs here, or has ended and is not deleted yet.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address, which [`Isolation::connect`](crate::isolation::Isolation::connect) reaches.
    pub address: Ipv4Addr,
    /// The folder of its logs: a folder per container, where [`Log::file`](crate::pod::Log::file) is.
    pub logs: PathBuf,
    /// What its containers are, and what enters them.
    pub state: watch::Receiver<PodState>,
}

/// All of them by uid. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<RwLock<BTreeMap<String, Arc<Entry>>>>);

impl Registry {
    /// Adds a pod.
    pub fn add(&self, entry: Entry) {
        self.0.write().insert(entry.uid.clone(), Arc::new(entry));
    }

    /// Removes a pod.
    pub fn remove(&self, uid: &str) {
        self.0.write().remove(uid);
    }

    /// The pod of this name, of this uid if one is given. Of two pods of a name the one that began later.
    pub fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Entry>> {
        let entries = self.0.read();
        let found = entries.values().filter(|entry| {
            entry.namespace == namespace && entry.name == name && uid.is_none_or(|uid| entry.uid == uid)
        });
        found.max_by_key(|entry| entry.state.borrow().started).cloned()
    }

    /// All pods.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.0.read().values().cloned().collect()
    }
}
