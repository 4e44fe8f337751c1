//! Managed fields across the scale subresource.
//!
//! A Scale shows whoever manages the replicas of its parent as managing `spec.replicas` of the Scale; after a write
//! of the Scale the way back puts the replicas of the parent into the hands of whoever has them then.

use super::engine::managed_fields;
use super::managed::{self, Entry};
use super::set::Set;
use super::{OneVersion, Target};
use crate::schema::{Schema, SchemaRef, Type};
use crate::status::ApiResult;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::LazyLock;

/// A write of the Scale of an object.
pub struct ScaleWrite<'a> {
    /// The object whose Scale it is, as it is stored.
    pub parent: &'a Value,
    /// The version of the object in the request, as `apps/v1`.
    pub api_version: &'a str,
    /// Where the versions of the object have their replicas.
    pub paths: &'a [ReplicasPath],
    /// The Scale before, without managed fields.
    pub before: &'a Value,
    /// In whose name it is written.
    pub manager: &'a str,
    /// The time that entries of this write get.
    pub now: Timestamp,
}

impl ScaleWrite<'_> {
    /// Applies `config` to the Scale. Gives the Scale, without managed fields, and those of the object.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub fn apply(&self, config: &Value, force: bool) -> ApiResult<(Value, Option<Value>)> {
        let before = self.tracked_before();
        let scale = super::apply(&self.target(), Some(&before), config, self.manager, force)?;
        Ok(self.split(scale))
    }

    /// The same for a Scale that was written in another way.
    pub fn track(&self, mut scale: Value) -> (Value, Option<Value>) {
        let before = self.tracked_before();
        super::track_update(&self.target(), Some(&before), &mut scale, self.manager);
        self.split(scale)
    }

    fn target(&self) -> Target<'_> {
        Target {
            schema: schema(),
            api_version: SCALE_VERSION,
            kind: "Scale",
            subresource: "scale",
            custom: true,
            reset: &[],
            versions: &OneVersion,
            now: self.now,
        }
    }

    /// The Scale before, with managed fields, as a patch of it sees it.
    pub fn tracked_before(&self) -> Value {
        let mut before = self.before.clone();
        managed::put(&mut before, to_scale(managed_fields(self.parent), self.paths));
        before
    }

    fn split(&self, mut scale: Value) -> (Value, Option<Value>) {
        let of_parent = to_parent(
            managed_fields(self.parent),
            managed_fields(&scale),
            self.paths,
            self.api_version,
        );
        managed::put(&mut scale, None);
        (scale, of_parent)
    }
}

/// The schema of a Scale.
fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let of = |kind| {
            SchemaRef::new(Schema {
                kind: Some(kind),
                ..Schema::default()
            })
        };
        let map = |fields: Vec<(&str, SchemaRef)>| Schema {
            kind: Some(Type::Object),
            properties: fields
                .into_iter()
                .map(|(name, schema)| (name.into(), schema))
                .collect(),
            ..Schema::default()
        };
        let spec = map(vec![("replicas", of(Type::Integer))]);
        let status = map(vec![
            ("replicas", of(Type::Integer)),
            ("selector", of(Type::String)),
        ]);
        map(vec![
            ("spec", SchemaRef::new(spec)),
            ("status", SchemaRef::new(status)),
        ])
    });
    &SCHEMA
}

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
    let of_parent = managed::decode(parent).ok()?;
    // Times are those of the parent's entries: who comes anew has none.
    for entry in &mut of_scale {
        let known = of_parent.iter().find(|other| other.who.is(&entry.who));
        entry.time = known.and_then(|known| known.time.clone());
    }
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for mut entry in of_parent {
        let Some(path) = ReplicasPath::of(paths, entry.who.api_version) else {
            continue;
        };
        if let Some(path) = path.names().filter(|path| entry.set.has_fields(path)) {
            // An updater is never found again, as its entry is in another version there.
            let same = |other: &Entry<'_>| other.who.is(&entry.who);
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
