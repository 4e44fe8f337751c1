//! The objects of one kind, their recent past, and those who watch.

use super::journal::{Record, State};
use super::{Draft, Entry, Shared, Unwritten};
use jiff::Timestamp;
use parking_lot::RwLock;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that a watcher may lag behind before it is cut off, as the real server cuts a client that does not read.
const WATCHER_BACKLOG: usize = 16_384;

/// One change.
#[derive(Debug)]
pub(crate) struct Event {
    /// `namespace/name`, or `name`.
    pub(crate) key: Arc<str>,
    /// What was there before.
    pub(crate) old: Option<Arc<Entry>>,
    /// What came; of a deletion, the last state with the version of the deletion.
    pub(crate) new: Arc<Entry>,
    /// Whether the object is gone.
    pub(crate) deleted: bool,
    at: Timestamp,
}

/// Which state a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The present.
    Now,
    /// Just after the write of this version.
    Version(u64),
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchFrom {
    /// With what is there now, said as additions.
    State,
    /// After the write of this version.
    After(u64),
}

/// The version asked for is no longer remembered; the oldest that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest version that still can be asked for.
    pub(crate) oldest: u64,
}

/// Another write came first, or the object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed;

/// Objects in key order at one version.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The version of the state.
    pub(crate) version: u64,
    /// The objects with their keys.
    pub(crate) items: Vec<(Arc<str>, Arc<Entry>)>,
}

/// A watch that has been opened.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The state at the start, where it was asked for.
    pub(crate) state: Vec<(Arc<str>, Arc<Entry>)>,
    /// The version at the start.
    pub(crate) version: u64,
    /// Events since the version that was asked for.
    pub(crate) backlog: Vec<Arc<Event>>,
    /// Events to come; closed when the watcher lags too far behind.
    pub(crate) events: mpsc::Receiver<Arc<Event>>,
}

#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    events: mpsc::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Inner {
    items: BTreeMap<Arc<str>, Arc<Entry>>,
    log: VecDeque<Arc<Event>>,
    /// The version of the last event that was forgotten.
    forgotten: u64,
    watchers: Vec<Watcher>,
}

/// The objects of one kind.
#[derive(Debug)]
pub(crate) struct Shelf {
    shared: Arc<Shared>,
    /// Group and plural.
    kind: (Arc<str>, Arc<str>),
    inner: RwLock<Inner>,
}

impl Shelf {
    pub(crate) fn new(shared: Arc<Shared>, kind: (Arc<str>, Arc<str>)) -> Self {
        // What came before is not known here.
        let inner = Inner {
            forgotten: shared.version(),
            ..Inner::default()
        };
        Self {
            shared,
            kind,
            inner: RwLock::new(inner),
        }
    }

