//! Disruption budgets of pods.

use super::Rules;
use super::check::{at_most_all, not_negative_fields, not_supported, number_or_percent, shown_as};
use super::labels::validate_selector;
use crate::field::{FieldErrors, Kind, Path};
use crate::resource::Surroundings;
use serde_json::Value;

pub(super) struct Budgets;

fn validate(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        // The message shows the server's own form of the spec.
        let shown = format!(
            r#"{{"MinAvailable":{},"Selector":{},"MaxUnavailable":{},"UnhealthyPodEvictionPolicy":{}}}"#,
            spec["minAvailable"],
            spec["selector"],
            spec["maxUnavailable"],
            spec["unhealthyPodEvictionPolicy"]
        );
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(shown_as(Kind::Invalid, &path, &shown, why));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        number_or_percent(&path.child(field), &spec[field], &mut errors);
        at_most_all(&path.child(field), &spec[field], &mut errors);
    }
    validate_selector(&path.child("selector"), &spec["selector"], &mut errors);
    let policy = &spec["unhealthyPodEvictionPolicy"];
    if !policy.is_null() {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        not_supported(
            &path.child("unhealthyPodEvictionPolicy"),
            policy,
            &known,
            &mut errors,
        );
    }
    errors
}

impl Rules for Budgets {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate(object)
    }

    fn validate_update(&self, object: &Value, _: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        if sub != "status" {
            return validate(object);
        }
        let mut errors = FieldErrors::new();
        let numbers = [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ];
        not_negative_fields(&Path::new("status"), &object["status"], &numbers, &mut errors);
        errors
    }
}
