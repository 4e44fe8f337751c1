//! Which occurrences become Events, which prolong a series, and which wait. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Occurrence, Regarding, What};

/// How long after its last occurrence a series may go on. client-go ends one after the same time.
const SERIES_END: Duration = Duration::from_mins(6);

/// How many writes an object may cause for one reason before they are held back, and how often one more is allowed
/// from then on. client-go's filter has these figures for a whole object.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_mins(5);

/// How many series, and how many objects with reasons, are remembered.
const CAPACITY: usize = 4096;

/// An Event that is to be made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) name: String,
    /// Whether it was not sent before. It may have occurred more than once all the same.
    pub(super) new: bool,
    pub(super) count: i32,
    pub(super) since: Timestamp,
    pub(super) last: Timestamp,
}

/// Remembers what was sent.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    series: HashMap<What, Series>,
    buckets: HashMap<(Regarding, String), Bucket>,
}

#[derive(Debug)]
struct Series {
    /// The Event's name once it was sent.
    name: Option<String>,
    count: i32,
    since: Timestamp,
    seen: Instant,
}

impl Correlator {
    /// What to send for an occurrence, if anything.
    pub(super) fn observe(&mut self, occurrence: &Occurrence) -> Option<Write> {
        let now = Instant::now();
        self.make_room(now);
        let what = &occurrence.what;
        let series = self
            .series
            .entry(what.clone())
            .and_modify(|series| {
                if now - series.seen >= SERIES_END {
                    *series = Series::start(occurrence, now);
                }
            })
            .or_insert_with(|| Series::start(occurrence, now));
        series.count = series.count.saturating_add(1);
        series.seen = now;

        let spender = (what.regarding.clone(), what.reason.clone());
        if !self
            .buckets
            .entry(spender)
            .or_insert_with(|| Bucket::full(now))
            .take(now)
        {
            return None;
        }
        let new = series.name.is_none();
        let name = series
            .name
            .get_or_insert_with(|| event_name(&what.regarding.name));
        Some(Write {
            name: name.clone(),
            new,
            count: series.count,
            since: series.since,
            last: occurrence.at,
        })
    }

    /// The Event of a series could not be written: the next occurrence tries a new one, with the count so far.
    pub(super) fn forget(&mut self, what: &What) {
        if let Some(series) = self.series.get_mut(what) {
            series.name = None;
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.series.len() >= CAPACITY {
            keep_latest(&mut self.series, |series| series.seen, now, SERIES_END);
        }
        if self.buckets.len() >= CAPACITY {
            // A bucket that had the time to fill up is as good as none.
            keep_latest(&mut self.buckets, |bucket| bucket.at, now, REFILL.mul_f64(BURST));
        }
    }
}

impl Series {
    fn start(occurrence: &Occurrence, now: Instant) -> Self {
        Self {
            name: None,
            count: 0,
            since: occurrence.at,
            seen: now,
        }
    }
}

/// Drops what is older than `age`, and if that is not enough, the older half of the rest.
fn keep_latest<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    seen: impl Fn(&V) -> Instant,
    now: Instant,
    age: Duration,
) {
    map.retain(|_, value| now - seen(value) < age);
    if map.len() >= CAPACITY {
        let mut times: Vec<Instant> = map.values().map(&seen).collect();
        times.sort_unstable();
        let mut surplus = times.len() / 2;
        let median = times.get(surplus).copied().unwrap_or(now);
        map.retain(|_, value| {
            let drop = surplus > 0 && seen(value) <= median;
            surplus -= usize::from(drop);
            !drop
        });
    }
}

/// A token bucket on tokio's clock.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let refilled = (now - self.at).div_duration_f64(REFILL);
        self.tokens = (self.tokens + refilled).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// The object's name and sixteen random hex digits, as long as a name may be. Some kinds allow characters that
