//! From changes to keys: for which objects of the controller's kind a change is news.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::cache::{Change, Notice, View};
use crate::client::Client;
use crate::object::{Object, ObjectKey};
use crate::predicate::Predicate;
use crate::queue::{Queue, priority};

/// Which owner references count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Only the one with `controller: true`, of which an object has at most one.
    ControllerOnly,
    /// Any.
    Any,
}

type Map<K> = Box<dyn Fn(&K, &Client) -> Vec<ObjectKey> + Send + Sync>;

/// How an object of kind `K` leads to keys of the controller's kind.
enum Via<K> {
    Itself,
    Owner(Owner),
    Map(Map<K>),
}

type Accepts<K> = Box<dyn Fn(&Change<'_, K>) -> bool + Send + Sync>;

/// One kind that a controller watches.
pub(super) struct Source<K> {
    via: Via<K>,
    predicate: Option<Accepts<K>>,
}

impl<K: Object> Source<K> {
    pub fn itself() -> Self {
        Self::new(Via::Itself)
    }

    pub fn owner(owner: Owner) -> Self {
        Self::new(Via::Owner(owner))
    }

    pub fn map(map: impl Fn(&K, &Client) -> Vec<ObjectKey> + Send + Sync + 'static) -> Self {
        Self::new(Via::Map(Box::new(map)))
    }

    fn new(via: Via<K>) -> Self {
        Self { via, predicate: None }
    }

    /// Narrows what counts. Predicates add up: a change has to pass all of them.
    pub fn filter(&mut self, predicate: impl Predicate<K>) {
        let before = self.predicate.take();
        self.predicate = Some(Box::new(move |change| {
            before.as_ref().is_none_or(|before| before(change)) && predicate.accepts(change)
        }));
    }

    /// Feeds the queue of a controller for kind `P` from now on.
    pub fn feed<P: Object>(self, controller: Arc<str>, client: &Client, queue: Arc<Queue<ObjectKey>>) {
        let informer = client.cache().informer::<K>();
        let client = client.clone();
        informer.handle(Box::new(move |notice| {
            // A panic in a predicate or a map function must not end the informer, which others share.
            let keys = catch_unwind(AssertUnwindSafe(|| self.keys::<P>(&notice.change, &client)));
            let Ok(keys) = keys else {
                let key = notice.change.view().key();
                tracing::error!(%controller, kind = %K::kind(&()), %key, "a predicate or map function panicked");
                return;
            };
            if keys.is_empty() {
                return;
            }
            let priority = self.priority(notice);
            for key in keys {
                queue.add(key, priority);
            }
        }));
    }

    fn keys<P: Object>(&self, change: &Change<'_, K>, client: &Client) -> Vec<ObjectKey> {
        if self.predicate.as_ref().is_some_and(|accepts| !accepts(change)) {
            return Vec::new();
        }
        let of = |view: &View<K>| match &self.via {
            Via::Itself => vec![view.key().clone()],
            Via::Owner(owner) => owners::<P>(view.meta(), *owner),
            Via::Map(map) => view
                .object()
                .map(|object| map(object, client))
                .unwrap_or_default(),
        };
        let mut keys = of(change.view());
        if let Some(old) = change.old()
            && !matches!(self.via, Via::Itself)
        {
            // Whoever an object belonged to before wants to know that it does no longer.
            keys.extend(of(old));
            keys.sort_unstable();
            keys.dedup();
        }
        keys
    }

    fn priority(&self, notice: &Notice<'_, K>) -> i32 {
        match notice.change {
            Change::Deleted(_) => priority::DELETION,
            Change::Added(view) | Change::Updated { new: view, .. }
                if matches!(self.via, Via::Itself) && view.meta().deletion_timestamp.is_some() =>
            {
                priority::DELETION
            }
            Change::Resync(_) => priority::INITIAL,
            _ if notice.initial => priority::INITIAL,
            _ => priority::NORMAL,
        }
    }
}

/// The owners of kind `P`, in whatever version they are referred to.
fn owners<P: Object>(meta: &ObjectMeta, which: Owner) -> Vec<ObjectKey> {
    let references = meta.owner_references.iter().flatten();
    let counts = |reference: &&OwnerReference| {
        let group = reference
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let ours = group == P::group(&()) && reference.kind == P::kind(&());
        ours && (which == Owner::Any || reference.controller == Some(true))
    };
    references
        .filter(counts)
        .map(|reference| ObjectKey::beside::<P>(meta.namespace.as_deref(), &reference.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    #[test]
    fn owners_are_told_apart_by_group_kind_and_role() {
        let meta: ObjectMeta = serde_json::from_value(json!({
            "namespace": "ns",
            "ownerReferences": [
                { "apiVersion": "apps/v1beta9", "kind": "Deployment", "name": "a", "uid": "1", "controller": true },
                { "apiVersion": "apps/v1", "kind": "Deployment", "name": "b", "uid": "2" },
                { "apiVersion": "other/v1", "kind": "Deployment", "name": "c", "uid": "3" },
                { "apiVersion": "v1", "kind": "Node", "name": "d", "uid": "4" },
            ],
        }))
        .unwrap();
        let names = |keys: Vec<ObjectKey>| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(owners::<Deployment>(&meta, Owner::ControllerOnly)),
            ["ns/a"]
        );
        assert_eq!(names(owners::<Deployment>(&meta, Owner::Any)), ["ns/a", "ns/b"]);
        assert_eq!(names(owners::<Node>(&meta, Owner::Any)), ["d"]);
        assert_eq!(owners::<ReplicaSet>(&meta, Owner::Any), []);
    }
}
