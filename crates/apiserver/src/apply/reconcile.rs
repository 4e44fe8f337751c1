//! Stored sets after a change of the schema.
//!
//! Where a list or map became atomic, a manager that owned anything in it owns the whole of it.

use super::element::Element;
use super::set::Set;
use super::shape::{Class, ListKind, Place, Shape};

/// The set as the schema has it now, or none where nothing changes.
pub(super) fn reconcile<'a>(place: Place<'_>, set: &Set<'a>) -> Option<Set<'a>> {
    walk(place, set, false).below
}

#[derive(Default)]
struct Reconciled<'a> {
    /// The path itself is the leaf now.
    atomic: bool,
    /// What is below it, where that changed.
    below: Option<Set<'a>>,
}

fn walk<'a>(place: Place<'_>, set: &Set<'a>, is_leaf: bool) -> Reconciled<'a> {
    let class = match place.class(None) {
        Class::Open => Class::Map,
        class => class,
    };
    match place.shape(class) {
        Shape::Scalar(_) => Reconciled::default(),
        Shape::List(list) if matches!(list.kind, ListKind::Atomic) => Reconciled {
            atomic: !is_leaf,
            below: None,
        },
        Shape::List(list) => Reconciled {
            atomic: false,
            below: children(set, |_| Some(list.items)),
        },
        Shape::Map(map) if map.is_deduced() => Reconciled::default(),
        Shape::Map(map) if map.atomic => Reconciled {
            atomic: !is_leaf && !set.is_empty(),
            below: None,
        },
        Shape::Map(map) => Reconciled {
            atomic: false,
            below: children(set, |element| match element {
                Element::Field(name) => map.field(name).map(|(place, _)| place),
                _ => None,
            }),
        },
    }
}

fn children<'a, 's>(set: &Set<'a>, place_of: impl Fn(&Element<'a>) -> Option<Place<'s>>) -> Option<Set<'a>> {
    let mut changed: Option<Set<'a>> = None;
    for (position, node) in set.nodes.iter().enumerate() {
        let Some(place) = place_of(&node.element) else {
            continue;
        };
        let child = walk(place, &node.below, node.member && node.below.is_empty());
        if child.atomic || child.below.is_some() {
            let set = changed.get_or_insert_with(|| set.clone());
            if child.atomic {
                set.nodes[position].member = true;
                set.nodes[position].below = Set::default();
            } else if let Some(below) = child.below {
                set.nodes[position].below = below;
            }
        }
    }
    changed
}
