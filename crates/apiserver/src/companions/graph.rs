//! Who owns whom, as far as the watches have told, and what is to be looked at when that changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use std::collections::{BTreeSet, HashMap};

/// The finalizer of an object that is deleted after its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are left.
pub(super) const ORPHAN: &str = "orphan";

/// An object, as garbage collection sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Group and plural of the kind.
    pub(super) kind: (String, String),
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
    deleting: bool,
    finalizers: Vec<String>,
}

impl Node {
    /// What of `object` matters here; none for one without a uid.
    pub(super) fn of(kind: (String, String), object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        Some(Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            owners: metadata.owner_references.clone().unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
        })
    }

    /// Deleted, and waiting for its dependents to go.
    pub(super) fn deletes_dependents(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|finalizer| finalizer == FOREGROUND)
    }

    /// Deleted, and waiting for its dependents to be set free.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|finalizer| finalizer == ORPHAN)
    }

    /// Deleted, with nothing for garbage collection to do.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.deleting && !self.deletes_dependents()
    }

    /// Whether the object keeps this owner from going first.
    pub(super) fn blocks(&self, owner: &str) -> bool {
        let is_blocking = |reference: &OwnerReference| reference.block_owner_deletion == Some(true);
        self.owners
            .iter()
            .any(|reference| reference.uid == owner && is_blocking(reference))
    }
}

/// Something to look at. Objects are named by uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Work {
    /// Whether the object is to go.
    Delete(String),
    /// Set the object's dependents free.
    Orphan(String),
    /// The object names an owner (second) that lives in another namespace.
    Misplaced(String, String),
}

/// The objects and their owners.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    /// Owner to dependents.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name this one as an owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid))
    }

    /// The uids of all objects of a kind.
    pub(super) fn of_kind(&self, kind: &(String, String)) -> BTreeSet<String> {
        let nodes = self.nodes.values().filter(|node| node.kind == *kind);
        nodes.map(|node| node.uid.clone()).collect()
    }

    /// Takes in an object that was added or changed.
    pub(super) fn observe(&mut self, node: &Node) -> Vec<Work> {
        let mut work = Vec::new();
        let old = self.nodes.insert(node.uid.clone(), node.clone());
        if old.as_ref() == Some(node) {
            return work;
        }
        let old_owners: &[OwnerReference] = old.as_ref().map_or(&[], |old| &old.owners);
        if old_owners != node.owners {
            for reference in old_owners {
                self.unlink(&reference.uid, &node.uid);
            }
            for reference in &node.owners {
                let dependents = self.dependents.entry(reference.uid.clone()).or_default();
                dependents.insert(node.uid.clone());
                if let Some(owner) = self.nodes.get(&reference.uid)
                    && !owner.namespace.is_empty()
                    && owner.namespace != node.namespace
                {
                    work.push(Work::Misplaced(node.uid.clone(), reference.uid.clone()));
                }
            }
            if node
                .owners
                .iter()
                .any(|reference| self.is_suspect(node, reference))
            {
                work.push(Work::Delete(node.uid.clone()));
            }
            // An owner that waited for this object may wait no longer.
            work.extend(self.waiting(old_owners));
        }
        let was = |judge: fn(&Node) -> bool| old.as_ref().is_some_and(judge);
        if node.deletes_dependents() && !was(Node::deletes_dependents) {
            work.extend(
                self.dependents(&node.uid)
                    .map(|node| Work::Delete(node.uid.clone())),
            );
            work.push(Work::Delete(node.uid.clone()));
        }
        if node.orphans_dependents() && !was(Node::orphans_dependents) {
            work.push(Work::Orphan(node.uid.clone()));
        }
        work
    }

    /// Takes out an object that is gone.
    pub(super) fn forget(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        for reference in &node.owners {
            self.unlink(&reference.uid, uid);
        }
        let mut work: Vec<Work> = self
            .dependents(uid)
            .map(|node| Work::Delete(node.uid.clone()))
            .collect();
        work.extend(self.waiting(&node.owners));
        work
    }

    /// Whether the owner may be missing, in another namespace, or about to go.
    fn is_suspect(&self, node: &Node, reference: &OwnerReference) -> bool {
        self.nodes.get(&reference.uid).is_none_or(|owner| {
            owner.deletes_dependents()
                || owner.name != reference.name
                || (!owner.namespace.is_empty() && owner.namespace != node.namespace)
        })
    }

    fn waiting<'g>(&'g self, owners: &'g [OwnerReference]) -> impl Iterator<Item = Work> + 'g {
        let owners = owners
            .iter()
            .filter_map(|reference| self.nodes.get(&reference.uid));
        owners
            .filter(|owner| owner.deletes_dependents())
            .map(|owner| Work::Delete(owner.uid.clone()))
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uid: &str, namespace: &str, owners: &[&str]) -> Node {
        Node {
            kind: (String::new(), "configmaps".to_owned()),
            namespace: namespace.to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            owners: owners
                .iter()
                .map(|owner| OwnerReference {
                    uid: (*owner).to_owned(),
                    name: (*owner).to_owned(),
                    block_owner_deletion: Some(true),
                    ..OwnerReference::default()
                })
                .collect(),
            deleting: false,
            finalizers: Vec::new(),
        }
    }

    fn delete(uid: &str) -> Work {
        Work::Delete(uid.to_owned())
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe(&node("a", "n", &[])), []);
        assert_eq!(graph.observe(&node("b", "n", &["a"])), []);
        assert_eq!(graph.forget("a"), [delete("b")]);
        assert_eq!(graph.observe(&node("c", "n", &["a"])), [delete("c")]);
    }

    #[test]
    fn an_owner_in_another_namespace_is_reported() {
        let mut graph = Graph::default();
        graph.observe(&node("a", "n", &[]));
        assert_eq!(
            graph.observe(&node("b", "m", &["a"])),
            [Work::Misplaced("b".to_owned(), "a".to_owned()), delete("b")]
        );
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_goes() {
        let mut graph = Graph::default();
        graph.observe(&node("a", "n", &[]));
        graph.observe(&node("b", "n", &["a"]));
        let mut deleted = node("a", "n", &[]);
        deleted.deleting = true;
        deleted.finalizers = vec![FOREGROUND.to_owned()];
        assert_eq!(graph.observe(&deleted), [delete("b"), delete("a")]);
        assert_eq!(graph.forget("b"), [delete("a")]);
    }
}
