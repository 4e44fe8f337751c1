//! The store's rules: lists, watches and answers to our own writes arrive in any order, and the newest state wins.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::owned::OwnedFields;
use super::store::{Effect, News, Origin, Store};
use crate::object::ObjectKey;

fn news(name: &str, version: u64) -> News {
    News {
        namespace: Some("ns".into()),
        name: name.into(),
        uid: Some("first".into()),
        version,
        json: version.to_string().into_bytes().into(),
        owned: OwnedFields::default(),
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("ns", name)
}

fn put(store: &mut Store, name: &str, version: u64, origin: Origin) -> &'static str {
    word(&store.put(news(name, version), origin, Instant::now()))
}

fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::None => "none",
        Effect::Added { .. } => "added",
        Effect::Updated { .. } => "updated",
        Effect::Deleted { .. } => "deleted",
    }
}

/// A store that has listed one object at version 5.
fn listed() -> Store {
    let mut store = Store::default();
    let pass = store.begin(false);
    assert_eq!(put(&mut store, "a", 5, Origin::Listed(pass)), "added");
    assert_eq!(list_ends(&mut store, pass), Vec::<ObjectKey>::new());
    store
}

fn list_ends(store: &mut Store, pass: u32) -> Vec<ObjectKey> {
    let keys = store.end(pass, None);
    for key in &keys {
        assert_eq!(word(&store.sweep(key, pass)), "deleted");
    }
    keys
}

#[test]
fn our_own_write_shows_at_once_and_its_echo_is_no_news() {
    let mut store = listed();
    assert_eq!(put(&mut store, "a", 8, Origin::Written), "updated");
    assert_eq!(store.version(&key("a")), Some(8));
    assert_eq!(
        put(&mut store, "a", 7, Origin::Watched),
        "none",
        "an event from before our write"
    );
    assert!(store.in_doubt());
    assert_eq!(put(&mut store, "a", 8, Origin::Watched), "none", "the echo");
    assert!(!store.in_doubt());
    assert_eq!(put(&mut store, "a", 9, Origin::Watched), "updated");
}

#[test]
fn an_answer_that_the_stream_has_overtaken_brings_nothing_back() {
    let mut store = listed();
    // Created at 6 by us, deleted at 7 by another, both seen before our own answer is.
    assert_eq!(put(&mut store, "b", 6, Origin::Watched), "added");
    assert_eq!(word(&store.deleted(Some("ns"), "b", 7)), "deleted");
    assert_eq!(put(&mut store, "b", 6, Origin::Written), "none");
    assert_eq!(store.get(&key("b")), None);
}

#[test]
fn a_late_deletion_does_not_take_what_was_made_since() {
    let mut store = listed();
    assert_eq!(put(&mut store, "a", 9, Origin::Written), "updated");
    assert_eq!(word(&store.deleted(Some("ns"), "a", 7)), "none");
    assert_eq!(store.version(&key("a")), Some(9));
}

#[test]
fn what_our_delete_ended_stays_gone() {
    let mut store = listed();
    let now = Instant::now();
    let uid = |_: &[u8]| Some("first".to_owned());
    assert_eq!(word(&store.ended(&key("a"), "another", uid, now)), "none");
    assert_eq!(word(&store.ended(&key("a"), "first", uid, now)), "deleted");
    assert_eq!(
        put(&mut store, "a", 6, Origin::Watched),
        "none",
        "an event from before the end"
    );
    assert_eq!(word(&store.deleted(Some("ns"), "a", 7)), "none", "already told");
    assert!(!store.in_doubt());
    let mut next = news("a", 8);
    next.uid = Some("second".into());
    assert_eq!(word(&store.put(next, Origin::Watched, now)), "added");
}

#[test]
fn a_relist_changes_in_place_and_sweeps_the_rest() {
    let mut store = listed();
    put(&mut store, "gone", 6, Origin::Watched);
    put(&mut store, "ours", 9, Origin::Written);
    let before = Arc::as_ptr(store.get(&key("a")).unwrap());
    let pass = store.begin(false);
    assert_eq!(put(&mut store, "a", 5, Origin::Listed(pass)), "none");
    assert_eq!(list_ends(&mut store, pass), [key("gone")]);
    assert!(
        std::ptr::eq(before, Arc::as_ptr(store.get(&key("a")).unwrap())),
        "copied"
    );
    assert_eq!(
        store.version(&key("ours")),
        Some(9),
        "a list may be older than our write"
    );
}

#[test]
fn a_list_that_is_cut_off_sweeps_nothing() {
    let mut store = listed();
    store.begin(false);
    let pass = store.begin(true);
    put(&mut store, "a", 5, Origin::Listed(pass));
    assert_eq!(list_ends(&mut store, pass), []);
    assert_eq!(
        put(&mut store, "b", 3, Origin::Written),
        "none",
        "no list is under way any more"
    );
}

