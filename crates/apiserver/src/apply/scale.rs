//! Managed fields across the scale subresource.
//!
//! A Scale shows whoever manages the replicas of its parent as managing `spec.replicas` of the Scale; after a write
//! of the Scale the way back puts the replicas of the parent into the hands of whoever has them then.

use super::managed::{self, Entry};
use super::set::Set;
use serde_json::Value;

const SCALE_VERSION: &str = "autoscaling/v1";
const SCALE_REPLICAS: &[&str] = &["spec", "replicas"];

/// Where a version of the parent has its replicas.
#[derive(Clone, Debug)]
pub struct ReplicasPath {
    /// The version, as `apps/v1`.
    pub api_version: String,
    /// The field names on the way, as `spec`, `replicas`; none where the version has no scale.
    pub path: Option<Vec<String>>,
}

impl ReplicasPath {
    fn of<'p>(paths: &'p [Self], version: &str) -> Option<&'p Self> {
        paths.iter().find(|path| path.api_version == version)
    }

    fn names(&self) -> Option<Vec<&str>> {
        let path = self.path.as_ref()?;
        Some(path.iter().map(String::as_str).collect())
    }
}

fn only<'a>(path: &[&'a str]) -> Set<'a> {
    let mut set = Set::default();
    set.insert_fields(path);
    set
}

/// The managed fields of the Scale of a parent with the managed fields `parent`; none for entries that can't be
/// read, and where nobody manages the replicas.
pub fn to_scale(parent: Option<&Value>, paths: &[ReplicasPath]) -> Option<Value> {
    let mut entries = managed::decode(parent).ok()?;
    entries.retain_mut(|entry| {
        let Some(path) = ReplicasPath::of(paths, entry.who.api_version).and_then(ReplicasPath::names) else {
            return false;
        };
        let has = entry.set.has_fields(&path);
        if has {
            entry.put(only(SCALE_REPLICAS));
            entry.who.api_version = SCALE_VERSION;
        }
        has
    });
    managed::encode(entries)
}

/// The managed fields of the parent after a write of its Scale, which has `scale` now. `api_version` is the
/// parent's version in the request.
pub fn to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    paths: &[ReplicasPath],
    api_version: &str,
) -> Option<Value> {
    let mut of_scale = managed::decode(scale).ok()?;
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for mut entry in managed::decode(parent).ok()? {
        let Some(path) = ReplicasPath::of(paths, entry.who.api_version) else {
            continue;
        };
        if let Some(path) = path.names().filter(|path| entry.set.has_fields(path)) {
            let same = |other: &Entry<'_>| {
                other.who.manager == entry.who.manager
                    && other.who.operation == entry.who.operation
                    && other.who.subresource == entry.who.subresource
            };
            match of_scale.iter().position(same) {
                Some(at) => {
                    of_scale.remove(at);
                }
                None => entry.put(entry.set.difference(&only(&path))),
            }
        }
        if !entry.set.is_empty() {
            entries.push(entry);
        }
    }
    let Some(path) = ReplicasPath::of(paths, api_version).and_then(ReplicasPath::names) else {
        return managed::encode(entries);
    };
    for mut entry in of_scale {
        if !entry.set.has_fields(SCALE_REPLICAS) {
            continue;
        }
        entry.put(only(&path));
        entry.who.api_version = api_version;
        entries.push(entry);
    }
    managed::encode(entries)
}
