//! Removing what an applier no longer names and nobody else owns.

use super::engine::Versioned;
use super::managed::Entry;
use super::remove::{remove, with_named_fields};
use super::set::Set;
use super::shape::Place;
use super::{Target, field_set};
use serde_json::Value;

/// `merged` without the fields of `last` that are neither in `given` nor owned by another of `entries`.
///
/// What is in a field that goes, goes with it, but for what others own; a field that nobody owned is put back unless
/// something owned was around it.
pub(super) fn prune(
    target: &Target<'_>,
    versions: &Versioned,
    merged: Value,
    entries: &[Entry<'_>],
    given: &Set<'_>,
    last: &Entry<'_>,
) -> Value {
    let Some(place) = versions.place(target, last.who.api_version) else {
        return merged;
    };
    let last_set = with_named_fields(place, &last.set);
    let mut pruned = without(place, &merged, &last_set);
    for version in owned_versions(target, entries, last.who.api_version) {
        let Some(place) = versions.place(target, version) else {
            continue;
        };
        pruned = {
            let here = entries.iter().filter(|entry| entry.who.api_version == version);
            let mut owned = here.fold(Set::default(), |owned, entry| owned.union(&entry.set));
            if version == target.api_version {
                owned = owned.union(given);
            }
            let merged_set = field_set::of(place, &merged);
            let pruned_set = field_set::of(place, &pruned);
            let gone = with_named_fields(place, &merged_set)
                .difference(&with_named_fields(place, &pruned_set))
                .difference(&with_named_fields(place, &owned));
            without(place, &merged, &gone)
        };
    }
    let gone = {
        let merged_set = with_named_fields(place, &field_set::of(place, &merged));
        let pruned_set = field_set::of(place, &pruned);
        merged_set
            .difference(&with_named_fields(place, &pruned_set))
            .intersection(&last_set)
    };
    without(place, &merged, &gone)
}

/// The versions that anybody owns fields in, `first` before the others.
fn owned_versions<'a>(target: &'a Target<'_>, entries: &'a [Entry<'_>], first: &'a str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = vec![target.api_version];
    for entry in entries {
        if !versions.contains(&entry.who.api_version) {
            versions.push(entry.who.api_version);
        }
    }
    if let Some(at) = versions.iter().position(|version| *version == first) {
        versions[..=at].rotate_right(1);
    }
    versions
}

fn without(place: Place<'_>, object: &Value, set: &Set<'_>) -> Value {
    let mut object = object.clone();
    remove(place, &mut object, set);
    object
}
