//! The set of paths that an object gives values to.

use super::element::Element;
use super::set::Set;
use super::shape::{List, ListKind, Map, Place, Shape};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The paths of `value`'s leaves, and of the items and entries that are owned apart from what is in them.
pub(super) fn of<'a>(place: Place<'a>, value: &'a Value) -> Set<'a> {
    below(place, value).0
}

/// What is below a value, and whether it is a leaf itself.
fn below<'a>(place: Place<'a>, value: &'a Value) -> (Set<'a>, bool) {
    match place.shape_of(value) {
        Shape::Scalar(_) => (Set::default(), true),
        Shape::List(list) => match value {
            _ if matches!(list.kind, ListKind::Atomic) => (Set::default(), true),
            Value::Array(items) => (of_items(list, items), false),
            _ => (Set::default(), false),
        },
        Shape::Map(map) => match value {
            _ if map.atomic => (Set::default(), true),
            Value::Object(fields) => (of_fields(map, fields), false),
            _ => (Set::default(), false),
        },
    }
}

fn of_fields<'a>(map: Map<'a>, fields: &'a serde_json::Map<String, Value>) -> Set<'a> {
    let mut set = Set::default();
    for (name, value) in fields {
        let Some((place, named)) = map.field(name) else {
            // Not known to the schema: a leaf, as far as ownership goes.
            set.add(Element::Field(name), true, Set::default());
            continue;
        };
        let (below, leaf) = below(place, value);
        let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        set.add(Element::Field(name), leaf || empty || !named, below);
    }
    set
}

fn of_items<'a>(list: List<'a>, items: &'a [Value]) -> Set<'a> {
    let mut once = BTreeMap::new();
    let mut twice = BTreeSet::new();
    for item in items {
        let Ok(element) = list.element(item) else { continue };
        if once.insert(element.clone(), item).is_some() {
            twice.insert(element);
        }
    }
    let mut set = Set::default();
    for (element, item) in once {
        // An item that is there twice is owned as one, with all that is in it.
        let below = if twice.contains(&element) {
            Set::default()
        } else {
            below(list.items, item).0
        };
        set.add(element, true, below);
    }
    set
}
