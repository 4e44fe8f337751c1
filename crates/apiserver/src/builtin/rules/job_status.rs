//! The status of a `Job`: what may not be together, and what never goes back.

use super::check::{IMMUTABLE, items, not_negative_fields};
use crate::field::{FieldError, FieldErrors, Path};
use serde_json::{Value, json};

/// Whether a condition is true.
pub(super) fn is(job: &Value, kind: &str) -> bool {
    items(&job["status"]["conditions"])
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// The status: what may not be together, and what never goes back.
pub(super) fn validate(job: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (status, path) = (&job["status"], Path::new("status"));
    let numbers = ["active", "succeeded", "failed", "ready", "terminating"];
    not_negative_fields(&path, status, &numbers, &mut errors);
    let conditions = path.child("conditions");
    let mut combined = |why: &str| {
        errors.push(FieldError::invalid(&conditions, &Value::Null, why).omitting_value());
    };
    let now = |kind: &str| is(job, kind);
    let turned = |kind: &str| is(job, kind) != is(old, kind);
    let (complete, failed) = (now("Complete"), now("Failed"));
    if (turned("Complete") || turned("Failed")) && complete && failed {
        combined("cannot set Complete=True and Failed=true conditions");
    }
    if (turned("Complete") || turned("FailureTarget")) && complete && now("FailureTarget") {
        combined("cannot set Complete=True and FailureTarget=true conditions");
    }
    if turned("Failed") && failed && !now("FailureTarget") {
        combined("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if (turned("Complete") || turned("SuccessCriteriaMet")) && complete && !now("SuccessCriteriaMet") {
        combined("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    if now("SuccessCriteriaMet") && failed {
        combined("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if now("SuccessCriteriaMet") && now("FailureTarget") {
        combined("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !now(kind) {
            combined(&format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    if is(old, "SuccessCriteriaMet") && !now("SuccessCriteriaMet") {
        combined("cannot disable the SuccessCriteriaMet=True condition");
    }
    validate_numbers(job, old, &mut errors);
    errors
}

/// Counts and times, alone and with the conditions.
fn validate_numbers(job: &Value, old: &Value, errors: &mut FieldErrors) {
    let (status, was, path) = (&job["status"], &old["status"], Path::new("status"));
    let now = |kind: &str| is(job, kind);
    let turned = |kind: &str| is(job, kind) != is(old, kind);
    let (complete, failed) = (now("Complete"), now("Failed"));
    let finished = complete || failed;
    let ends = finished != (is(old, "Complete") || is(old, "Failed"));
    let changed = |field: &str| status[field] != was[field];
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let completed = path.child("completionTime");
    if turned("Complete") || changed("completionTime") {
        let done = &status["completionTime"];
        if !done.is_null() && !complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(&completed, done, why));
        }
        if done.is_null() && complete {
            errors.push(FieldError::required(
                &completed,
                "completionTime is required for Complete jobs",
            ));
        }
    }
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(end)) = (status["startTime"].as_str(), status["completionTime"].as_str())
        && end < start
    {
        errors.push(FieldError::invalid(
            &completed,
            &json!(end),
            "must be equal to or after `startTime`",
        ));
    }
    if (ends || changed("active")) && finished && number("active") > 0 {
        let why = "active>0 is invalid for finished job";
        errors.push(FieldError::invalid(&path.child("active"), &status["active"], why));
    }
    let never_started = job["spec"]["suspend"] == true && job["spec"]["completions"] == 0;
    if (ends || changed("startTime")) && !never_started && finished && status["startTime"].is_null() {
        let why = "startTime is required for finished job";
        errors.push(FieldError::required(&path.child("startTime"), why));
    }
    if (ends || changed("terminating")) && finished && number("terminating") > 0 {
        let why = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(
            &path.child("terminating"),
            &status["terminating"],
            why,
        ));
    }
    if (changed("ready") || changed("active")) && number("ready") > number("active") {
        let why = "cannot set more ready pods than active";
        errors.push(FieldError::invalid(&path.child("ready"), &status["ready"], why));
    }
    let scales = job["spec"]["completionMode"] == "Indexed"
        && job["spec"]["completions"] == job["spec"]["parallelism"];
    for field in ["failed", "succeeded"] {
        let before = was[field].as_i64().unwrap_or_default();
        if number(field) < before && !(field == "succeeded" && scales) {
            let why = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(
                &path.child(field),
                &json!(number(field)),
                why,
            ));
        }
    }
    let resumes = is(old, "Suspended") && !now("Suspended");
    if !was["startTime"].is_null() && changed("startTime") && job["spec"]["suspend"] != true && !resumes {
        let why = "field is immutable for unsuspended job once set";
        errors.push(FieldError::invalid(
            &path.child("startTime"),
            &status["startTime"],
            why,
        ));
    }
    if !was["completionTime"].is_null() && !status["completionTime"].is_null() && changed("completionTime") {
        errors.push(FieldError::invalid(
            &completed,
            &status["completionTime"],
            IMMUTABLE,
        ));
    }
}
