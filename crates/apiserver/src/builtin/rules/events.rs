//! Events. The core group's and those of `events.k8s.io` are the same objects under two sets of names; they are
//! stored under the core group's.

use super::Rules;
use super::check::{immutable, qualified, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use serde_json::{Value, json};

/// Fields of the older kind with their names in the newer one.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];
/// Fields of the older kind that selectors may name, with their paths.
const SELECTABLE: [(&str, &str); 11] = [
    ("involvedObject.apiVersion", "regarding.apiVersion"),
    ("involvedObject.fieldPath", "regarding.fieldPath"),
    ("involvedObject.kind", "regarding.kind"),
    ("involvedObject.name", "regarding.name"),
    ("involvedObject.namespace", "regarding.namespace"),
    ("involvedObject.resourceVersion", "regarding.resourceVersion"),
    ("involvedObject.uid", "regarding.uid"),
    ("reason", "reason"),
    ("reportingComponent", "reportingController"),
    ("source", ""),
    ("type", "type"),
];

pub(super) struct Events {
    /// Those of `events.k8s.io`.
    pub(super) newer: bool,
}

/// The object under the core group's names.
fn older(object: &Value, newer: bool) -> Value {
    let mut object = object.clone();
    if newer {
        rename(&mut object, |(old, new)| (new, old));
    }
    object
}

fn rename(
    object: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (from, to) in NAMES.map(direction) {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// A complaint that shows no value.
fn wrong(path: &str, why: impl Into<String>) -> FieldError {
    FieldError::invalid(&Path::new(path), &json!(""), why)
}

fn limited(name: &str, value: &str, most: usize, required: bool, errors: &mut FieldErrors) {
    if required && value.is_empty() {
        errors.push(FieldError::required(&Path::new(name), ""));
    }
    if value.len() > most {
        errors.push(wrong(name, format!("can have at most {most} characters")));
    }
}

/// What holds for both kinds.
fn validate(event: &Value, newer: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let namespace = text(&event["metadata"], "namespace");
    let involved = text(&event["involvedObject"], "namespace");
    let path = Path::new("involvedObject").child("namespace");
    let mismatch = FieldError::invalid(&path, &json!(involved), "does not match event.namespace");
    if event["eventTime"].is_null() {
        let agrees = if involved.is_empty() {
            ["", "default"].contains(&namespace)
        } else {
            involved == namespace
        };
        if !agrees {
            errors.push(mismatch);
        }
        return errors;
    }
    if involved.is_empty() && !["default", "kube-system"].contains(&namespace) {
        errors.push(mismatch);
    }
    let reporter = Path::new(if newer {
        "reportingController"
    } else {
        "reportingComponent"
    });
    let component = text(event, "reportingComponent");
    if component.is_empty() {
        errors.push(FieldError::required(&reporter, ""));
    }
    qualified(&reporter, component, &mut errors);
    limited(
        "reportingInstance",
        text(event, "reportingInstance"),
        128,
        true,
        &mut errors,
    );
    limited("action", text(event, "action"), 128, true, &mut errors);
    limited("reason", text(event, "reason"), 128, true, &mut errors);
    limited("message", text(event, "message"), 1024, false, &mut errors);
    errors
}

fn validate_series(event: &Value, errors: &mut FieldErrors) {
    let series = &event["series"];
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.push(wrong("series.count", "should be at least 2"));
    }
    if series["lastObservedTime"].is_null() {
        errors.push(FieldError::required(&Path::new("series.lastObservedTime"), ""));
    }
}

impl Rules for Events {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        let event = older(object, self.newer);
        let mut errors = validate(&event, self.newer);
        if !self.newer {
            return errors;
        }
        validate_series(&event, &mut errors);
        if event["eventTime"].is_null() {
            errors.push(FieldError::required(&Path::new("eventTime"), ""));
        }
        let kind = text(&event, "type");
        if !["Normal", "Warning"].contains(&kind) {
            errors.push(wrong("type", format!("has invalid value: {kind}")));
        }
        for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            let value = &event[field];
            let empty =
                value.is_null() || value == 0 || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty {
                errors.push(wrong(field, "needs to be unset"));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        let (event, was) = (older(object, self.newer), older(old, self.newer));
        let mut errors = validate(&event, self.newer);
        if !self.newer {
            return errors;
        }
        if event["series"] != was["series"] {
            validate_series(&event, &mut errors);
        }
        for field in [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "reason",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingComponent",
            "reportingInstance",
        ] {
            let name = if field == "reportingComponent" {
                "reportingController"
            } else {
                field
            };
            immutable(&Path::new(name), &event[field], &was[field], &mut errors);
        }
        errors
    }

    fn stored_as(&self) -> Option<(&'static str, &'static str)> {
        self.newer.then_some(("", "events"))
    }

    fn convert(&self, object: &mut Value, from: &str) {
        let is_newer = from.starts_with("events.k8s.io/");
        if self.newer && !is_newer {
            rename(object, |names| names);
        } else if !self.newer && is_newer {
            rename(object, |(old, new)| (new, old));
        }
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let event = older(object, self.newer);
        let mut fields = Vec::with_capacity(SELECTABLE.len());
        for (name, newer) in SELECTABLE {
            let value = match name {
                // Who reported it, under whichever name.
                "source" => match text(&event["source"], "component") {
                    "" => text(&event, "reportingComponent"),
                    component => component,
                },
                name => match name.split_once('.') {
                    Some((outer, inner)) => text(&event[outer], inner),
                    None => text(&event, name),
                },
            };
            if self.newer {
                if !newer.is_empty() {
                    fields.push((newer, value.to_owned()));
                }
            } else {
                fields.push((name, value.to_owned()));
            }
        }
        fields
    }
}
