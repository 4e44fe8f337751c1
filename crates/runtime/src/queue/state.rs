//! The queue's rules, without waiting: every function says what time it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, hash_map};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::limit::Bucket;
use super::{End, Item, QueueOptions};
use crate::metrics::QueueMetrics;

/// One item in so many is the one that has waited longest, whatever its priority: that keeps low priorities alive
/// while higher ones never run dry, at a cost that nobody notices.
pub(super) const OLDEST_EVERY: u32 = 8;

/// Where a key is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Nowhere: only its failures are remembered.
    Idle,
    Ready {
        priority: i32,
        number: u64,
    },
    Delayed {
        priority: i32,
        at: Instant,
        number: u64,
    },
    /// Being worked on, and what comes after.
    Running {
        next: Option<Next>,
    },
}

/// When a key is due after the work on it ends.
#[derive(Debug, Clone, Copy)]
struct Next {
    priority: i32,
    /// `None` is at once.
    at: Option<Instant>,
}

impl Next {
    /// The earlier of the two times with the higher of the two priorities.
    fn merge(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            priority: self.priority.max(other.priority),
            at: match (self.at, other.at) {
                (Some(one), Some(two)) => Some(one.min(two)),
                _ => None,
            },
        }
    }
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// When it became ready.
    since: Instant,
    failures: u32,
    /// Until when the last failure's back-off runs. A failure before then is not counted again: it says nothing
    /// new, however often events bring the key back in the meantime.
    hold: Option<Instant>,
}

/// What there is to do now.
#[derive(Debug)]
pub(super) enum Pop<K> {
    Item(Item<K>),
    /// Nothing before then.
    Until(Instant),
    Empty,
}

#[derive(Debug)]
pub(super) struct State<K> {
    entries: HashMap<K, Entry, ahash::RandomState>,
    /// Ready keys by priority, highest first, then by the order in which they became ready.
    ready: BTreeMap<Reverse<i32>, BTreeMap<u64, K>>,
    delayed: BTreeMap<(Instant, u64), K>,
    numbers: u64,
    turn: u32,
    options: QueueOptions,
    bucket: Option<Bucket>,
    metrics: Option<QueueMetrics>,
}

impl<K: Hash + Eq + Clone> State<K> {
    pub fn new(options: QueueOptions, metrics: Option<QueueMetrics>) -> Self {
        Self {
            entries: HashMap::default(),
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            numbers: 0,
            turn: 0,
            bucket: options.rate_limit.map(Bucket::new),
            options,
            metrics,
        }
    }

