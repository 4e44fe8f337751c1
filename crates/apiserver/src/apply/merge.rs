//! Merging what is applied into what is there.

use super::element::Element;
use super::shape::{List, ListKind, Map, Place, Shape};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Puts `applied` into `into`: leaves are replaced, maps and lists that are not atomic merged. Nothing is removed.
///
/// Shared items of a list come in the order of `applied`; those that only `into` has keep their neighbours.
pub(super) fn merge(place: Place<'_>, into: &mut Value, applied: &Value) {
    let class = place.class(Some(applied));
    if class != place.class(Some(into)) {
        let kept = applied.is_null() && into.as_object().is_some_and(|there| !there.is_empty());
        if !kept || matches!(place.shape(class), Shape::Map(map) if map.atomic) {
            replace(into, applied);
        }
        return;
    }
    match place.shape(class) {
        Shape::Scalar(_) => replace(into, applied),
        Shape::List(list) => {
            let there = into.as_array().map_or(0, Vec::len);
            let given = applied.as_array().map_or(0, Vec::len);
            if matches!(list.kind, ListKind::Atomic) || (there == 0 && given == 0) {
                replace(into, applied);
            } else if let Value::Array(given) = applied {
                let there = match into {
                    Value::Array(there) => std::mem::take(there),
                    _ => Vec::new(),
                };
                *into = Value::Array(merge_items(list, there, given));
            }
        }
        Shape::Map(map) => {
            let there = into.as_object().map_or(0, serde_json::Map::len);
            let given = applied.as_object().map_or(0, serde_json::Map::len);
            if map.atomic || (there == 0 && given == 0) {
                replace(into, applied);
            } else if let Value::Object(given) = applied {
                if !into.is_object() {
                    *into = Value::Object(serde_json::Map::new());
                }
                if let Value::Object(there) = into {
                    merge_fields(map, there, given);
                }
            }
        }
    }
}

fn replace(into: &mut Value, applied: &Value) {
    if into != applied {
        *into = applied.clone();
    }
}

fn merge_fields(
    map: Map<'_>,
    into: &mut serde_json::Map<String, Value>,
    applied: &serde_json::Map<String, Value>,
) {
    for (name, value) in applied {
        let place = map.field(name).map_or(Place::Untyped, |(place, _)| place);
        match into.get_mut(name) {
            Some(there) => merge(place, there, value),
            None => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

fn merge_items(list: List<'_>, mut there: Vec<Value>, given: &[Value]) -> Vec<Value> {
    // Which item of `there` goes where is decided first, while steps borrow from both.
    enum From {
        There(usize),
        Given(usize),
        Both(usize, usize),
    }
    let mut plan = Vec::with_capacity(there.len().max(given.len()));
    {
        let mine: Vec<Element<'_>> = there.iter().filter_map(|item| list.element(item).ok()).collect();
        let theirs: Vec<Element<'_>> = given.iter().filter_map(|item| list.element(item).ok()).collect();
        if mine.len() != there.len() || theirs.len() != given.len() {
            // An item of a stored list that has no key any more; what is applied was checked.
            return given.to_vec();
        }
        // Items that are there twice are not merged with, but replaced.
        let mut at: BTreeMap<&Element<'_>, Option<usize>> = BTreeMap::new();
        for (position, element) in mine.iter().enumerate() {
            at.entry(element)
                .and_modify(|place| *place = None)
                .or_insert(Some(position));
        }
        let wanted: BTreeSet<&Element<'_>> = theirs.iter().collect();
        let take = |position: usize| match at.get(&theirs[position]) {
            Some(Some(mine)) => From::Both(*mine, position),
            _ => From::Given(position),
        };
        let mut shared = theirs
            .iter()
            .filter(|element| at.contains_key(element))
            .peekable();
        let mut merged = BTreeSet::new();
        let (mut left, mut right) = (0, 0);
        while left < mine.len() || right < theirs.len() {
            if left < mine.len() && right < theirs.len() {
                if mine[left] == theirs[right] {
                    merged.insert(&theirs[right]);
                    plan.push(take(right));
                    left += 1;
                    right += 1;
                    shared.next();
                    continue;
                }
                if wanted.contains(&mine[left]) && shared.peek().is_some_and(|next| **next != mine[left]) {
                    // Shared, but another shared item comes before it.
                    left += 1;
                    continue;
                }
            }
            if left < mine.len() {
                if !wanted.contains(&mine[left]) {
                    plan.push(From::There(left));
                    left += 1;
                    continue;
                }
                if merged.contains(&mine[left]) {
                    left += 1;
                }
            }
            if right < theirs.len() {
                merged.insert(&theirs[right]);
                plan.push(take(right));
                if shared.peek() == Some(&&theirs[right]) {
                    shared.next();
                }
                right += 1;
            }
        }
    }
    plan.into_iter()
        .map(|from| match from {
            From::There(mine) => there[mine].take(),
            From::Given(position) => given[position].clone(),
            From::Both(mine, position) => {
                let mut item = there[mine].take();
                merge(list.items, &mut item, &given[position]);
                item
            }
        })
        .collect()
}
