//! The queue against a model that is too simple to be wrong: it knows when each key is due and nothing of how the
//! queue finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::state::{OLDEST_EVERY, Pop, State};
use super::*;

const BACKOFF: Backoff =
    Backoff::exponential(Duration::from_millis(5), Duration::from_secs(1)).without_jitter();

#[derive(Clone, Debug)]
enum Step {
    Add {
        key: u8,
        priority: i32,
    },
    AddAfter {
        key: u8,
        priority: i32,
        millis: u64,
    },
    Pop,
    /// Ends the work on one of the keys being worked on.
    End {
        which: usize,
        end: End,
    },
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let priority = || prop::sample::select(vec![priority::INITIAL, priority::NORMAL, priority::DELETION]);
    let end = prop_oneof![
        3 => Just(End::Done),
        1 => (1..50_u64).prop_map(|millis| End::RequeueAfter(Duration::from_millis(millis))),
        3 => Just(End::Failed { at_least: Duration::ZERO }),
        1 => (0..50_u64).prop_map(|millis| End::Failed { at_least: Duration::from_millis(millis) }),
    ];
    prop_oneof![
        4 => (0..6_u8, priority()).prop_map(|(key, priority)| Step::Add { key, priority }),
        1 => (0..6_u8, priority(), 0..40_u64)
            .prop_map(|(key, priority, millis)| Step::AddAfter { key, priority, millis }),
        4 => Just(Step::Pop),
        3 => (0..6_usize, end).prop_map(|(which, end)| Step::End { which, end }),
        2 => (0..40_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

#[derive(Debug, Default)]
struct Key {
    /// Whether it is being worked on.
    running: bool,
    /// When it is due next, and with what priority.
    due: Option<(Instant, i32)>,
    failures: u32,
    hold: Option<Instant>,
}

impl Key {
    fn want(&mut self, at: Instant, priority: i32) {
        self.due = Some(match self.due {
            Some((due, waiting)) => (due.min(at), waiting.max(priority)),
            None => (at, priority),
        });
    }
}

#[derive(Default)]
struct Model(BTreeMap<u8, Key>);

impl Model {
    fn key(&mut self, key: u8) -> &mut Key {
        self.0.entry(key).or_default()
    }

    /// Keys that may be worked on now.
    fn ready(&self, now: Instant) -> impl Iterator<Item = (u8, i32)> {
        let due = move |key: &Key| key.due.filter(|(at, _)| !key.running && *at <= now);
        self.0
            .iter()
            .filter_map(move |(name, key)| Some((*name, due(key)?.1)))
    }

    fn popped(&mut self, item: &Item<u8>, now: Instant, turn: u32) -> Result<(), TestCaseError> {
        let ready: Vec<_> = self.ready(now).collect();
        prop_assert!(
            ready.contains(&(item.key, item.priority)),
            "{item:?} is not due: {ready:?}"
        );
        if !turn.is_multiple_of(OLDEST_EVERY) {
            let highest = ready.iter().map(|(_, priority)| *priority).max();
            prop_assert_eq!(Some(item.priority), highest, "a lower priority overtook");
        }
        let key = self.key(item.key);
        prop_assert_eq!(item.failures, key.failures);
        key.running = true;
        key.due = None;
        Ok(())
    }

    fn ended(&mut self, item: &Item<u8>, end: End, now: Instant) {
        let key = self.key(item.key);
        key.running = false;
        match end {
            End::Done => (key.failures, key.hold) = (0, None),
            End::RequeueAfter(after) => {
                (key.failures, key.hold) = (0, None);
                key.want(now + after, item.priority);
            }
            End::Failed { at_least } => {
                let hold = match key.hold.filter(|hold| *hold > now) {
                    Some(hold) => hold,
                    None => {
                        key.failures += 1;
                        now + BACKOFF.delay(key.failures)
                    }
                };
                let hold = hold.max(now + at_least);
                key.hold = Some(hold);
                key.want(hold, item.priority);
            }
        }
    }
}

fn options() -> QueueOptions {
    QueueOptions {
        backoff: BACKOFF,
        rate_limit: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// No key is worked on twice at once, none is taken before it is due, none that is due is ever overlooked,
    /// and priorities hold.
    #[test]
    fn the_queue_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut queue = State::new(options(), None);
        let mut model = Model::default();
        let mut running: Vec<Item<u8>> = Vec::new();
        let mut now = Instant::now();
        let mut turn = 0;
        // In the end, all work is done and all time has passed: what is due must come.
        let rest = (0..40).flat_map(|_| {
            [Step::Pop, Step::End { which: 0, end: End::Done }, Step::Pass { millis: 1000 }]
        });
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Add { key, priority } => {
                    queue.add(key, priority, None, now);
                    model.key(key).want(now, priority);
                }
                Step::AddAfter { key, priority, millis } => {
                    let at = now + Duration::from_millis(millis);
                    queue.add(key, priority, Some(at), now);
                    model.key(key).want(at, priority);
                }
                Step::Pop => {
                    turn += 1;
                    match queue.pop(now) {
                        Pop::Item(item) => {
                            model.popped(&item, now, turn)?;
                            running.push(item);
                        }
                        Pop::Until(at) => {
                            prop_assert_eq!(model.ready(now).next(), None, "overlooked");
                            let due = model.0.values().filter(|key| !key.running).filter_map(|key| key.due);
                            prop_assert_eq!(due.map(|(due, _)| due).min(), Some(at), "would oversleep");
                        }
                        Pop::Empty => {
                            let lost = model.0.values().find(|key| !key.running && key.due.is_some());
                            prop_assert!(lost.is_none(), "lost: {lost:?}");
                        }
                    }
                }
                Step::End { which, end } => {
                    if running.is_empty() {
                        continue;
                    }
                    let item = running.swap_remove(which % running.len());
                    model.ended(&item, end, now);
                    queue.done(item, end, now);
                }
                Step::Pass { millis } => now += Duration::from_millis(millis),
            }
        }
        prop_assert!(model.0.values().all(|key| key.due.is_none() && !key.running));
    }

    /// Within a priority, keys come in the order in which they became ready.
    #[test]
    fn equal_priorities_are_first_in_first_out(keys in prop::collection::vec(0..50_u8, 1..100)) {
        let mut queue = State::new(options(), None);
        let now = Instant::now();
        for key in &keys {
            queue.add(*key, 0, None, now);
        }
        let mut expected: Vec<u8> = Vec::new();
        for key in keys {
            if !expected.contains(&key) {
                expected.push(key);
            }
        }
        let mut popped = Vec::new();
        while let Pop::Item(item) = queue.pop(now) {
            popped.push(item.key);
        }
        prop_assert_eq!(popped, expected);
    }

    /// However many keys of high priority keep coming, a key waits for at most so many others as are older than it,
    /// times a constant.
    #[test]
    fn nothing_starves(older in 0..20_u32, fresh in 1..20_u32) {
        let mut queue = State::new(options(), None);
        let now = Instant::now();
        for key in 0..older {
            queue.add(key, priority::NORMAL, None, now);
        }
        let victim = u32::MAX;
        queue.add(victim, priority::INITIAL, None, now);
        let mut next = older;
        for pops in 1.. {
            for _ in 0..fresh {
                queue.add(next, priority::DELETION, None, now);
                next += 1;
            }
            let Pop::Item(item) = queue.pop(now) else { panic!("the queue is never empty here") };
            if item.key == victim {
                break;
            }
            prop_assert!(pops < OLDEST_EVERY * (older + 1), "starved");
            queue.done(item, End::Done, now);
        }
    }
}

#[test]
fn an_event_during_the_back_off_neither_waits_nor_counts() {
    let mut queue = State::new(options(), None);
    let start = Instant::now();
    let pop = |queue: &mut State<u8>, now| match queue.pop(now) {
        Pop::Item(item) => item,
        other => panic!("nothing to do: {other:?}"),
    };
    let failed = End::Failed {
        at_least: Duration::ZERO,
    };
    queue.add(1, 0, None, start);
    let item = pop(&mut queue, start);
    queue.done(item, failed, start);
    for _ in 0..10 {
        queue.add(1, 0, None, start);
        let item = pop(&mut queue, start);
        assert_eq!(
            item.failures, 1,
            "failures before the back-off has passed count once"
        );
        queue.done(item, failed, start);
    }
    let Pop::Until(at) = queue.pop(start) else {
        panic!("a retry is due later")
    };
    assert_eq!(at - start, Duration::from_millis(5));
    let item = pop(&mut queue, at);
    queue.done(item, failed, at);
    let Pop::Until(second) = queue.pop(at) else {
        panic!("a retry is due later")
    };
    assert_eq!(second - at, Duration::from_millis(10));
    let item = pop(&mut queue, second);
    queue.done(item, End::Done, second);
    queue.add(1, 0, None, second);
    assert_eq!(pop(&mut queue, second).failures, 0, "success resets");
}

#[tokio::test(start_paused = true)]
async fn the_bucket_slows_failures_of_all_keys_together() {
    let limit = RateLimit {
        interval: Duration::from_secs(1),
        burst: 3,
    };
    let queue = Queue::new(
        QueueOptions {
            backoff: BACKOFF,
            rate_limit: Some(limit),
        },
        None,
    );
    for key in 0..6 {
        queue.add(key, 0);
        let item = queue.next().await;
        queue.done(
            item,
            End::Failed {
                at_least: Duration::ZERO,
            },
        );
    }
    let start = Instant::now();
    let mut waits = Vec::new();
    for _ in 0..6 {
        let item = queue.next().await;
        waits.push(start.elapsed().as_secs());
        queue.done(item, End::Done);
    }
    assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_worker_wakes_for_what_is_due_earlier() {
    let queue = Arc::new(Queue::new(options(), None));
    queue.add_after("late", 0, Duration::from_secs(100));
    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.next().await.key }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.add_after("early", 0, Duration::from_secs(1));
    let start = Instant::now();
    assert_eq!(waiting.await.unwrap(), "early");
    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(queue.next().await.key, "late");
    assert_eq!(start.elapsed().as_secs(), 99);
}

/// Many producers and workers on real threads: each key's last state is seen, and no key is worked on twice at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads() {
    const KEYS: usize = 8;
    const WRITES: usize = 2000;
    let queue = Arc::new(Queue::<usize>::new(options(), None));
    let wanted: Arc<[AtomicUsize; KEYS]> = Arc::default();
    let seen: Arc<[AtomicUsize; KEYS]> = Arc::default();
    let busy: Arc<[AtomicUsize; KEYS]> = Arc::default();
    for _ in 0..4 {
        let (queue, wanted, seen, busy) = (queue.clone(), wanted.clone(), seen.clone(), busy.clone());
        tokio::spawn(async move {
            loop {
                let item = queue.next().await;
                assert_eq!(busy[item.key].fetch_add(1, Ordering::SeqCst), 0, "two at once");
                let value = wanted[item.key].load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                seen[item.key].store(value, Ordering::SeqCst);
                busy[item.key].fetch_sub(1, Ordering::SeqCst);
                queue.done(item, End::Done);
            }
        });
    }
    let producers = (0..2).map(|producer| {
        let (queue, wanted) = (queue.clone(), wanted.clone());
        tokio::spawn(async move {
            for write in 0..WRITES {
                let key = (write * (producer + 1)) % KEYS;
                wanted[key].fetch_add(1, Ordering::SeqCst);
                queue.add(key, 0);
                if write % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for producer in producers {
        producer.await.unwrap();
    }
    let all_seen =
        || (0..KEYS).all(|key| seen[key].load(Ordering::SeqCst) == wanted[key].load(Ordering::SeqCst));
    let converged = async {
        while !all_seen() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), converged)
        .await
        .expect("a wake-up was lost");
}