/// Events do not.
fn event_name(object: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let object: String = object.chars().take(253 - 17).map(allowed).collect();
    format!(
        "{}.{:016x}",
        object.trim_matches(['.', '-']),
        rand::random::<u64>()
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::EventType;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn occurrence(name: &str, reason: &str, note: &str) -> Occurrence {
        Occurrence {
            what: What {
                controller: "hosted".into(),
                regarding: Regarding {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    namespace: Some("a".to_owned()),
                    name: name.to_owned(),
                    uid: Some(format!("uid-{name}")),
                },
                r#type: EventType::Warning,
                reason: reason.to_owned(),
                action: "Reconcile".to_owned(),
                note: note.to_owned(),
            },
            at: Timestamp::UNIX_EPOCH,
            resource_version: None,
        }
    }

    fn created(write: Option<Write>) -> (String, i32) {
        let write = write.unwrap();
        assert!(write.new);
        (write.name, write.count)
    }

    fn prolonged(write: Option<Write>) -> (String, i32) {
        let write = write.unwrap();
        assert!(!write.new);
        (write.name, write.count)
    }

    #[tokio::test(start_paused = true)]
    async fn what_repeats_is_a_series_until_it_ends() {
        let mut correlator = Correlator::default();
        let event = occurrence("web", "Failed", "no quota");
        let (name, count) = created(correlator.observe(&event));
        assert_eq!(count, 1);
        for expected in 2..5 {
            advance(300 * SECOND).await;
            assert_eq!(prolonged(correlator.observe(&event)), (name.clone(), expected));
        }
        advance(360 * SECOND).await;
        let (other, count) = created(correlator.observe(&event));
        assert!(other != name && count == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_note_reason_or_object_is_another_event() {
        let mut correlator = Correlator::default();
        for event in [
            occurrence("web", "Failed", "no quota"),
            occurrence("web", "Failed", "no image"),
            occurrence("web", "Broken", "no quota"),
            occurrence("api", "Failed", "no quota"),
        ] {
            assert_eq!(created(correlator.observe(&event)).1, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spam_is_held_back_and_counted() {
        let mut correlator = Correlator::default();
        let event = occurrence("web", "Failed", "no quota");
        let (name, _) = created(correlator.observe(&event));
        let sent = (0..1000).filter(|_| correlator.observe(&event).is_some()).count();
        assert_eq!(sent, 24);
        // Neither other reasons nor other objects suffer.
        created(correlator.observe(&occurrence("web", "Scheduled", "")));
        created(correlator.observe(&occurrence("api", "Failed", "no quota")));
        advance(300 * SECOND).await;
        assert_eq!(prolonged(correlator.observe(&event)), (name, 1002));
        assert_eq!(correlator.observe(&event), None);
        // Notes that differ each time are spam too.
        assert_eq!(correlator.observe(&occurrence("web", "Failed", "try 1003")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_failed_is_tried_anew_with_its_count() {
        let mut correlator = Correlator::default();
        let event = occurrence("web", "Failed", "no quota");
        let (name, _) = created(correlator.observe(&event));
        prolonged(correlator.observe(&event));
        correlator.forget(&event.what);
        let (other, count) = created(correlator.observe(&event));
        assert!(other != name && count == 3);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for number in 0..20_000 {
            if number % 10 == 0 {
                advance(SECOND / 100).await;
            }
            created(correlator.observe(&occurrence(&format!("pod-{number}"), "Failed", "")));
        }
        assert!(correlator.series.len() <= CAPACITY && correlator.buckets.len() <= CAPACITY);
        prolonged(correlator.observe(&occurrence("pod-19999", "Failed", "")));
    }

    #[test]
    fn names_fit() {
        let name = event_name(&"a.".repeat(126));
        assert_eq!(name.len(), 252);
        assert!(!name.contains(".."), "{name}");
        assert_eq!(event_name("web").len(), 20);
        assert!(event_name("system:Node").starts_with("system--ode."));
    }
}
