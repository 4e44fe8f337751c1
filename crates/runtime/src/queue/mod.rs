//! Which key to reconcile next, and when.
//!
//! A key is worked on by one worker at a time and waits at most once; what is added while it is being worked on
//! brings it back afterwards. Ready keys come by priority and, within one, in the order in which they became ready;
//! one in eight is the oldest of all, so that nothing starves. Failures are tried again after a back-off of their
//! key, and together no faster than a token bucket allows.
//!
//! The rules ([`state`]) know no waiting and no time but what they are told; this module adds both.

mod dispatch;
mod limit;
#[cfg(test)]
mod model;
mod state;

use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use dispatch::dispatch;
pub use limit::{Backoff, RateLimit};
use state::{Pop, State};

use crate::metrics::QueueMetrics;

/// Priorities that the framework itself gives; a map function may give any other.
pub mod priority {
    /// What was there when the controller started, and what comes by again after the resync period: nothing waits
    /// for it.
    pub const INITIAL: i32 = -100;
    /// A change.
    pub const NORMAL: i32 = 0;
    /// An object that is being deleted or is gone: whoever deletes waits for it.
    pub const DELETION: i32 = 10;
}

/// How a queue behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// The wait of one key after failures. 5 ms to 300 s by default.
    pub backoff: Backoff,
    /// The rate at which failures of all keys together are tried again; `None` is without limit. Ten a second with
    /// a burst of a hundred by default.
    pub rate_limit: Option<RateLimit>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            rate_limit: Some(RateLimit::default()),
        }
    }
}

/// A key to work on. It must come back through [`Queue::done`].
#[derive(Debug, PartialEq, Eq)]
pub struct Item<K> {
    /// The key.
    pub key: K,
    /// The priority that it had.
    pub priority: i32,
    /// How often the work on it failed in a row.
    pub failures: u32,
}

/// How the work on a key has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing left to do. Forgets failures.
    Done,
    /// It is due again after this time, with the same priority. Forgets failures.
    RequeueAfter(Duration),
    /// It failed and is due again after its back-off, and not before this time has passed.
    Failed {
        /// Zero, or what the server asked for.
        at_least: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    news: Notify,
}

impl<K: Hash + Eq + Clone> Queue<K> {
    /// An empty queue, and where it counts.
    pub fn new(options: QueueOptions, metrics: Option<QueueMetrics>) -> Self {
        Self {
            state: Mutex::new(State::new(options, metrics)),
            news: Notify::new(),
        }
    }

    /// Makes a key due. Of a key that waits already, the priority may rise.
    pub fn add(&self, key: K, priority: i32) {
        self.change(|state, now| state.add(key, priority, None, now));
    }

    /// Makes a key due after a time, unless it is due earlier anyway.
    pub fn add_after(&self, key: K, priority: i32, delay: Duration) {
        self.change(|state, now| state.add(key, priority, Some(now + delay), now));
    }

    /// The next key to work on, as soon as there is one. Dropping the future loses nothing.
    pub async fn next(&self) -> Item<K> {
        loop {
            let pop = {
                let mut state = self.state.lock();
                let pop = state.pop(Instant::now());
                if matches!(pop, Pop::Item(_)) && (state.ready() > 0 || state.delayed() > 0) {
                    // Another worker may be waiting for the same news.
                    self.news.notify_one();
                }
                pop
            };
            match pop {
                Pop::Item(item) => return item,
                // `notify_one` keeps its news for whoever asks next, so nothing is lost between the look and the wait.
                Pop::Empty => self.news.notified().await,
                Pop::Until(at) => {
                    let _ = tokio::time::timeout_at(at, self.news.notified()).await;
                }
            }
        }
    }

    /// The work on a key has ended.
    pub fn done(&self, item: Item<K>, end: End) {
        self.change(|state, now| state.done(item, end, now));
    }

    /// The work on a key has ended: takes the next one, where one is ready.
    fn done_and_next(&self, item: Item<K>, end: End) -> Option<Item<K>> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut news = state.done(item, end, now);
        let next = match state.pop(now) {
            Pop::Item(item) => {
                news |= state.ready() > 0;
                Some(item)
            }
            Pop::Until(_) | Pop::Empty => None,
        };
        drop(state);
        if news {
            self.news.notify_one();
        }
        next
    }

    /// How many keys are ready.
    pub fn ready(&self) -> usize {
        self.state.lock().ready()
    }

    /// How many keys wait for their time.
    pub fn delayed(&self) -> usize {
        self.state.lock().delayed()
    }

    fn change(&self, change: impl FnOnce(&mut State<K>, Instant) -> bool) {
        let now = Instant::now();
        if change(&mut self.state.lock(), now) {
            self.news.notify_one();
        }
    }
}
