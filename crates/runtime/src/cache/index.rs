//! From a value to the objects that have it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::object::ObjectKey;

/// One index: pairs of value and key, in order, so that a value's keys lie side by side. An object may have no
/// value, one, or many.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pairs: BTreeSet<(Arc<str>, ObjectKey)>,
}

impl Index {
    /// The keys that have `value`, in order.
    pub fn lookup<'a>(&'a self, value: &'a str) -> impl Iterator<Item = &'a ObjectKey> {
        // No key is smaller than one without a namespace and with an empty name.
        let start = (Arc::from(value), ObjectKey::cluster(""));
        self.pairs
            .range(start..)
            .take_while(move |(found, _)| &**found == value)
            .map(|(_, key)| key)
    }

    /// Replaces an object's values.
    pub fn replace(&mut self, key: &ObjectKey, old: &[String], new: &[String]) {
        for value in old.iter().filter(|value| !new.contains(value)) {
            self.pairs.remove(&(Arc::from(value.as_str()), key.clone()));
        }
        for value in new.iter().filter(|value| !old.contains(value)) {
            let value = self.shared(value);
            self.pairs.insert((value, key.clone()));
        }
    }

    /// The value, sharing its text with the pairs that have it already.
    fn shared(&self, value: &str) -> Arc<str> {
        let start = (Arc::from(value), ObjectKey::cluster(""));
        match self.pairs.range(&start..).next() {
            Some((found, _)) if &**found == value => Arc::clone(found),
            _ => start.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_has_a_value_and_forgets_what_lost_it() {
        let mut index = Index::default();
        let [a, b] = ["a", "b"].map(|name| ObjectKey::namespaced("ns", name));
        let values = |values: &[&str]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
        index.replace(&a, &[], &values(&["x", "y"]));
        index.replace(&b, &[], &values(&["x"]));
        index.replace(&ObjectKey::cluster("c"), &[], &values(&["xx"]));
        assert_eq!(index.lookup("x").collect::<Vec<_>>(), [&a, &b]);
        index.replace(&a, &values(&["x", "y"]), &values(&["y"]));
        assert_eq!(index.lookup("x").collect::<Vec<_>>(), [&b]);
        assert_eq!(index.lookup("y").collect::<Vec<_>>(), [&a]);
        assert_eq!(index.lookup("").count(), 0);
    }
}
