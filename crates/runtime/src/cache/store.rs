//! The objects of one kind, and the rule by which news of them is believed.
//!
//! News comes from three sides: lists, watches, and the answers to our own writes, which go into the store at once
//! so that no reconcile reads a state older than its own last write. Answers and events overtake each other, so the
//! store orders them by resource version (comparable numbers: KEP-5504):
//!
//! - Of two states of an object the newer one wins, whatever brought it.
//! - An object that only a write of ours has brought is *unconfirmed* until the stream shows it. A list that lacks
//!   it may be older than the write, so it stays; but an event of its deletion may also have been missed, so after
//!   a while it is looked up directly ([`Store::doubtful`]).
//! - An object that a delete of ours ended leaves a *tombstone*, so that events from before do not bring it back.
//! - A list that shows an older state than the store has comes from a server that lags, or from one that was
//!   restored from a backup. Which one is looked up directly too.
//!
//! A list marks what it shows and sweeps the rest in place: a relist needs no second store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::index::Index;
use super::owned::OwnedFields;
use crate::object::ObjectKey;

/// One object.
#[derive(Debug)]
struct Stored {
    json: Arc<[u8]>,
    version: u64,
    /// The last list that showed it.
    pass: u32,
    /// What we last applied to it.
    applied: Option<Box<Applied>>,
}

/// A configuration that we applied, and the version of the object that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedConfig {
    /// A hash of the configuration with its field manager.
    pub hash: u64,
    /// The resource version after it was applied.
    pub version: u64,
}

/// What is known of our last apply.
#[derive(Clone, Debug)]
pub(crate) enum LastApplied {
    /// It was this process's.
    Config(AppliedConfig),
    /// It was an earlier process's, which owns these fields.
    Fields(Arc<str>),
}

/// The last configurations applied to an object and to its status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    pub object: Option<LastApplied>,
    pub status: Option<LastApplied>,
}

impl Applied {
    /// With what an object's managedFields say, unless this process knows better.
    fn with(mut self, owned: OwnedFields) -> Option<Box<Self>> {
        for (slot, fields) in [(&mut self.object, owned.object), (&mut self.status, owned.status)] {
            if !matches!(slot, Some(LastApplied::Config(_))) {
                *slot = fields.map(LastApplied::Fields);
            }
        }
        (self.object.is_some() || self.status.is_some()).then(|| Box::new(self))
    }
}

/// The state of an object, as somebody brings it.
#[derive(Debug)]
pub(crate) struct News {
    pub namespace: Option<String>,
    pub name: String,
    pub uid: Option<String>,
    /// Zero where it is no number: then nothing is known to be older or newer.
    pub version: u64,
    pub json: Box<[u8]>,
    /// What an earlier process of ours applied.
    pub owned: OwnedFields,
}

/// Who brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A list, by its number.
    Listed(u32),
    /// A watch.
    Watched,
    /// The answer to a write of ours.
    Written,
    /// A read that went to the server because the store was in doubt.
    Verified,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing: it was known, or too old.
    None,
    /// The object is new to the store.
    Added { key: ObjectKey, new: Arc<[u8]> },
    /// The object has changed.
    Updated {
        key: ObjectKey,
        old: Arc<[u8]>,
        new: Arc<[u8]>,
    },
    /// The object is gone.
    Deleted { key: ObjectKey, old: Arc<[u8]> },
}

#[derive(Debug)]
struct Tombstone {
    uid: String,
    since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: HashMap<ObjectKey, Stored>,
    namespaces: HashSet<Arc<str>>,
    pub indexes: Vec<(&'static str, Index)>,
    /// The newest version that a list or watch has shown.
    last_seen: u64,
    passes: u32,
    listing: u32,
    unconfirmed: HashMap<ObjectKey, Instant>,
    tombstones: HashMap<ObjectKey, Tombstone>,
}

impl Store {
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<[u8]>> {
        self.objects.get(key).map(|stored| &stored.json)
    }

    pub fn version(&self, key: &ObjectKey) -> Option<u64> {
        self.objects.get(key).map(|stored| stored.version)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<[u8]>)> {
        self.objects.iter().map(|(key, stored)| (key, &stored.json))
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn last_seen(&self) -> u64 {
        self.last_seen
    }

    pub fn applied(&self, key: &ObjectKey) -> Option<&Applied> {
        self.objects.get(key)?.applied.as_deref()
    }

    pub fn set_applied(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Applied)) {
        if let Some(stored) = self.objects.get_mut(key) {
            change(stored.applied.get_or_insert_default());
        }
    }

    /// Takes in the state of an object.
    pub fn put(&mut self, news: News, origin: Origin, now: Instant) -> Effect {
        let News {
            namespace,
            name,
            uid,
            version,
            json,
            owned,
        } = news;
        let key = self.key(namespace.as_deref(), &name);
        if let Some(tombstone) = self.tombstones.get(&key) {
            let same = uid.as_deref() == Some(tombstone.uid.as_str());
            if same && matches!(origin, Origin::Listed(_) | Origin::Watched) {
                return Effect::None;
            }
            self.tombstones.remove(&key);
        }
        if matches!(origin, Origin::Listed(_) | Origin::Watched) {
            self.last_seen = self.last_seen.max(version);
        }
        let Some(stored) = self.objects.get_mut(&key) else {
            // The stream has passed the version of this answer: the object was deleted since.
            if origin == Origin::Written && version <= self.last_seen && version != 0 && self.listing == 0 {
                return Effect::None;
            }
            let stored = Stored {
                json: json.into(),
                version,
                pass: self.passes,
                applied: Applied::default().with(owned),
            };
            return self.insert(key, stored, origin, now);
        };
        if let Origin::Listed(pass) = origin {
            stored.pass = pass;
        }
        let comparable = version != 0 && stored.version != 0;
        if comparable && version < stored.version && origin != Origin::Verified {
            if matches!(origin, Origin::Listed(_)) {
                self.unconfirmed.entry(key).or_insert(now);
            }
            return Effect::None;
        }
        if comparable && version == stored.version {
            if origin != Origin::Written {
                self.unconfirmed.remove(&key);
            }
            return Effect::None;
        }
        let new: Arc<[u8]> = json.into();
        let old = std::mem::replace(&mut stored.json, Arc::clone(&new));
        stored.version = version;
        stored.applied = stored
            .applied
            .take()
            .map_or_else(Applied::default, |applied| *applied)
            .with(owned);
        if origin == Origin::Written {
            self.unconfirmed.insert(key.clone(), now);
        } else {
            self.unconfirmed.remove(&key);
        }
        Effect::Updated { key, old, new }
    }

