//! What differs between two states of an object, as sets of paths.

use super::element::{Element, same_value};
use super::set::Set;
use super::shape::{Class, List, ListKind, Map, Place, Shape};
use serde_json::Value;
use std::collections::BTreeMap;

/// The paths that differ.
#[derive(Debug, Default)]
pub(super) struct Difference<'a> {
    /// In both with another value, or in the second only.
    pub(super) changed: Set<'a>,
    /// In the first only.
    pub(super) removed: Set<'a>,
}

/// Compares two states.
pub(super) fn compare<'a>(place: Place<'a>, old: &'a Value, new: &'a Value) -> Difference<'a> {
    let below = values(place, Some(old), Some(new));
    Difference {
        changed: below.changed,
        removed: below.removed,
    }
}

/// What differs at and below a path.
#[derive(Default)]
struct Below<'a> {
    changed_here: bool,
    changed: Set<'a>,
    removed_here: bool,
    removed: Set<'a>,
}

impl<'a> Below<'a> {
    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        Self {
            changed_here: match (old, new) {
                (Some(old), Some(new)) => !same_value(old, new),
                (None, _) => true,
                (_, None) => false,
            },
            removed_here: new.is_none(),
            ..Self::default()
        }
    }

    fn add(&mut self, element: Element<'a>, child: Below<'a>) {
        if child.removed_here || !child.removed.is_empty() {
            self.removed
                .add(element.clone(), child.removed_here, child.removed);
        }
        self.changed.add(element, child.changed_here, child.changed);
    }

    fn join(&mut self, other: &Below<'a>) {
        self.changed_here |= other.changed_here;
        self.removed_here |= other.removed_here;
        self.changed = self.changed.union(&other.changed);
        self.removed = self.removed.union(&other.removed);
    }
}

fn values<'a>(place: Place<'a>, old: Option<&'a Value>, new: Option<&'a Value>) -> Below<'a> {
    let (old_class, new_class) = (place.class(old), place.class(new));
    let mut below = match (old, new) {
        (_, None) => shaped(place, old_class, old, new),
        (None, _) => shaped(place, new_class, old, new),
        _ if old_class == new_class => shaped(place, new_class, old, new),
        _ => {
            let mut below = shaped(place, old_class, old, new);
            below.join(&shaped(place, new_class, old, new));
            below
        }
    };
    below.changed_here |= old.is_none();
    below.removed_here |= new.is_none();
    below
}

fn shaped<'a>(place: Place<'a>, class: Class, old: Option<&'a Value>, new: Option<&'a Value>) -> Below<'a> {
    match place.shape(class) {
        Shape::Scalar(_) => Below::leaf(old, new),
        Shape::List(list) => {
            let (olds, news) = (as_list(old), as_list(new));
            if matches!(list.kind, ListKind::Atomic) || (olds.is_empty() && news.is_empty()) {
                Below::leaf(old, new)
            } else {
                items(list, olds, news)
            }
        }
        Shape::Map(map) => {
            let (olds, news) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let empty =
                |map: Option<&serde_json::Map<String, Value>>| map.is_none_or(serde_json::Map::is_empty);
            if map.atomic || (empty(olds) && empty(news)) {
                Below::leaf(old, new)
            } else {
                fields(map, olds, news)
            }
        }
    }
}

fn as_list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn fields<'a>(
    map: Map<'a>,
    olds: Option<&'a serde_json::Map<String, Value>>,
    news: Option<&'a serde_json::Map<String, Value>>,
) -> Below<'a> {
    let mut below = Below::default();
    let mut olds = olds.into_iter().flatten().peekable();
    let mut news = news.into_iter().flatten().peekable();
    loop {
        // Both run in the order of names.
        let (name, old, new) = match (olds.peek(), news.peek()) {
            (Some((old_name, _)), Some((new_name, _))) if old_name == new_name => {
                let (Some((name, old)), Some((_, new))) = (olds.next(), news.next()) else {
                    return below;
                };
                (name, Some(old), Some(new))
            }
            (Some((old_name, _)), Some((new_name, _))) if old_name > new_name => match news.next() {
                Some((name, new)) => (name, None, Some(new)),
                None => return below,
            },
            (None, Some(_)) => match news.next() {
                Some((name, new)) => (name, None, Some(new)),
                None => return below,
            },
            (Some(_), _) => match olds.next() {
                Some((name, old)) => (name, Some(old), None),
                None => return below,
            },
            (None, None) => return below,
        };
        let place = map.field(name).map_or(Place::Untyped, |(place, _)| place);
        below.add(Element::Field(name), values(place, old, new));
    }
}

fn items<'a>(list: List<'a>, olds: &'a [Value], news: &'a [Value]) -> Below<'a> {
    let mut pairs: BTreeMap<Element<'a>, (Vec<&'a Value>, Vec<&'a Value>)> = BTreeMap::new();
    for item in olds {
        if let Ok(element) = list.element(item) {
            pairs.entry(element).or_default().0.push(item);
        }
    }
    for item in news {
        if let Ok(element) = list.element(item) {
            pairs.entry(element).or_default().1.push(item);
        }
    }
    let mut below = Below::default();
    for (element, (olds, news)) in pairs {
        let child = match (&olds[..], &news[..]) {
            ([] | [_], [] | [_]) => values(list.items, olds.first().copied(), news.first().copied()),
            ([], _) => Below {
                changed_here: true,
                ..Below::default()
            },
            // Items of one key were told apart by nothing, and are compared as one leaf.
            ([_], _) => {
                let mut child = values(list.items, olds.first().copied(), None);
                child.changed_here = true;
                child
            }
            (_, []) => Below {
                removed_here: true,
                ..Below::default()
            },
            (_, [_]) => {
                let mut child = values(list.items, None, news.first().copied());
                child.removed_here = true;
                child
            }
            _ => Below {
                changed_here: olds.len() != news.len()
                    || olds.iter().zip(&news).any(|(old, new)| !same_value(old, new)),
                ..Below::default()
            },
        };
        below.add(element, child);
    }
    below
}