#[test]
fn a_list_of_one_namespace_sweeps_only_there() {
    let mut store = listed();
    let pass = store.begin(false);
    assert_eq!(store.end(pass, Some("other")), []);
    assert_eq!(store.end(pass, Some("ns")), [key("a")]);
}

#[test]
fn a_list_from_a_server_that_lags_is_doubted_and_one_from_a_backup_believed() {
    let mut store = listed();
    put(&mut store, "a", 50, Origin::Watched);
    let pass = store.begin(false);
    assert_eq!(put(&mut store, "a", 20, Origin::Listed(pass)), "none");
    list_ends(&mut store, pass);
    let age = Duration::from_secs(10);
    assert_eq!(store.doubtful(Instant::now(), age), []);
    let doubtful = store.doubtful(Instant::now() + age, age);
    assert_eq!(doubtful, [(key("a"), Some(50))]);
    assert_eq!(put(&mut store, "a", 20, Origin::Verified), "updated");
    assert!(!store.in_doubt());
    assert_eq!(put(&mut store, "a", 21, Origin::Watched), "updated");
}

#[test]
fn what_is_missing_in_truth_is_removed_unless_it_was_written_since() {
    let mut store = listed();
    put(&mut store, "b", 9, Origin::Written);
    assert_eq!(word(&store.missing(&key("b"), Some(8))), "none");
    assert_eq!(word(&store.missing(&key("b"), Some(9))), "deleted");
    assert!(!store.in_doubt());
}

/// What a server tells about one object, in order, and how much of it has arrived on each side.
#[derive(Clone, Debug)]
enum Turn {
    /// The watch delivers its next event.
    Watch,
    /// The oldest answer to a write of ours arrives.
    Answer,
    /// The watch breaks and everything is listed again, as of now.
    Relist,
}

/// The life of an object: true is a write of ours, false one of another's; `None` is a deletion by another.
fn life() -> impl Strategy<Value = Vec<Option<bool>>> {
    prop::collection::vec(
        prop_oneof![3 => any::<bool>().prop_map(Some), 1 => Just(None)],
        1..12,
    )
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![4 => Just(Turn::Watch), 3 => Just(Turn::Answer), 1 => Just(Turn::Relist)]
}

proptest! {
    /// However events, answers and relists interleave: no state older than our last answer is ever shown, and in
    /// the end the store has what the server has.
    #[test]
    fn the_store_never_goes_back_and_ends_with_the_truth(
        life in life(),
        turns in prop::collection::vec(turn(), 0..40),
    ) {
        // The server's history: (version, exists).
        let mut history = Vec::new();
        let mut answers = Vec::new();
        let mut exists = false;
        for (version, step) in (10_u64..).zip(life) {
            match step {
                Some(ours) => {
                    exists = true;
                    history.push((version, true));
                    if ours {
                        answers.push(version);
                    }
                }
                None if exists => {
                    exists = false;
                    history.push((version, false));
                }
                None => {}
            }
        }
        let mut store = Store::default();
        let pass = store.begin(false);
        store.end(pass, None);
        let (mut watched, mut answered, mut newest_answer) = (0, 0, 0);
        let mut next_turns = turns.into_iter();
        let mut turns_left = 200;
        while watched < history.len() || answered < answers.len() {
            turns_left -= 1;
            prop_assert!(turns_left > 0);
            match next_turns.next().unwrap_or(if answered < answers.len() { Turn::Answer } else { Turn::Watch }) {
                Turn::Watch => {
                    let Some((version, exists)) = history.get(watched) else { continue };
                    watched += 1;
                    if *exists {
                        put(&mut store, "a", *version, Origin::Watched);
                    } else {
                        store.deleted(Some("ns"), "a", *version);
                    }
                }
                Turn::Answer => {
                    let Some(version) = answers.get(answered) else { continue };
                    answered += 1;
                    newest_answer = *version;
                    put(&mut store, "a", *version, Origin::Written);
                }
                Turn::Relist => {
                    watched = history.len();
                    let pass = store.begin(false);
                    if let Some((version, true)) = history.last() {
                        put(&mut store, "a", *version, Origin::Listed(pass));
                    }
                    list_ends(&mut store, pass);
                }
            }
            if let Some(version) = store.version(&key("a")) {
                prop_assert!(version >= newest_answer, "older than our own write");
            } else {
                let deleted_since = history[..watched].iter().any(|(version, exists)| !exists && *version > newest_answer);
                prop_assert!(newest_answer == 0 || deleted_since, "our own write is not shown");
            }
        }
        // What is still in doubt is looked up.
        for (key, held) in store.doubtful(Instant::now() + Duration::from_secs(60), Duration::from_secs(60)) {
            match history.last() {
                Some((version, true)) => {
                    put(&mut store, "a", *version, Origin::Verified);
                }
                _ => {
                    store.missing(&key, held);
                }
            }
        }
        let truth = history.last().filter(|(_, exists)| *exists).map(|(version, _)| *version);
        prop_assert_eq!(store.version(&key("a")), truth);
    }
}
