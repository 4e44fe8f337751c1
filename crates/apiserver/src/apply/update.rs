//! Tracking every write that is not an apply.

use super::compare::Difference;
use super::engine::{Differences, Versioned, managed_fields};
use super::managed::{self, Entry, Operation, Who};
use super::{Target, reset, typed, zero};
use serde_json::Value;

/// Makes `new` carry the managed fields that result from writing it in the name of `manager`: what differs from
/// `live` is the manager's now, and nobody else's.
///
/// `live` is the object as it is stored, or none for a new one. `new` is what will be stored, with the managed
/// fields that the client sent: on the object itself they replace the stored ones where they are valid, and an
/// empty list or one empty entry makes the server forget all of them; on a subresource they are ignored.
pub fn track_update(target: &Target<'_>, live: Option<&Value>, new: &mut Value, manager: &str) {
    let manager = if manager.is_empty() { "unknown" } else { manager };
    let sent = new
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .and_then(|metadata| metadata.remove("managedFields"));
    let encoded = tracked(target, live, new, sent.as_ref(), manager);
    managed::put(new, encoded);
}

fn tracked(
    target: &Target<'_>,
    live: Option<&Value>,
    new: &Value,
    sent: Option<&Value>,
    manager: &str,
) -> Option<Value> {
    let stored = live.and_then(managed_fields);
    let listed = if !target.subresource.is_empty() {
        stored
    } else if managed::is_reset(sent) {
        None
    } else {
        // What the client sent counts where it is valid, so that clients that know nothing of it do no harm.
        sent.filter(|sent| managed::decode(Some(sent)).is_ok_and(|entries| !entries.is_empty()))
            .or(stored)
    };
    let entries = managed::decode(listed).unwrap_or_default();
    let versions = Versioned::of(target, listed);
    if entries.is_empty() && live.is_some() {
        // An object that is not tracked starts to be when it is applied to.
        return None;
    }
    // An object that does not fit its schema can't be tracked.
    let fits = |object: &Value| typed::check(target.place(), object, true).is_ok();
    if !fits(new) || live.is_some_and(|live| !fits(live)) {
        return None;
    }
    let mut entries = versions.reconciled(target, entries);
    let zero;
    let old = if let Some(live) = live {
        live
    } else {
        zero = zero::object(target);
        &zero
    };
    let mut differences = Differences::new(&versions, target, old, new);
    entries.retain_mut(|entry| {
        let Some(difference) = differences.get(entry.who.api_version) else {
            return false;
        };
        lose(entry, difference);
        !entry.set.is_empty()
    });
    let mine = reset::stripped(&differences.get(target.api_version)?.changed);
    if !mine.is_empty() {
        let who = Who {
            manager,
            operation: Operation::Update,
            api_version: target.api_version,
            subresource: target.subresource,
        };
        let time = Some(managed::time_text(target.now).into());
        if let Some(entry) = entries.iter_mut().find(|entry| entry.who.is(&who)) {
            entry.put(mine.union(&entry.set));
            entry.time = time;
        } else {
            let mut entry = Entry::new(who, mine);
            entry.time = time;
            entries.push(entry);
        }
    }
    managed::limit(&mut entries);
    managed::encode(entries)
}

/// Takes from an entry what changed or went.
pub(super) fn lose(entry: &mut Entry<'_>, difference: &Difference<'_>) {
    for gone in [&difference.changed, &difference.removed] {
        if entry.set.intersects(gone) {
            entry.put(entry.set.difference(gone));
        }
    }
}

/// Puts the times of `old`'s managed fields into `new` where nothing but these times differs, so that a write that
/// changes nothing is seen to change nothing.
pub fn keep_times(old: &Value, new: &mut Value) {
    let (Some(Value::Array(olds)), Some(Value::Array(news))) = (managed_fields(old), managed_fields(new))
    else {
        return;
    };
    if olds.len() != news.len()
        || olds == news
        || !olds.iter().zip(news).all(|(old, new)| same_but_time(old, new))
    {
        return;
    }
    let differs = match (old, &*new) {
        (Value::Object(old), Value::Object(new)) => {
            old.len() != new.len()
                || old.iter().zip(new).any(|((old_name, old), (new_name, new))| {
                    old_name != new_name
                        || match (old, new) {
                            (Value::Object(old), Value::Object(new)) if old_name == "metadata" => {
                                old.len() != new.len()
                                    || old.iter().zip(new).any(|((old_name, old), (new_name, new))| {
                                        old_name != new_name || (old_name != "managedFields" && old != new)
                                    })
                            }
                            (old, new) => old != new,
                        }
                })
        }
        _ => true,
    };
    if !differs {
        let kept = Value::Array(olds.clone());
        managed::put(new, Some(kept));
    }
}

fn same_but_time(old: &Value, new: &Value) -> bool {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return false;
    };
    let rest = |(name, _): &(&String, &Value)| *name != "time";
    old.iter().filter(rest).eq(new.iter().filter(rest))
}
