//! Strategic merge patches: merge patches that know, from the schema, how lists and maps merge.
//!
//! A list with a merge key is merged item by item, one of scalars as a set, any other is replaced. Directives in the
//! patch say otherwise: `$patch` (replace, delete, merge), `$deleteFromPrimitiveList/FIELD`,
//! `$setElementOrder/FIELD` and `$retainKeys`.

use crate::apply::go_text;
use crate::schema::{PatchStrategy, Schema};
use crate::status::{ApiError, ApiResult};
use http::StatusCode;
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// The object that `patch` makes of `original`.
///
/// # Errors
/// 400 for malformed directives, 422 for lists of lists, 500 (as the real server has it) for items without their
/// merge key, fields that the schema does not know, and unknown directives.
pub(crate) fn strategic_merge(schema: &Schema, original: &Value, patch: &Value) -> ApiResult<Value> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(bad_request("invalid JSON document"));
    };
    let name = original.get("kind").and_then(Value::as_str).unwrap_or_default();
    let place = Place {
        schema: Some(schema),
        name: name.to_owned(),
    };
    place
        .merge_map(original.clone(), patch.clone())
        .map(Value::Object)
}

fn bad_request(message: &str) -> ApiError {
    ApiError::bad_request(message)
}

fn plain(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
}

/// The kind of a value, as Go's type of it reads.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn not_a_map(value: &Value) -> ApiError {
    plain(format!(
        "expected a map[string]interface {{}}, but received a {}",
        go_type(value)
    ))
}

fn as_list(value: &Value) -> ApiResult<&Vec<Value>> {
    let error = || {
        plain(format!(
            "expected a []interface {{}}, but received a {}",
            go_type(value)
        ))
    };
    value.as_array().ok_or_else(error)
}

fn no_merge_key(item: &Map<String, Value>, key: &str) -> ApiError {
    plain(format!(
        "map: {} does not contain declared merge key: {key}",
        go_text(&Value::Object(item.clone()))
    ))
}

/// A place in the schema; the name is that of its Go type, as far as it follows from the kind.
struct Place<'s> {
    schema: Option<&'s Schema>,
    name: String,
}

impl<'s> Place<'s> {
    fn field(&self, field: &str) -> ApiResult<(Place<'s>, PatchStrategy)> {
        let Some(schema) = self.schema else {
            return Ok((self.nowhere(), PatchStrategy::default()));
        };
        if let Some(schema) = schema.field(field) {
            let mut name = self.name.clone();
            name.extend(field.chars().take(1).flat_map(char::to_uppercase));
            name.extend(field.chars().skip(1));
            let place = Place {
                schema: Some(schema),
                name,
            };
            return Ok((place, schema.patch.clone()));
        }
        if schema.properties.is_empty() {
            return Ok((self.nowhere(), PatchStrategy::default()));
        }
        Err(plain(format!(
            "unable to find api field in struct {} for the json field {field:?}",
            self.name
        )))
    }

    fn nowhere(&self) -> Self {
        Self {
            schema: None,
            name: self.name.clone(),
        }
    }

