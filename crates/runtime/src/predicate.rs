//! Which changes are worth a reconcile.
//!
//! A predicate sees the kind of change and, for an update, both states. Any
//! `Fn(&Change<K>) -> bool` is one; [`on`] has the usual ones, and they combine with [`Predicate::or`],
//! [`Predicate::and`] and [`Predicate::not`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{Selector, SelectorExt};

use crate::cache::Change;
use crate::object::Object;

/// Decides whether a change is worth a reconcile.
pub trait Predicate<K: Object>: Send + Sync + 'static {
    /// Whether it is.
    fn accepts(&self, change: &Change<'_, K>) -> bool;

    /// Accepts what either accepts.
    fn or<P: Predicate<K>>(self, other: P) -> impl Predicate<K>
    where
        Self: Sized,
    {
        move |change: &Change<'_, K>| self.accepts(change) || other.accepts(change)
    }

    /// Accepts what both accept.
    fn and<P: Predicate<K>>(self, other: P) -> impl Predicate<K>
    where
        Self: Sized,
    {
        move |change: &Change<'_, K>| self.accepts(change) && other.accepts(change)
    }

    /// Accepts what this one does not.
    fn not(self) -> impl Predicate<K>
    where
        Self: Sized,
    {
        move |change: &Change<'_, K>| !self.accepts(change)
    }
}

impl<K: Object, F> Predicate<K> for F
where
    F: Fn(&Change<'_, K>) -> bool + Send + Sync + 'static,
{
    fn accepts(&self, change: &Change<'_, K>) -> bool {
        self(change)
    }
}

/// The usual predicates.
///
/// The ones named after a field accept every change but an update that leaves the field alone. So additions,
/// deletions and resyncs pass all of them, and `on::generation().or(on::labels())` means what it says.
pub mod on {
    use super::{Change, Object, ObjectMeta, Predicate, Selector, SelectorExt};

    fn changed<K: Object>(
        same: impl Fn(&ObjectMeta, &ObjectMeta) -> bool + Send + Sync + 'static,
    ) -> impl Predicate<K> {
        move |change: &Change<'_, K>| match change {
            Change::Updated { old, new } => !same(old.meta(), new.meta()),
            _ => true,
        }
    }

    /// The desired state changed, or deletion was asked for: `metadata.generation` or `metadata.deletionTimestamp`.
    ///
    /// Kinds without a generation (ConfigMap, Secret, Service and others) pass on every update.
    pub fn generation<K: Object>() -> impl Predicate<K> {
        changed(|old, new| {
            new.generation.is_some()
                && old.generation == new.generation
                && old.deletion_timestamp == new.deletion_timestamp
        })
    }

    /// The labels changed.
    pub fn labels<K: Object>() -> impl Predicate<K> {
        changed(|old, new| old.labels == new.labels)
    }

    /// The annotations changed.
    pub fn annotations<K: Object>() -> impl Predicate<K> {
        changed(|old, new| old.annotations == new.annotations)
    }

    /// The finalizers changed.
    pub fn finalizers<K: Object>() -> impl Predicate<K> {
        changed(|old, new| old.finalizers == new.finalizers)
    }

    /// Every change. What holds without a predicate.
    pub fn any<K: Object>() -> impl Predicate<K> {
        |_: &Change<'_, K>| true
    }

    /// The object is gone.
    pub fn deletion<K: Object>() -> impl Predicate<K> {
        |change: &Change<'_, K>| matches!(change, Change::Deleted(_))
    }

    /// The labels match, or matched before an update, so that an object that leaves the selection is noticed.
    pub fn matching<K: Object>(selector: Selector) -> impl Predicate<K> {
        move |change: &Change<'_, K>| {
            let matches = |meta: &ObjectMeta| match &meta.labels {
                Some(labels) => selector.matches(labels),
                None => selector.matches(&std::collections::BTreeMap::new()),
            };
            matches(change.view().meta()) || change.old().is_some_and(|old| matches(old.meta()))
        }
    }

    /// What a function of the object says changed: the change is accepted unless it is an update that leaves the
    /// function's value as it was. Objects that do not decode are accepted.
    pub fn value<K: Object, V: PartialEq>(of: impl Fn(&K) -> V + Send + Sync + 'static) -> impl Predicate<K> {
        move |change: &Change<'_, K>| match change {
            Change::Updated { old, new } => match (old.object(), new.object()) {
                (Some(old), Some(new)) => of(old) != of(new),
                _ => true,
            },
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::View;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn view(metadata: &serde_json::Value) -> View<Pod> {
        let mut metadata = metadata.clone();
        metadata["name"] = "a".into();
        View::of(&serde_json::from_value(json!({ "metadata": metadata })).unwrap()).unwrap()
    }

    fn update(predicate: &impl Predicate<Pod>, old: &serde_json::Value, new: &serde_json::Value) -> bool {
        predicate.accepts(&Change::Updated {
            old: &view(old),
            new: &view(new),
        })
    }

    #[test]
    fn generation_ignores_status_and_sees_deletion() {
        let predicate = on::generation();
        let first = json!({ "generation": 1, "labels": { "a": "1" } });
        assert!(!update(&predicate, &first, &json!({ "generation": 1 })));
        assert!(update(&predicate, &first, &json!({ "generation": 2 })));
        assert!(update(
            &predicate,
            &first,
            &json!({ "generation": 1, "deletionTimestamp": "2026-01-01T00:00:00Z" })
        ));
        assert!(update(&predicate, &json!({}), &json!({})));
        assert!(predicate.accepts(&Change::Deleted(&view(&first))));
    }

    #[test]
    fn predicates_combine() {
        let predicate = on::generation().or(on::labels());
        let first = json!({ "generation": 1, "labels": { "a": "1" } });
        assert!(update(
            &predicate,
            &first,
            &json!({ "generation": 1, "labels": { "a": "2" } })
        ));
        assert!(!update(&predicate, &first, &first));
        let predicate = on::deletion().not().and(on::any());
        assert!(predicate.accepts(&Change::Added(&view(&first))));
        assert!(!predicate.accepts(&Change::Deleted(&view(&first))));
    }

    #[test]
    fn a_selector_sees_an_object_leave() {
        let selector: Selector = [("a".to_owned(), "1".to_owned())].into_iter().collect();
        let predicate = on::matching(selector);
        let inside = json!({ "labels": { "a": "1" } });
        assert!(update(&predicate, &inside, &json!({})));
        assert!(!update(&predicate, &json!({}), &json!({})));
    }

    #[test]
    fn a_value_of_the_object_can_be_watched() {
        let predicate = on::value(|pod: &Pod| pod.metadata.labels.clone());
        let inside = json!({ "labels": { "a": "1" } });
        assert!(update(&predicate, &inside, &json!({})));
        assert!(!update(
            &predicate,
            &inside,
            &json!({ "labels": { "a": "1" }, "generation": 3 })
        ));
    }
}
