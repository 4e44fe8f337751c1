//! Taking paths out of an object.

use super::element::Element;
use super::set::Set;
use super::shape::{ListKind, Place, Shape};
use serde_json::Value;

/// Removes every path of `set`, with all below it. A map or list of which nothing is left becomes null.
pub(super) fn remove(place: Place<'_>, value: &mut Value, set: &Set<'_>) {
    match place.shape_of(value) {
        Shape::Scalar(_) => {}
        Shape::List(list) => {
            if let Value::Array(items) = value {
                if matches!(list.kind, ListKind::Atomic) {
                    items.clear();
                }
                items.retain_mut(|item| {
                    let node = list.element(item).ok().and_then(|element| find(set, &element));
                    match node {
                        None => true,
                        Some((true, _)) => false,
                        Some((false, below)) => {
                            remove(list.items, item, below);
                            true
                        }
                    }
                });
                if items.is_empty() {
                    *value = Value::Null;
                }
            }
        }
        Shape::Map(map) => {
            if let Value::Object(fields) = value {
                if map.atomic {
                    fields.clear();
                }
                fields.retain(|name, value| match find(set, &Element::Field(name)) {
                    None => true,
                    Some((true, _)) => false,
                    Some((false, below)) => {
                        let place = map.field(name).map_or(Place::Untyped, |(place, _)| place);
                        remove(place, value, below);
                        true
                    }
                });
                if fields.is_empty() {
                    *value = Value::Null;
                }
            }
        }
    }
}

fn find<'s>(set: &'s Set<'_>, element: &Element<'_>) -> Option<(bool, &'s Set<'s>)> {
    set.get(element).map(|node| (node.member, &node.below))
}

/// The set with the named fields on the way to its paths made members: a field of a struct goes with what is in it.
pub(super) fn with_named_fields<'a>(place: Place<'_>, set: &Set<'a>) -> Set<'a> {
    let mut out = Set::default();
    for node in &set.nodes {
        let (below, named) = match &node.element {
            Element::Field(name) => match map_of(place).and_then(|map| map.field(name)) {
                Some((place, named)) => (with_named_fields(place, &node.below), named),
                None => (with_named_fields(Place::Untyped, &node.below), false),
            },
            Element::Key(_) => (with_named_fields(items_of(place), &node.below), false),
            Element::Value(_) | Element::Index(_) => (with_named_fields(Place::Untyped, &node.below), false),
        };
        out.add(
            node.element.clone(),
            node.member || (named && !node.below.is_empty()),
            below,
        );
    }
    out
}

fn map_of(place: Place<'_>) -> Option<super::shape::Map<'_>> {
    match place.shape(place.class(None)) {
        Shape::Map(map) => Some(map),
        _ => None,
    }
}

fn items_of(place: Place<'_>) -> Place<'_> {
    match place.shape(place.class(Some(&Value::Array(Vec::new())))) {
        Shape::List(list) => list.items,
        _ => Place::Untyped,
    }
}