    fn items(&self) -> Place<'s> {
        Place {
            schema: self.schema.and_then(|schema| schema.items.as_deref()),
            name: self.name.clone(),
        }
    }

    fn merge_map(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
    ) -> ApiResult<Map<String, Value>> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    patch.remove(DIRECTIVE);
                    Ok(patch)
                }
                Some("delete") => Ok(Map::new()),
                _ => Err(unknown_directive(directive, &patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.merge_ordered_lists(&mut original, &mut patch)?;
        for (name, given) in patch {
            let (name, deletes) = match name.strip_prefix(DELETE_FROM) {
                None => (name, false),
                Some(field) => (field_of(field, "invalid patch format of primitive list")?, true),
            };
            if given.is_null() {
                original.remove(&name);
                continue;
            }
            match (original.remove(&name), given) {
                (Some(Value::Object(there)), Value::Object(given)) => {
                    let (place, _) = self.field(&name)?;
                    let merged = if self.replaces(&name) {
                        given
                    } else {
                        place.merge_map(there, given)?
                    };
                    original.insert(name, Value::Object(merged));
                }
                (Some(Value::Array(there)), Value::Array(given)) => {
                    let (place, strategy) = self.field(&name)?;
                    let merged = if strategy.merge || deletes {
                        let key = strategy.merge_key.as_deref();
                        place.items().merge_list(there, given, key, deletes)?
                    } else {
                        given
                    };
                    original.insert(name, Value::Array(merged));
                }
                (there, _) if deletes => original.extend(there.map(|there| (name, there))),
                (_, mut given) => {
                    discard_nulls(&mut given);
                    original.extend(without_directives(given).map(|given| (name, given)));
                }
            }
        }
        Ok(original)
    }

    /// Whether a map is replaced as a whole. Of all kinds, one field is.
    fn replaces(&self, field: &str) -> bool {
        self.name == "PodDisruptionBudgetSpec" && field == "selector"
    }

    /// Merges every list that the patch gives an order for, in that order.
    fn merge_ordered_lists(
        &self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
    ) -> ApiResult<()> {
        let ordered: Vec<String> = patch
            .keys()
            .filter(|key| key.starts_with(SET_ORDER))
            .cloned()
            .collect();
        for directive in ordered {
            let Some(order) = patch.remove(&directive) else {
                continue;
            };
            let order = as_list(&order)?;
            let rest = directive.strip_prefix(SET_ORDER).unwrap_or_default();
            let name = field_of(rest, "invalid patch format of setElementOrder list")?;
            let there = original.get(&name).map(as_list).transpose()?.cloned();
            let given = patch.get(&name).map(as_list).transpose()?.cloned();
            let (place, strategy) = self.field(&name)?;
            let key = strategy.merge_key.as_deref();
            check_order(given.as_deref().unwrap_or_default(), order, key)?;
            let merged = match (there.clone(), given.clone()) {
                (Some(there), None) => there,
                (None, Some(given)) => match without_directives(Value::Array(given)) {
                    Some(Value::Array(given)) => given,
                    _ => continue,
                },
                (Some(there), Some(given)) if strategy.merge => {
                    place.items().merge_list(there, given, key, false)?
                }
                (Some(_), Some(given)) => given,
                (None, None) => continue,
            };
            let there = there.unwrap_or_default();
            let is_map = same_sort(&[&there, given.as_deref().unwrap_or_default()])?;
            let merged = in_order(merged, order, &there, key, is_map)?;
            original.insert(name.clone(), Value::Array(merged));
            patch.remove(&name);
        }
        Ok(())
    }

    fn merge_list(
        &self,
        there: Vec<Value>,
        given: Vec<Value>,
        key: Option<&str>,
        deletes: bool,
    ) -> ApiResult<Vec<Value>> {
        if there.is_empty() && given.is_empty() {
            return Ok(there);
        }
        let is_map = same_sort(&[&there, &given])?;
        if !is_map {
            if deletes {
                return Ok(there.into_iter().filter(|item| !given.contains(item)).collect());
            }
            let mut merged: Vec<Value> = Vec::with_capacity(there.len() + given.len());
            for item in there.iter().chain(&given) {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
            return in_order(merged, &given, &there, key, false);
        }
        let Some(key) = key else {
            return Err(plain("cannot merge lists without merge key for struct"));
        };
        let (mut merged, given) = special_items(there, given, key)?;
        let server = merged.clone();
        for item in &given {
            let Value::Object(fields) = item else {
                return Err(not_a_map(item));
            };
            let value = fields.get(key).ok_or_else(|| no_merge_key(fields, key))?;
            match position_of(&merged, key, value)? {
                None => merged.push(item.clone()),
                Some(at) => {
                    if let Value::Object(there) = merged[at].take() {
                        merged[at] = Value::Object(self.merge_map(there, fields.clone())?);
                    }
                }
            }
        }
        in_order(merged, &given, &server, Some(key), true)
    }
}

/// The field that a directive for a list is for: what follows the slash.
fn field_of(rest: &str, malformed: &str) -> ApiResult<String> {
    match rest.strip_prefix('/') {
        Some(field) => Ok(field.to_owned()),
        None => Err(bad_request(malformed)),
    }
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> ApiError {
    plain(format!(
        "unknown patch type: {} in map: {}",
        go_text(directive),
        go_text(&Value::Object(patch.clone()))
    ))
}

/// Drops what `$retainKeys` does not name.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> ApiResult<()> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || bad_request("invalid patch format of retainKeys");
    let retained = retained.as_array().ok_or_else(malformed)?;
    let is_retained = |name: &str| retained.iter().any(|kept| kept.as_str() == Some(name));
    for (name, value) in &*patch {
        let is_directive = name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER);
        if !value.is_null() && !is_directive && !is_retained(name) {
            return Err(malformed());
        }
    }
    original.retain(|name, _| is_retained(name));
    Ok(())
}

/// Whether the items of all lists are maps; they must be of one type, and not lists.
fn same_sort(lists: &[&[Value]]) -> ApiResult<bool> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    let Some(first) = items.next() else {
        return Err(plain("no elements in any of the given slices"));
    };
    if first.is_array() {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            "the server rejected our request due to an error in our request",
        ));
    }
    if items.any(|item| go_type(item) != go_type(first)) {
        let shown: Vec<String> = lists
            .iter()
            .map(|list| go_text(&Value::Array(list.to_vec())))
            .collect();
        return Err(plain(format!(
            "list element types are not identical: [{}]",
            shown.join(" ")
        )));
    }
    Ok(first.is_object())
}

