//! How custom resources are prepared and judged, in the real server's order and words.

use super::jsonpath::JsonPath;
use super::paths::at;
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::{Custom, ScalePaths, Strategy, Surroundings};
use crate::schema::{self, SchemaRef, gotext};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The strategy of one version of a custom resource.
pub struct CustomStrategy {
    /// The schema of whole objects.
    pub schema: SchemaRef,
    /// There is a `status` subresource, so that status and the rest are written apart.
    pub has_status: bool,
    /// Where a `scale` subresource reads and writes.
    pub scale: Option<ScalePaths>,
    /// The group of its objects.
    pub group: Arc<str>,
    /// The version of its objects.
    pub version: Arc<str>,
    /// The kind of its objects.
    pub kind: Arc<str>,
}

impl Strategy for CustomStrategy {
    fn default(&self, object: &mut Value) {
        whole_numbers(object);
        schema::drop_nulls(&self.schema, object);
        schema::apply_defaults(&self.schema, object);
    }

    fn prepare_create(&self, object: &mut Value, _around: &dyn Surroundings) {
        if let Some(map) = object.as_object_mut() {
            if self.has_status {
                map.remove("status");
            }
            set_generation(map, 1);
        }
    }

    fn validate_create(&self, object: &Value, _around: &dyn Surroundings) -> FieldErrors {
        let mut errors = self.type_errors(object);
        if errors.is_empty() {
            schema::validate(&self.schema, object, None, &Path::root(), &mut errors);
            self.judge_scale(object, true, &mut errors);
            self.judge_rest(object, None, &mut errors);
        }
        errors
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, subresource: &str, _around: &dyn Surroundings) {
        if subresource == "status" {
            keep_all_but_status(object, old);
            return;
        }
        let Some(map) = object.as_object_mut() else { return };
        if self.has_status {
            match old.get("status") {
                Some(status) => map.insert("status".to_owned(), status.clone()),
                None => map.remove("status"),
            };
        }
        let counted = old["metadata"]["generation"].as_i64().unwrap_or(0);
        let changed = changed_beyond_metadata(map, old);
        set_generation(map, if changed { counted + 1 } else { counted });
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        subresource: &str,
        _around: &dyn Surroundings,
    ) -> FieldErrors {
        let mut errors = self.type_errors(object);
        if !errors.is_empty() {
            return errors;
        }
        if subresource == "status" {
            if let (Some(status), Some(below)) = (object.get("status"), self.schema.properties.get("status"))
            {
                schema::validate(
                    below,
                    status,
                    old.get("status"),
                    &Path::new("status"),
                    &mut errors,
                );
            }
            self.judge_scale(object, false, &mut errors);
        } else {
            schema::validate(&self.schema, object, Some(old), &Path::root(), &mut errors);
            self.judge_scale(object, true, &mut errors);
        }
        self.judge_rest(object, Some(old), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, _: &str) -> Vec<String> {
        let known = old.map(finalizers).unwrap_or_default();
        let mut said: Vec<String> = finalizers(object)
            .difference(&known)
            .flat_map(|finalizer| finalizer_warnings(finalizer))
            .collect();
        if let Some(old) = old.filter(|_| self.schema.has_rules()) {
            let ratcheted = schema::cel::ratcheted(&self.schema, object, old);
            said.extend(ratcheted.iter().map(ToString::to_string));
        }
        said
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}

impl CustomStrategy {
    fn type_errors(&self, object: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let version = format!("{}/{}", self.group, self.version);
        for (key, wanted) in [("kind", &*self.kind), ("apiVersion", version.as_str())] {
            let there = object.get(key).and_then(Value::as_str).unwrap_or_default();
            if there != wanted {
                let detail = format!("must be {wanted}");
                errors.push(FieldError::invalid(&Path::new(key), &json!(there), detail));
            }
        }
        errors
    }

    /// Embedded objects, uniqueness in lists, and last the CEL rules.
    fn judge_rest(&self, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        schema::validate_embedded(&self.schema, object, &Path::root(), false, errors);
        schema::validate_lists_changed(&self.schema, object, old, errors);
        schema::validate_rules(&self.schema, object, old, errors);
    }

    fn judge_scale(&self, object: &Value, with_spec: bool, errors: &mut FieldErrors) {
        let Some(scale) = &self.scale else { return };
        if with_spec {
            judge_replicas(object, &scale.spec_replicas, errors);
        }
        judge_replicas(object, &scale.status_replicas, errors);
        if let Some(selector) = &scale.selector
            && let Some(value) = at(object, selector)
            && !value.is_string()
        {
            let detail = accessor_error(selector, value, "string");
            errors.push(FieldError::invalid(&Path::new(&**selector), &json!(""), detail));
        }
    }
}

/// Go's name for the type of a decoded value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn accessor_error(path: &str, value: &Value, wanted: &str) -> String {
    let shown = value.as_str().map_or_else(|| gotext::shown(value), str::to_owned);
    format!(
        "{path} accessor error: {shown} is of the type {}, expected {wanted}",
        go_type(value)
    )
}

fn judge_replicas(object: &Value, path: &str, errors: &mut FieldErrors) {
    let Some(value) = at(object, path) else { return };
    let place = Path::new(path);
    match value.as_i64() {
        None => {
            let detail = accessor_error(path, value, "int64");
            errors.push(FieldError::invalid(&place, &json!(0), detail));
        }
        Some(count) if count < 0 => {
            errors.push(FieldError::invalid(
                &place,
                value,
                "should be a non-negative integer",
            ));
        }
        Some(count) if count > i64::from(i32::MAX) => {
            let detail = format!("should be less than or equal to {}", i32::MAX);
            errors.push(FieldError::invalid(&place, value, detail));
        }
        Some(_) => {}
    }
}

/// Go writes a whole float as an integer, so that it is one when it is read again.
#[allow(clippy::cast_possible_truncation)]
fn whole_numbers(value: &mut Value) {
    /// From here on not all whole numbers are floats, and both sides write an exponent.
    const MOST: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < MOST {
                *value = json!(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn set_generation(map: &mut Map<String, Value>, generation: i64) {
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("generation".to_owned(), json!(generation));
    }
}

/// A write of the status: all else, metadata too, is what it was, but for managed fields.
fn keep_all_but_status(object: &mut Value, old: &Value) {
    let status = object.get("status").cloned();
    let managed = object["metadata"].get("managedFields").cloned();
    let version = object.get("apiVersion").cloned();
    *object = old.clone();
    let Some(map) = object.as_object_mut() else { return };
    for (key, value) in [("status", status), ("apiVersion", version)] {
        match value {
            Some(value) => map.insert(key.to_owned(), value),
            None => map.remove(key),
        };
    }
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        match managed {
            Some(managed) => metadata.insert("managedFields".to_owned(), managed),
            None => metadata.remove("managedFields"),
        };
    }
}

fn changed_beyond_metadata(new: &Map<String, Value>, old: &Value) -> bool {
    let Some(old) = old.as_object() else { return true };
    let others = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key("metadata"));
    others(new) != others(old)
        || new
            .iter()
            .any(|(key, value)| key != "metadata" && old.get(key) != Some(value))
}

fn finalizers(object: &Value) -> BTreeSet<&str> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn finalizer_warnings(finalizer: &str) -> Vec<String> {
    let quoted = gotext::quote(finalizer);
    let mut said: Vec<String> = crate::metadata::names::qualified(finalizer)
        .into_iter()
        .map(|why| format!("metadata.finalizers: {quoted}: {why}"))
        .collect();
    if !finalizer.contains('/') && !["orphan", "foregroundDeletion", "kubernetes"].contains(&finalizer) {
        let path = if finalizer.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        said.push(format!(
            "metadata.finalizers: {quoted}: prefer a domain-qualified finalizer name{path} to avoid accidental \
             conflicts with other finalizer writers"
        ));
    }
    said
}

/// What field selectors may name beyond name and namespace, with an object's values: `spec.color` → `blue`.
pub fn selectable_values(custom: &Custom, object: &Value) -> Vec<(String, String)> {
    let value_at = |path: &str| {
        let path = JsonPath::parse(path).ok()?;
        let value = path.find(object).into_iter().next()?;
        Some(match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => gotext::shown(other),
        })
    };
    custom
        .selectable_fields
        .iter()
        .map(|path| {
            let name = path.strip_prefix('.').unwrap_or(path).to_owned();
            (name, value_at(path).unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
