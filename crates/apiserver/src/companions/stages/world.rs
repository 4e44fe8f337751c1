//! The objects that stages look at, as the watches and our own writes have left them.

use super::scales::Scales;
use kube::api::ApiResource;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The kinds that stages know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Pod,
    Claim,
    Service,
    ReplicaSet,
    Deployment,
    StatefulSet,
    Budget,
    Node,
    EndpointSlice,
    Job,
    Volume,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::Pod,
        Self::Claim,
        Self::Service,
        Self::ReplicaSet,
        Self::Deployment,
        Self::StatefulSet,
        Self::Budget,
        Self::Node,
        Self::EndpointSlice,
        Self::Job,
        Self::Volume,
    ];

    /// Group, version, kind and plural.
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Claim => ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::Budget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Node => ("", "v1", "Node", "nodes"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::Volume => ("", "v1", "PersistentVolume", "persistentvolumes"),
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.names().2
    }

    pub(super) fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    fn named(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == kind)
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ref {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Ref {
    pub(super) fn of(kind: Kind, object: &Value) -> Self {
        Self {
            kind,
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
        }
    }
}

/// The text at a JSON pointer, or nothing.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The whole number at a JSON pointer, or none.
pub(super) fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(super) fn is_deleting(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

/// The zone that a node is in.
pub(super) fn zone(node: &Value) -> &str {
    node["metadata"]["labels"]["topology.kubernetes.io/zone"]
        .as_str()
        .unwrap_or_default()
}

/// The reference to the object's controller.
pub(super) fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

/// The names of the claims that a pod's volumes are of.
pub(super) fn claims_of(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    volumes
        .map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
        .filter(|name| !name.is_empty())
}

/// The condition of a type.
pub(super) fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion")
        .parse()
        .unwrap_or_default()
}

/// The objects there are.
#[derive(Debug, Default)]
pub(super) struct World {
    objects: BTreeMap<Ref, Value>,
    /// By the uid of their controller.
    controlled: HashMap<String, BTreeSet<Ref>>,
    /// Objects that we deleted and of which older news may still come.
    deleted: HashSet<String>,
    /// Scales that were asked for, for as long as the plan that asked is made.
    pub(super) scales: Scales,
}

impl World {
    pub(super) fn get(&self, at: &Ref) -> Option<&Value> {
        self.objects.get(at)
    }

    /// The objects of a kind in a namespace.
    pub(super) fn in_namespace<'w>(
        &'w self,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = (&'w Ref, &'w Value)> {
        let from = Ref {
            kind,
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let namespace = namespace.to_owned();
        let rest = self.objects.range(from..);
        rest.take_while(move |(at, _)| at.kind == kind && at.namespace == namespace)
    }

    /// All objects of a kind.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Ref, &Value)> {
        self.objects.iter().filter(move |(at, _)| at.kind == kind)
    }

    /// The objects of a kind that this one controls.
    pub(super) fn controlled<'w>(&'w self, kind: Kind, owner: &Value) -> impl Iterator<Item = &'w Value> {
        let refs = self.controlled.get(uid(owner)).into_iter().flatten();
        refs.filter(move |at| at.kind == kind)
            .filter_map(|at| self.objects.get(at))
    }

    /// Takes in a state of an object, unless a later one is known; gives what is affected.
    pub(super) fn put(&mut self, kind: Kind, object: Value) -> BTreeSet<Ref> {
        let at = Ref::of(kind, &object);
        let known = self.objects.get(&at);
        let stale =
            known.is_some_and(|known| uid(known) == uid(&object) && version(known) >= version(&object));
        if stale || self.deleted.contains(uid(&object)) {
            return BTreeSet::new();
        }
        let known_zone = known.map(|known| zone(known).to_owned());
        let mut affected = self.unlink(&at);
        if kind == Kind::Node && known_zone != Some(zone(&object).to_owned()) {
            affected.extend(self.of_kind(Kind::Service).map(|(at, _)| at.clone()));
        }
        if let Some(owner) = controller(&object) {
            let owned = self.controlled.entry(text(owner, "/uid").to_owned()).or_default();
            owned.insert(at.clone());
        }
        self.objects.insert(at.clone(), object);
        affected.extend(self.around(&at));
        affected
    }

    /// Takes out an object that a watch says is gone; gives what is affected.
    pub(super) fn gone(&mut self, kind: Kind, object: &Value) -> BTreeSet<Ref> {
        self.deleted.remove(uid(object));
        let at = Ref::of(kind, object);
        if self
            .objects
            .get(&at)
            .is_none_or(|known| uid(known) != uid(object))
        {
            return BTreeSet::new();
        }
        self.take_out(&at)
    }

    /// Takes out an object that we deleted and that is gone at once.
    pub(super) fn deleted(&mut self, at: &Ref) -> BTreeSet<Ref> {
        if let Some(object) = self.objects.get(at) {
            self.deleted.insert(uid(object).to_owned());
        }
        self.take_out(at)
    }

    /// Takes out what a full list of the kind did not have.
    pub(super) fn keep_only(&mut self, kind: Kind, listed: &HashSet<String>) -> BTreeSet<Ref> {
        self.deleted.retain(|uid| listed.contains(uid));
        let gone = self
            .of_kind(kind)
            .filter(|(_, object)| !listed.contains(uid(object)));
        let gone: Vec<Ref> = gone.map(|(at, _)| at.clone()).collect();
        gone.iter().flat_map(|at| self.take_out(at)).collect()
    }

    fn take_out(&mut self, at: &Ref) -> BTreeSet<Ref> {
        let affected = self.around(at);
        self.unlink(at);
        self.objects.remove(at);
        affected
    }

    fn unlink(&mut self, at: &Ref) -> BTreeSet<Ref> {
        let Some(old) = self.objects.get(at) else {
            return BTreeSet::new();
        };
        let affected = self.around(at);
        if let Some(owner) = controller(old) {
            let owner = text(owner, "/uid").to_owned();
            if let Some(owned) = self.controlled.get_mut(&owner) {
                owned.remove(at);
                if owned.is_empty() {
                    self.controlled.remove(&owner);
                }
            }
        }
        affected
    }

    /// The object itself, its controller, and what else looks at it.
    fn around(&self, at: &Ref) -> BTreeSet<Ref> {
        let mut around = BTreeSet::from([at.clone()]);
        let Some(object) = self.objects.get(at) else {
            return around;
        };
        if let Some(owner) = controller(object)
            && let Some(kind) = Kind::named(text(owner, "/kind"))
        {
            around.insert(Ref {
                kind,
                namespace: at.namespace.clone(),
                name: text(owner, "/name").to_owned(),
            });
        }
        let looks: &[Kind] = match at.kind {
            Kind::Pod => &[Kind::Budget, Kind::Service],
            Kind::Claim => &[Kind::Pod],
            Kind::StatefulSet => &[Kind::Claim],
            _ => &[],
        };
        for kind in looks {
            around.extend(self.in_namespace(*kind, &at.namespace).map(|(at, _)| at.clone()));
        }
        if at.kind == Kind::Pod {
            around.extend(claims_of(object).map(|name| Ref {
                kind: Kind::Claim,
                namespace: at.namespace.clone(),
                name: name.to_owned(),
            }));
        }
        around
    }
}
