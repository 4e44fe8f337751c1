//! Objects at rest.
//!
//! Each kind has a [`Shelf`]: its objects in key order, the events of the recent past, and those who watch. All
//! shelves draw resource versions from one counter, so that a version orders writes of all kinds. What a write
//! should be is computed without any lock; [`Shelf::put`] and [`Shelf::remove`] only compare the version that the
//! writer saw with the one that is there, splice the new version in, keep it in the [`journal`] where there is one,
//! and tell the watchers.

mod entry;
mod journal;
mod shelf;

pub(crate) use entry::{Draft, Entry, encode};
pub(crate) use journal::{Journal, Kind, Objects, Recovered, private};
pub use journal::{OpenError, Unwritten};
pub(crate) use shelf::{At, Changed, Event, Shelf, WatchFrom};

use clusterwright_clock::Clock;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
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
    pub(crate) journal: Option<Journal>,
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
    shelves: Arc<RwLock<Shelves>>,
}

impl Store {
    pub(crate) fn new(history: History, clock: Clock) -> Self {
        // A version of zero means "any" in requests, so that the first state is one.
        Self::at(1, None, history, clock)
    }

    /// A store that goes on after the write of `version` and keeps what is written.
    pub(crate) fn resume(version: u64, journal: Journal, history: History, clock: Clock) -> Self {
        Self::at(version.max(1), Some(journal), history, clock)
    }

    fn at(version: u64, journal: Option<Journal>, history: History, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                version: AtomicU64::new(version),
                journal,
                history,
                clock,
            }),
            shelves: Arc::default(),
        }
    }

    /// Ends all writes that are to be kept.
    pub(crate) fn close(&self) {
        if let Some(journal) = &self.shared.journal {
            journal.close();
        }
    }

    /// Keeps the journal short from now on, in a thread that ends with the store. Called when all that was recovered
    /// is on its shelves: a state is written of those.
    pub(crate) fn keep_short(&self) -> std::io::Result<()> {
        let Some(journal) = &self.shared.journal else {
            return Ok(());
        };
        let (sender, grown) = mpsc::channel();
        let (shared, shelves) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.shelves));
        let work = move || {
            while grown.recv().is_ok() {
                let (Some(shared), Some(shelves)) = (shared.upgrade(), shelves.upgrade()) else {
                    return;
                };
                compact(&shared, &shelves);
            }
        };
        thread::Builder::new().name("journal".to_owned()).spawn(work)?;
        journal.tell(sender);
        Ok(())
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
            .or_insert_with_key(|kind| Arc::new(Shelf::new(self.shared.clone(), kind.clone())))
            .clone()
    }

    /// Forgets all events, so that every older version is expired.
    pub(crate) fn compact(&self) {
        for shelf in self.shelves.read().values() {
            shelf.compact();
        }
    }
}

/// Writes all objects in the place of the log so far.
fn compact(shared: &Shared, shelves: &RwLock<Shelves>) {
    let Some(journal) = &shared.journal else { return };
    let shelves: Vec<Arc<Shelf>> = shelves.read().values().cloned().collect();
    let done = journal.compact(&|| shared.version(), &|state| {
        shelves.iter().try_for_each(|shelf| shelf.write_to(state))
    });
    if let Err(error) = done {
        tracing::warn!(%error, "failed to shorten the journal: it grows until that can be done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_cannot_be_kept_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, recovered) = Journal::open(folder.path()).unwrap();
        let store = Store::resume(recovered.version, journal, History::default(), Clock::system());
        let shelf = store.shelf(&"".into(), &"configmaps".into());
        let draft = |data: &str| encode(&json!({"kind": "ConfigMap", "data": data}), 0);
        let first = shelf.put("a/x", None, &draft("1")).unwrap().unwrap();
        let mut watch = shelf.watch("", WatchFrom::State).unwrap();

        store.shared.journal.as_ref().unwrap().fill();
        let refused = shelf.put("a/x", Some(first.version), &draft("2")).unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains("000000000001.log: No space left on device"),
            "{said}"
        );
        // The log could not be made as it was: nothing may follow.
        let refused = shelf.put("a/y", None, &draft("2")).unwrap_err();
        assert!(
            refused.to_string().contains("start the server again"),
            "{refused}"
        );
        assert!(shelf.remove("a/x", first.version, &draft("1")).is_err());

        assert_eq!(shelf.get("a/x").unwrap().version, first.version);
        assert!(shelf.get("a/y").is_none());
        assert!(watch.events.try_recv().is_err());
        drop((store, shelf));
        let (_, recovered) = Journal::open(folder.path()).unwrap();
        assert_eq!(recovered.version, first.version);
        assert_eq!(recovered.objects.len(), 1);
    }
}