    /// The version of the last write of any kind.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version()
    }

    /// The object at `key`.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.inner.read().items.get(key).cloned()
    }

    /// Whether any key starts with `prefix`.
    pub(crate) fn any(&self, prefix: &str) -> bool {
        let inner = self.inner.read();
        range(&inner.items, prefix, "").next().is_some()
    }

    /// Writes `draft` to `key`, where the version there is still `seen` (none: where nothing is there).
    pub(crate) fn put(
        &self,
        key: &str,
        seen: Option<u64>,
        draft: &Draft,
    ) -> Result<Result<Arc<Entry>, Changed>, Unwritten> {
        let mut inner = self.inner.write();
        let old = inner.items.get_key_value(key);
        if old.map(|(_, entry)| entry.version) != seen {
            return Ok(Err(Changed));
        }
        let key: Arc<str> = old.map_or_else(|| Arc::from(key), |(key, _)| key.clone());
        let new = Arc::new(draft.finish(self.shared.next()));
        self.keep(&key, new.version, Some(&new))?;
        let old = inner.items.insert(key.clone(), new.clone());
        self.tell(&mut inner, key, old, new.clone(), false);
        Ok(Ok(new))
    }

    /// Deletes the object at `key`, where its version is still `seen`; `last` is its last state.
    pub(crate) fn remove(
        &self,
        key: &str,
        seen: u64,
        last: &Draft,
    ) -> Result<Result<Arc<Entry>, Changed>, Unwritten> {
        let mut inner = self.inner.write();
        if inner.items.get(key).map(|entry| entry.version) != Some(seen) {
            return Ok(Err(Changed));
        }
        let new = Arc::new(last.finish(self.shared.next()));
        self.keep(key, new.version, None)?;
        let Some((key, old)) = inner.items.remove_entry(key) else {
            return Ok(Err(Changed));
        };
        self.tell(&mut inner, key, Some(old), new.clone(), true);
        Ok(Ok(new))
    }

    /// Keeps a write before it is done.
    fn keep(&self, key: &str, version: u64, entry: Option<&Entry>) -> Result<(), Unwritten> {
        match &self.shared.journal {
            Some(journal) => journal.append(&self.record(key, version, entry)),
            None => Ok(()),
        }
    }

    fn record<'a>(&'a self, key: &'a str, version: u64, entry: Option<&'a Entry>) -> Record<'a> {
        Record {
            version,
            kind: (&self.kind.0, &self.kind.1),
            key,
            json: entry.map(Entry::json),
        }
    }

    /// Puts back what an earlier server had here.
    pub(crate) fn restore(&self, key: &str, entry: Entry) {
        self.inner.write().items.insert(key.into(), Arc::new(entry));
    }

    /// Adds every object to a state.
    pub(super) fn write_to(&self, state: &mut State) -> io::Result<()> {
        let items = self.inner.read().items.clone();
        items
            .iter()
            .try_for_each(|(key, entry)| state.add(&self.record(key, entry.version, Some(entry))))
    }

    fn tell(
        &self,
        inner: &mut Inner,
        key: Arc<str>,
        old: Option<Arc<Entry>>,
        new: Arc<Entry>,
        deleted: bool,
    ) {
        let now = self.shared.clock.now_seconds();
        let event = Arc::new(Event {
            key,
            old,
            new,
            deleted,
            at: now,
        });
        inner.watchers.retain(|watcher| {
            if event.key.starts_with(&*watcher.prefix) {
                watcher.events.try_send(event.clone()).is_ok()
            } else {
                !watcher.events.is_closed()
            }
        });
        inner.log.push_back(event);
        let history = &self.shared.history;
        let age = i64::try_from(history.age.as_secs()).unwrap_or(i64::MAX);
        while inner.log.len() > history.least {
            let Some(first) = inner.log.front() else { break };
            let old = now.as_second() - first.at.as_second() > age;
            if !old && inner.log.len() <= history.most {
                break;
            }
            inner.forgotten = first.new.version;
            inner.log.pop_front();
        }
    }

    /// Objects whose key starts with `prefix`, from the key `start` on.
    pub(crate) fn list(&self, prefix: &str, start: &str, at: At) -> Result<Listing, TooOld> {
        let inner = self.inner.read();
        let present = self.shared.version();
        let version = match at {
            At::Now => present,
            At::Version(version) => version,
        };
        if version < inner.forgotten {
            return Err(TooOld {
                oldest: inner.forgotten,
            });
        }
        let mut items: Vec<_> = range(&inner.items, prefix, start)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        if version < present {
            items = undo(items, &inner.log, prefix, start, version);
        }
        Ok(Listing { version, items })
    }

    /// Opens a watch on keys that start with `prefix`.
    pub(crate) fn watch(&self, prefix: &str, from: WatchFrom) -> Result<Watch, TooOld> {
        let mut inner = self.inner.write();
        let version = self.shared.version();
        let mut state = Vec::new();
        let mut backlog = Vec::new();
        match from {
            WatchFrom::State => {
                state
                    .extend(range(&inner.items, prefix, "").map(|(key, entry)| (key.clone(), entry.clone())));
            }
            WatchFrom::After(after) => {
                if after < inner.forgotten {
                    return Err(TooOld {
                        oldest: inner.forgotten,
                    });
                }
                let first = inner.log.partition_point(|event| event.new.version <= after);
                backlog.extend(
                    inner
                        .log
                        .range(first..)
                        .filter(|event| event.key.starts_with(prefix))
                        .cloned(),
                );
            }
        }
        let (sender, events) = mpsc::channel(WATCHER_BACKLOG);
        inner.watchers.retain(|watcher| !watcher.events.is_closed());
        inner.watchers.push(Watcher {
            prefix: prefix.into(),
            events: sender,
        });
        Ok(Watch {
            state,
            version,
            backlog,
            events,
        })
    }

    /// Ends every watch, as a server does that goes away.
    pub(crate) fn drop_watchers(&self) {
        self.inner.write().watchers.clear();
    }

    /// Forgets all events.
    pub(crate) fn compact(&self) {
        let mut inner = self.inner.write();
        inner.log.clear();
        inner.forgotten = self.shared.version();
    }
}