    /// Makes a key due, at once or at a time. Says whether a waiting worker has something new to look at.
    pub fn add(&mut self, key: K, priority: i32, at: Option<Instant>, now: Instant) -> bool {
        let at = at.filter(|at| *at > now);
        let next = Next { priority, at };
        let place = self.entries.get(&key).map_or(Place::Idle, |entry| entry.place);
        match place {
            Place::Running { next: waiting } => {
                if waiting.is_none() {
                    self.count_added();
                }
                let next = Some(next.merge(waiting));
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.place = Place::Running { next };
                }
                false
            }
            Place::Ready {
                priority: waiting, ..
            } if priority <= waiting => false,
            // A delay never puts off what is ready, but its priority counts.
            Place::Ready {
                priority: waiting,
                number,
            } => {
                self.unready(waiting, number);
                self.make_ready(key, priority, number, now);
                true
            }
            Place::Delayed {
                priority: waiting,
                at: due,
                number,
            } => {
                let next = next.merge(Some(Next {
                    priority: waiting,
                    at: Some(due),
                }));
                self.delayed.remove(&(due, number));
                self.place(key, next, now)
            }
            Place::Idle => {
                self.count_added();
                self.place(key, next, now)
            }
        }
    }

    /// Takes the next key to work on.
    pub fn pop(&mut self, now: Instant) -> Pop<K> {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                break;
            }
            let key = first.remove();
            if let Some(Place::Delayed { priority, .. }) = self.entries.get(&key).map(|entry| entry.place) {
                let number = self.number();
                self.make_ready(key, priority, number, now);
            }
        }
        self.turn = (self.turn + 1) % OLDEST_EVERY;
        let level = if self.turn == 0 {
            let oldest = self
                .ready
                .iter()
                .filter_map(|(level, keys)| Some((keys.first_key_value()?.0, level)));
            oldest.min().map(|(_, level)| *level)
        } else {
            self.ready.first_key_value().map(|(level, _)| *level)
        };
        let next = level.and_then(|level| {
            let number = *self.ready.get(&level)?.first_key_value()?.0;
            Some((level.0, self.unready(level.0, number)?))
        });
        let Some((priority, key)) = next else {
            return match self.delayed.first_key_value() {
                Some(((at, _), _)) => Pop::Until(*at),
                None => Pop::Empty,
            };
        };
        let mut waited = Duration::ZERO;
        let mut failures = 0;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = Place::Running { next: None };
            waited = now.saturating_duration_since(entry.since);
            failures = entry.failures;
        }
        if let Some(metrics) = &self.metrics {
            metrics.waited(waited);
        }
        Pop::Item(Item {
            key,
            priority,
            failures,
        })
    }

    /// The work on a key has ended. Says whether a waiting worker has something new to look at.
    pub fn done(&mut self, item: Item<K>, end: End, now: Instant) -> bool {
        let Item { key, priority, .. } = item;
        let hash_map::Entry::Occupied(mut occupied) = self.entries.entry(key) else {
            return false;
        };
        let entry = occupied.get_mut();
        let Place::Running { next } = entry.place else {
            return false;
        };
        let retry = match end {
            End::Done => None,
            End::RequeueAfter(delay) => Some(now + delay),
            End::Failed { at_least } => {
                if entry.hold.is_none_or(|hold| hold <= now) {
                    entry.failures = entry.failures.saturating_add(1);
                    let tokens = self
                        .bucket
                        .as_mut()
                        .map_or(Duration::ZERO, |bucket| bucket.reserve(now));
                    let delay = self.options.backoff.delay(entry.failures).max(tokens);
                    entry.hold = Some(now + delay);
                }
                let hold = entry.hold.unwrap_or(now).max(now + at_least);
                entry.hold = Some(hold);
                Some(hold)
            }
        };
        if !matches!(end, End::Failed { .. }) {
            entry.failures = 0;
            entry.hold = None;
        }
        entry.place = Place::Idle;
        let forget = entry.failures == 0;
        if let (Some(_), Some(metrics)) = (retry, &self.metrics) {
            metrics.retried();
        }
        let next = match retry {
            Some(at) => Some(
                Next {
                    priority,
                    at: Some(at),
                }
                .merge(next),
            ),
            None => next,
        };
        match next {
            Some(next) => {
                let key = occupied.key().clone();
                self.place(key, next, now)
            }
            None => {
                if forget {
                    occupied.remove();
                }
                false
            }
        }
    }

    /// How many keys are ready.
    pub fn ready(&self) -> usize {
        self.ready.values().map(BTreeMap::len).sum()
    }

    /// How many keys wait for their time.
    pub fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Puts an idle key where it belongs. Says whether that changes what a waiting worker waits for.
    fn place(&mut self, key: K, next: Next, now: Instant) -> bool {
        let number = self.number();
        let Some(at) = next.at.filter(|at| *at > now) else {
            self.make_ready(key, next.priority, number, now);
            return true;
        };
        let earliest = self
            .delayed
            .first_key_value()
            .is_none_or(|((first, _), _)| at < *first);
        self.delayed.insert((at, number), key.clone());
        let place = Place::Delayed {
            priority: next.priority,
            at,
            number,
        };
        self.enter(key, place, now);
        earliest
    }

    fn make_ready(&mut self, key: K, priority: i32, number: u64, now: Instant) {
        self.ready
            .entry(Reverse(priority))
            .or_default()
            .insert(number, key.clone());
        if let Some(metrics) = &self.metrics {
            metrics.depth_changed(priority, 1);
        }
        self.enter(key, Place::Ready { priority, number }, now);
    }

    /// Takes a key out of the ready ones; the caller says where it is now.
    fn unready(&mut self, priority: i32, number: u64) -> Option<K> {
        let keys = self.ready.get_mut(&Reverse(priority))?;
        let key = keys.remove(&number)?;
        if keys.is_empty() {
            self.ready.remove(&Reverse(priority));
        }
        if let Some(metrics) = &self.metrics {
            metrics.depth_changed(priority, -1);
        }
        Some(key)
    }

    fn enter(&mut self, key: K, place: Place, now: Instant) {
        let entry = self.entries.entry(key).or_insert(Entry {
            place,
            since: now,
            failures: 0,
            hold: None,
        });
        // A key that only rises in priority has waited since before.
        if !matches!((entry.place, place), (Place::Ready { .. }, Place::Ready { .. })) {
            entry.since = now;
        }
        entry.place = place;
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn count_added(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.added();
        }
    }
}