    fn insert(&mut self, key: ObjectKey, mut stored: Stored, origin: Origin, now: Instant) -> Effect {
        if let Origin::Listed(pass) = origin {
            stored.pass = pass;
        }
        let new = Arc::clone(&stored.json);
        self.objects.insert(key.clone(), stored);
        if origin == Origin::Written {
            self.unconfirmed.insert(key.clone(), now);
        }
        Effect::Added { key, new }
    }

    /// A watch shows that an object was deleted at `version`.
    pub fn deleted(&mut self, namespace: Option<&str>, name: &str, version: u64) -> Effect {
        let key = self.key(namespace, name);
        self.tombstones.remove(&key);
        self.last_seen = self.last_seen.max(version);
        match self.objects.get(&key) {
            // Made again since, by a write of ours.
            Some(stored) if version != 0 && stored.version > version => Effect::None,
            _ => self.remove(key),
        }
    }

    /// A delete of ours ended the object of that uid. `uid_of` reads the uid of a stored object.
    pub fn ended(
        &mut self,
        key: &ObjectKey,
        uid: &str,
        uid_of: impl FnOnce(&[u8]) -> Option<String>,
        now: Instant,
    ) -> Effect {
        let Some(stored) = self.objects.get(key) else {
            return Effect::None;
        };
        if uid_of(&stored.json).as_deref() != Some(uid) {
            return Effect::None;
        }
        let tombstone = Tombstone {
            uid: uid.to_owned(),
            since: now,
        };
        self.tombstones.insert(key.clone(), tombstone);
        self.remove(key.clone())
    }

    /// A direct read found nothing, after [`Store::doubtful`] gave `version` for the key.
    pub fn missing(&mut self, key: &ObjectKey, version: Option<u64>) -> Effect {
        self.tombstones.remove(key);
        if self.version(key) == version {
            return self.remove(key.clone());
        }
        Effect::None
    }

    fn remove(&mut self, key: ObjectKey) -> Effect {
        self.unconfirmed.remove(&key);
        match self.objects.remove(&key) {
            Some(stored) => Effect::Deleted {
                key,
                old: stored.json,
            },
            None => Effect::None,
        }
    }

    /// A list starts. The number it gets is never zero.
    pub fn begin(&mut self, again: bool) -> u32 {
        self.passes += 1;
        if !again {
            self.listing += 1;
        }
        self.passes
    }

    /// The list of that number is complete: what it covers (`namespace`, or all) and did not show is gone. The keys
    /// are given; the caller removes them one by one with [`Store::sweep`].
    pub fn end(&mut self, pass: u32, namespace: Option<&str>) -> Vec<ObjectKey> {
        self.listing = self.listing.saturating_sub(1);
        self.objects
            .iter()
            .filter(|(key, stored)| {
                stored.pass < pass
                    && (namespace.is_none() || key.namespace() == namespace)
                    && !self.unconfirmed.contains_key(*key)
            })
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Removes an object that a list did not show, unless a write of ours has brought it back since.
    pub fn sweep(&mut self, key: &ObjectKey, pass: u32) -> Effect {
        match self.objects.get(key) {
            Some(stored) if stored.pass < pass => self.remove(key.clone()),
            _ => Effect::None,
        }
    }

    /// What has been in doubt for `age`, with the version that is held.
    pub fn doubtful(&self, now: Instant, age: Duration) -> Vec<(ObjectKey, Option<u64>)> {
        let old = |since: &Instant| now.saturating_duration_since(*since) >= age;
        let unconfirmed = self
            .unconfirmed
            .iter()
            .filter(|(_, since)| old(since))
            .map(|(key, _)| key);
        let tombstones = self
            .tombstones
            .iter()
            .filter(|(_, tombstone)| old(&tombstone.since))
            .map(|(key, _)| key);
        unconfirmed
            .chain(tombstones)
            .map(|key| (key.clone(), self.version(key)))
            .collect()
    }

    /// Whether anything is in doubt.
    pub fn in_doubt(&self) -> bool {
        !self.unconfirmed.is_empty() || !self.tombstones.is_empty()
    }

    /// The key, sharing its text with the object that has it, and its namespace with all others in it.
    fn key(&mut self, namespace: Option<&str>, name: &str) -> ObjectKey {
        let namespace = namespace.map(|namespace| match self.namespaces.get(namespace) {
            Some(shared) => Arc::clone(shared),
            None => {
                let shared: Arc<str> = Arc::from(namespace);
                self.namespaces.insert(Arc::clone(&shared));
                shared
            }
        });
        let key = ObjectKey::from_parts(namespace, Arc::from(name));
        match self.objects.get_key_value(&key) {
            Some((shared, _)) => shared.clone(),
            None => key,
        }
    }
}