/// Carries out the `$patch` items of a list: what is there without what is deleted, and what is left to merge.
fn special_items(mut there: Vec<Value>, given: Vec<Value>, key: &str) -> ApiResult<(Vec<Value>, Vec<Value>)> {
    let mut plain_items = Vec::with_capacity(given.len());
    let mut replace = false;
    for item in given {
        let Value::Object(fields) = &item else {
            return Err(not_a_map(&item));
        };
        let Some(directive) = fields.get(DIRECTIVE) else {
            plain_items.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let value = fields.get(key).ok_or_else(|| no_merge_key(fields, key))?;
                while let Some(at) = position_of(&there, key, value)? {
                    there.remove(at);
                }
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(plain("merging lists cannot yet be specified in the patch")),
            _ => return Err(unknown_directive(directive, fields)),
        }
    }
    Ok(if replace {
        (plain_items, Vec::new())
    } else {
        (there, plain_items)
    })
}

fn position_of(items: &[Value], key: &str, value: &Value) -> ApiResult<Option<usize>> {
    for (at, item) in items.iter().enumerate() {
        let Value::Object(fields) = item else {
            return Err(plain(format!("value for key {at} is not a map")));
        };
        if fields.get(key) == Some(value) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The items of a patch must come in the order that it gives, and be part of it.
fn check_order(given: &[Value], order: &[Value], key: Option<&str>) -> ApiResult<()> {
    if given.is_empty() || order.is_empty() {
        return Ok(());
    }
    let is_special = |item: &Value| {
        item.as_object()
            .is_some_and(|fields| fields.contains_key(DIRECTIVE))
    };
    if key.is_some()
        && let Some(item) = given.iter().find(|item| !item.is_object())
    {
        return Err(not_a_map(item));
    }
    let mut places = order.iter();
    for item in given.iter().filter(|item| !is_special(item)) {
        loop {
            let Some(place) = places.next() else {
                return Err(plain(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go_text(&Value::Array(given.to_vec())),
                    go_text(&Value::Array(order.to_vec()))
                )));
            };
            if identity(item, key)? == identity(place, key)? {
                break;
            }
        }
    }
    Ok(())
}

/// What an item is told apart by.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> ApiResult<&'v Value> {
    match (key, item) {
        (None, item) => Ok(item),
        (Some(key), Value::Object(fields)) => fields.get(key).ok_or_else(|| no_merge_key(fields, key)),
        (Some(_), other) => Err(not_a_map(other)),
    }
}

/// Sorts what was merged: items that the patch orders as it does, the others as on the server, and the two sorts
/// put together so that each keeps its order and the server's holds between them where it can.
fn in_order(
    merged: Vec<Value>,
    order: &[Value],
    server: &[Value],
    key: Option<&str>,
    is_map: bool,
) -> ApiResult<Vec<Value>> {
    let key = key.filter(|_| is_map);
    if is_map && key.is_none() {
        return Err(plain("cannot merge lists without merge key for struct"));
    }
    for item in merged.iter().chain(order) {
        identity(item, key)?;
    }
    let index = |list: &[Value], item: &Value| {
        let wanted = identity(item, key).ok();
        list.iter().position(|other| identity(other, key).ok() == wanted)
    };
    let (mut of_patch, mut of_server): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| index(order, item).is_some());
    of_patch.sort_by_key(|item| index(order, item));
    of_server.sort_by_key(|item| index(server, item));
    let mut sorted = Vec::with_capacity(of_patch.len() + of_server.len());
    let (mut patch_items, mut server_items) =
        (of_patch.into_iter().peekable(), of_server.into_iter().peekable());
    while let Some(next) = patch_items.peek() {
        let before = |item: &Value| match (index(server, item), index(server, next)) {
            (Some(item), Some(next)) => item < next,
            _ => false,
        };
        match server_items.next_if(before) {
            Some(item) => sorted.push(item),
            None => sorted.extend(patch_items.next()),
        }
    }
    sorted.extend(server_items);
    Ok(sorted)
}

/// Drops null fields, which delete nothing where nothing is.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without maps that carry a directive; none where it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => return None,
        Value::Object(fields) => {
            let kept = fields.into_iter();
            let kept = kept.filter_map(|(name, value)| Some((name, without_directives(value)?)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.into_iter().filter_map(without_directives).collect(),
        scalar => scalar,
    })
}

#[cfg(test)]
mod tests;