/// Entries whose key starts with `prefix`, from the key `start` on.
fn range<'a>(
    items: &'a BTreeMap<Arc<str>, Arc<Entry>>,
    prefix: &'a str,
    start: &'a str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Entry>)> {
    let from = if start > prefix { start } else { prefix };
    items
        .range::<str, _>((Bound::Included(from), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

/// The items as they were just after the write of `version`.
fn undo(
    items: Vec<(Arc<str>, Arc<Entry>)>,
    log: &VecDeque<Arc<Event>>,
    prefix: &str,
    start: &str,
    version: u64,
) -> Vec<(Arc<str>, Arc<Entry>)> {
    let first = log.partition_point(|event| event.new.version <= version);
    let mut then: BTreeMap<_, _> = items.into_iter().collect();
    for event in log.range(first..).rev() {
        if !event.key.starts_with(prefix) || &*event.key < start {
            continue;
        }
        match &event.old {
            Some(old) => then.insert(event.key.clone(), old.clone()),
            None => then.remove(&event.key),
        };
    }
    then.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{History, Store, encode};
    use super::*;
    use clusterwright_clock::Clock;
    use serde_json::json;
    use std::time::Duration;

    fn shelf(most: usize) -> Arc<Shelf> {
        let history = History {
            age: Duration::from_secs(75),
            least: 1,
            most,
        };
        Store::new(history, Clock::system()).shelf(&"".into(), &"configmaps".into())
    }

    fn draft(data: &str) -> Draft {
        encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data}), 0)
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.items.iter().map(|(key, _)| &**key).collect()
    }

    #[tokio::test]
    async fn a_writer_that_saw_another_version_is_refused() {
        let shelf = shelf(100);
        let first = shelf.put("a/x", None, &draft("1")).unwrap().unwrap();
        assert_eq!(shelf.put("a/x", None, &draft("2")), Ok(Err(Changed)));
        let second = shelf
            .put("a/x", Some(first.version), &draft("2"))
            .unwrap()
            .unwrap();
        assert!(second.version > first.version);
        assert_eq!(shelf.remove("a/x", first.version, &draft("2")), Ok(Err(Changed)));
        shelf.remove("a/x", second.version, &draft("2")).unwrap().unwrap();
        assert!(shelf.get("a/x").is_none());
    }

    impl PartialEq for Entry {
        fn eq(&self, other: &Self) -> bool {
            self.json() == other.json()
        }
    }

    #[tokio::test]
    async fn the_past_can_be_listed_until_it_is_forgotten() {
        let shelf = shelf(100);
        let x = shelf.put("a/x", None, &draft("1")).unwrap().unwrap();
        let y = shelf.put("a/y", None, &draft("1")).unwrap().unwrap();
        shelf.remove("a/x", x.version, &draft("1")).unwrap().unwrap();
        shelf.put("a/z", None, &draft("1")).unwrap().unwrap();
        shelf.put("b/z", None, &draft("1")).unwrap().unwrap();
        let then = shelf.list("a/", "", At::Version(y.version)).unwrap();
        assert_eq!(names(&then), ["a/x", "a/y"]);
        let rest = shelf.list("a/", "a/y", At::Version(y.version)).unwrap();
        assert_eq!(names(&rest), ["a/y"]);
        assert_eq!(names(&shelf.list("a/", "", At::Now).unwrap()), ["a/y", "a/z"]);
        shelf.compact();
        let refused = shelf.list("a/", "", At::Version(y.version));
        assert!(matches!(refused, Err(TooOld { oldest: 6 })));
    }

    #[tokio::test]
    async fn a_watch_replays_what_came_since_and_then_follows() {
        let shelf = shelf(2);
        let x = shelf.put("a/x", None, &draft("1")).unwrap().unwrap();
        shelf.put("b/x", None, &draft("1")).unwrap().unwrap();
        let mut watch = shelf.watch("a/", WatchFrom::After(x.version - 1)).unwrap();
        assert_eq!(watch.backlog.len(), 1);
        shelf.remove("a/x", x.version, &draft("1")).unwrap().unwrap();
        let event = watch.events.recv().await.unwrap();
        assert!(event.deleted);
        assert!(event.new.version > x.version);
        let refused = shelf.watch("a/", WatchFrom::After(x.version - 1));
        assert!(matches!(refused, Err(TooOld { .. })));
        shelf.drop_watchers();
        assert!(watch.events.recv().await.is_none());
    }
}
