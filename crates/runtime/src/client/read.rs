//! Reads.

use std::sync::Arc;

use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt as _};

use super::{Client, Error, decode, failed, kind};
use crate::cache::{Informer, Pruned, View};
use crate::object::{Object, ObjectKey};

/// Which objects of a kind to read.
#[derive(Clone, Debug, Default)]
pub struct List {
    namespace: Option<String>,
    labels: Selector,
}

impl List {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those in one namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Those whose labels match.
    pub fn labels(mut self, selector: Selector) -> Self {
        self.labels = selector;
        self
    }

    /// Those with these labels.
    pub fn matching<S: Into<String>>(self, labels: impl IntoIterator<Item = (S, S)>) -> Self {
        let labels = labels
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.labels(labels.collect())
    }

    fn accepts<K: Object>(&self, view: &View<K>) -> bool {
        if self.labels.selects_all() {
            return true;
        }
        let labels = view.meta().labels.as_ref();
        labels.map_or_else(
            || self.labels.matches(&std::collections::BTreeMap::new()),
            |labels| self.labels.matches(labels),
        )
    }
}

impl Client {
    /// An object from the cache; `None` when it is not there.
    ///
    /// It comes without managedFields, and may be newer than the watch: what this client wrote shows at once.
    pub fn get<K: Object>(&self, key: &ObjectKey) -> Result<Option<K>, Error> {
        let json = self.informer::<K>()?.json(key);
        json.map(|json| decode(key, &json)).transpose()
    }

    /// Objects from the cache, in no order. Objects that do not have the shape of their type are left out, with a
    /// warning in the log.
    pub fn list<K: Object>(&self, list: &List) -> Result<Vec<K>, Error> {
        let views = self.informer::<K>()?.views(list.namespace.as_deref());
        Ok(decoded(views.into_iter().filter(|view| list.accepts(view))))
    }

    /// The keys of objects in the cache, in no order; nothing but labels is decoded, and those only if asked for.
    pub fn list_keys<K: Object>(&self, list: &List) -> Result<Vec<ObjectKey>, Error> {
        let views = self.informer::<K>()?.views(list.namespace.as_deref());
        Ok(views
            .into_iter()
            .filter(|view| list.accepts(view))
            .map(|view| view.key().clone())
            .collect())
    }

    /// The objects in the cache for which an index has this value, in order of their keys. Objects that do not have
    /// the shape of their type are left out, with a warning in the log.
    pub fn list_by<K: Object>(&self, index: &str, value: &str) -> Result<Vec<K>, Error> {
        self.indexed(index, value).map(decoded)
    }

    /// As [`Client::list_by`], but keys only: nothing is decoded.
    pub fn list_keys_by<K: Object>(&self, index: &str, value: &str) -> Result<Vec<ObjectKey>, Error> {
        let views = self.indexed::<K>(index, value)?;
        Ok(views.into_iter().map(|view| view.key().clone()).collect())
    }

    /// An object from the server, past the cache, for kinds that are not worth a watch. Without managedFields.
    pub async fn get_live<K: Object>(&self, key: &ObjectKey) -> Result<Option<K>, Error> {
        let api: Api<Pruned<K>> = match key.namespace() {
            Some(namespace) => Api::namespaced_with(self.kube().clone(), namespace, &()),
            None => Api::all_with(self.kube().clone(), &()),
        };
        let object = api.get_opt(key.name()).await.map_err(failed::<K>("get", key))?;
        object.map(|object| decode(key, &object.json)).transpose()
    }

    /// Objects from the server, past the cache, for kinds that are not worth a watch. Without managedFields.
    pub async fn list_live<K: Object>(&self, list: &List) -> Result<Vec<K>, Error> {
        let api: Api<Pruned<K>> = match list.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(self.kube().clone(), namespace, &()),
            None => Api::all_with(self.kube().clone(), &()),
        };
        let params = kube::api::ListParams::default().labels_from(&list.labels);
        let none = ObjectKey::cluster("");
        let objects = api.list(&params).await.map_err(failed::<K>("list", &none))?;
        let decoded = objects.into_iter().map(|object| {
            let key = ObjectKey::beside::<K>(object.namespace().as_deref(), &object.name_any());
            decode(&key, &object.json)
        });
        decoded.collect()
    }

    pub(super) fn informer<K: Object>(&self) -> Result<Arc<Informer<K>>, Error> {
        let informer = self.cache().existing();
        informer.ok_or_else(|| Error::NotCached { kind: kind::<K>() })
    }

    fn indexed<K: Object>(&self, index: &str, value: &str) -> Result<Vec<View<K>>, Error> {
        let views = self.informer::<K>()?.indexed(index, value);
        views.ok_or_else(|| Error::NoIndex {
            kind: kind::<K>(),
            index: index.to_owned(),
        })
    }
}

fn decoded<K: Object>(views: impl IntoIterator<Item = View<K>>) -> Vec<K> {
    views.into_iter().filter_map(View::into_object).collect()
}
