//! Objects at rest.
//!
//! Each kind has a [`Shelf`]: its objects in key order, the events of the recent past, and those who watch. All
//! shelves draw resource versions from one counter, so that a version orders writes of all kinds. What a write
//! should be is computed without any lock; [`Shelf::put`] and [`Shelf::remove`] only compare the version that the
//! writer saw with the one that is there, splice the new version in and tell the watchers.

mod entry;
mod shelf;

pub(crate) use entry::{Draft, Entry, encode};
pub(crate) use shelf::{At, Event, Shelf, WatchFrom};

use clusterwright_clock::Clock;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much of the past a shelf keeps for watches and paged lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    /// Events younger than this stay, up to `most`.
    pub(crate) age: Duration,
    /// So many stay, however old.
    pub(crate) least: usize,
    /// No more than this stay.
    pub(crate) most: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(75),
            least: 1024,
            most: 32_768,
        }
    }
}

/// The counter of resource versions and what every shelf shares.
#[derive(Debug)]
pub(crate) struct Shared {
    version: AtomicU64,
    pub(crate) history: History,
    pub(crate) clock: Clock,
}

impl Shared {
    /// The version of the last write.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// The version of the next write; called with the shelf locked.
    fn next(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Shelves by group and plural.
type Shelves = HashMap<(Arc<str>, Arc<str>), Arc<Shelf>>;

/// All shelves.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    shelves: RwLock<Shelves>,
}

impl Store {
    pub(crate) fn new(history: History, clock: Clock) -> Self {
        Self {
            // A version of zero means "any" in requests, so that the first state is one.
            shared: Arc::new(Shared {
                version: AtomicU64::new(1),
                history,
                clock,
            }),
            shelves: RwLock::default(),
        }
    }

    /// The version of the last write of any kind.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version()
    }

    /// The shelf of a kind, made where it is missing.
    pub(crate) fn shelf(&self, group: &Arc<str>, plural: &Arc<str>) -> Arc<Shelf> {
        let key = (group.clone(), plural.clone());
        if let Some(shelf) = self.shelves.read().get(&key) {
            return shelf.clone();
        }
        self.shelves
            .write()
            .entry(key)
            .or_insert_with(|| Arc::new(Shelf::new(self.shared.clone())))
            .clone()
    }

    /// Forgets all events, so that every older version is expired.
    pub(crate) fn compact(&self) {
        for shelf in self.shelves.read().values() {
            shelf.compact();
        }
    }
}
