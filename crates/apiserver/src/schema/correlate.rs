//! Which old value a new one grew from: by field name, by key in lists that are maps, not at all in other lists.
//! Ratcheting and transition rules both go by it (KEP-4008).

use super::{ListType, Schema};
use serde_json::Value;

/// The item of the old list that has the keys of `item`; none where the list's items are not told apart by keys.
pub(super) fn old_item<'a>(list: &Schema, item: &Value, old: &'a Value) -> Option<&'a Value> {
    let ListType::Map(keys) = &list.list else {
        return None;
    };
    if keys.is_empty() || !item.is_object() {
        return None;
    }
    old.as_array()?
        .iter()
        .find(|old| old.is_object() && keys.iter().all(|key| old.get(&**key) == item.get(&**key)))
}

/// The old value of a field, where the field has a schema.
pub(super) fn old_field<'a>(schema: &Schema, name: &str, old: &'a Value) -> Option<&'a Value> {
    schema.field(name)?;
    old.as_object()?.get(name)
}

/// Whether nothing changed, as ratcheting sees it: items of lists that are maps may have moved; a field without a
/// schema, or metadata, is never taken as unchanged.
pub(super) fn is_unchanged(schema: &Schema, new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            new.len() == old.len()
                && new.iter().all(|(name, new)| {
                    let known = !(schema.embedded && name == "metadata");
                    match (schema.field(name), old.get(name)) {
                        (Some(below), Some(old)) if known => is_unchanged(below, new, old),
                        _ => false,
                    }
                })
        }
        (Value::Array(items), Value::Array(olds)) => {
            if items.len() != olds.len() {
                return false;
            }
            match (&schema.list, &schema.items) {
                (ListType::Map(_), Some(below)) => items.iter().all(|item| {
                    old_item(schema, item, old).is_some_and(|old| is_unchanged(below, item, old))
                }),
                _ => items == olds,
            }
        }
        _ => new == old,
    }
}
