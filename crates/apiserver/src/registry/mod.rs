//! The resources that are served, built-in and custom, found by their path.
//!
//! The table is replaced as a whole when a definition changes; a request works on the one that it began with.

use crate::resource::Resource;
use crate::store::{Shelf, Store};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A resource with the place of its objects.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: Arc<Resource>,
    pub(crate) shelf: Arc<Shelf>,
    /// What its objects are encoded as; see [`crate::store::Entry::form`].
    pub(crate) form: u32,
    /// For a version of a custom resource that is not the one that is stored: that one.
    pub(crate) hub: Option<Arc<Served>>,
}

/// Everything that is served at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    by_path: HashMap<String, Arc<Served>>,
    /// In the order in which discovery shows them.
    pub(crate) all: Vec<Arc<Served>>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    [group, "/", version, "/", plural].concat()
}

impl Table {
    /// The resource at a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        self.by_path.get(&path(group, version, plural))
    }

    /// A version of the resource, whichever comes first.
    pub(crate) fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Served>> {
        self.all
            .iter()
            .find(|served| &*served.resource.group == group && &*served.resource.plural == plural)
    }

    fn insert(&mut self, served: Arc<Served>) {
        let r = &served.resource;
        self.by_path
            .insert(path(&r.group, &r.version, &r.plural), served.clone());
        self.all.push(served);
    }

    fn remove(&mut self, group: &str, plural: &str) {
        let gone = |served: &Arc<Served>| {
            served.resource.custom.is_some()
                && &*served.resource.group == group
                && &*served.resource.plural == plural
        };
        self.all.retain(|served| !gone(served));
        self.by_path.retain(|_, served| !gone(served));
    }
}

/// The table of the moment.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    table: RwLock<Arc<Table>>,
    forms: AtomicU32,
}

impl Registry {
    /// What is served now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }

    /// Adds resources that stay.
    pub(crate) fn add(&self, store: &Store, resources: Vec<Arc<Resource>>) {
        let mut slot = self.table.write();
        let mut table = Table::clone(&slot);
        for resource in resources {
            table.insert(self.serve(store, resource, None));
        }
        *slot = Arc::new(table);
    }

    /// Puts the versions of a custom resource in the place of those that were served; none takes it away.
    pub(crate) fn replace(&self, store: &Store, group: &str, plural: &str, resources: Vec<Arc<Resource>>) {
        let mut slot = self.table.write();
        let mut table = Table::clone(&slot);
        table.remove(group, plural);
        let stored = resources.iter().find(|resource| {
            let custom = resource.custom.as_ref();
            custom.is_some_and(|custom| custom.version["storage"] == true)
        });
        let hub = stored.map(|stored| self.serve(store, stored.clone(), None));
        for resource in resources {
            match &hub {
                Some(hub) if hub.resource.version == resource.version => table.insert(hub.clone()),
                _ => table.insert(self.serve(store, resource, hub.clone())),
            }
        }
        *slot = Arc::new(table);
    }

    fn serve(&self, store: &Store, resource: Arc<Resource>, hub: Option<Arc<Served>>) -> Arc<Served> {
        let (group, plural) = match resource.strategy.stored_as() {
            Some((group, plural)) => (group.into(), plural.into()),
            None => (resource.group.clone(), resource.plural.clone()),
        };
        Arc::new(Served {
            shelf: store.shelf(&group, &plural),
            form: self.forms.fetch_add(1, Ordering::Relaxed),
            resource,
            hub,
        })
    }
}
