//! Leases.

use super::Rules;
use super::check::{not_negative, qualified, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use serde_json::Value;

pub(super) struct Leases;

fn validate(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if spec["leaseDurationSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds <= 0)
    {
        errors.push(FieldError::invalid(
            &path.child("leaseDurationSeconds"),
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        ));
    }
    not_negative(
        &path.child("leaseTransitions"),
        &spec["leaseTransitions"],
        &mut errors,
    );
    if !text(spec, "strategy").is_empty() {
        let known = ["OldestEmulationVersion"];
        if !known.contains(&text(spec, "strategy")) && text(spec, "strategy").contains('/') {
            qualified(&path.child("strategy"), text(spec, "strategy"), &mut errors);
        }
    }
    errors
}

impl Rules for Leases {
    fn prepare_create(&self, object: &mut Value, _: &dyn Surroundings) {
        drop_gated(object, &Value::Null);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &str, _: &dyn Surroundings) {
        drop_gated(object, old);
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate(object)
    }

    fn validate_update(&self, object: &Value, _: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        validate(object)
    }
}

/// Fields of a feature that is off by default are dropped where they are new.
fn drop_gated(object: &mut Value, old: &Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in ["strategy", "preferredHolder"] {
        if old["spec"][field].is_null() {
            spec.remove(field);
        }
    }
}
