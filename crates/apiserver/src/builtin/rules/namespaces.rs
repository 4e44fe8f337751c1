//! Namespaces: every one carries the finalizer that the server itself clears when it is empty.

use super::Rules;
use super::check::{items, qualified, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use serde_json::{Value, json};

const FINALIZER: &str = "kubernetes";

pub(super) struct Namespaces;

fn validate_finalizers(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("finalizers");
    for finalizer in items(&object["spec"]["finalizers"]) {
        let name = finalizer.as_str().unwrap_or_default();
        let before = errors.len();
        qualified(&path, name, errors);
        if errors.len() == before && !name.contains('/') && ![FINALIZER, "orphan"].contains(&name) {
            errors.push(FieldError::invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

impl Rules for Namespaces {
    fn prepare_create(&self, object: &mut Value, _: &dyn Surroundings) {
        let mut finalizers = items(&object["spec"]["finalizers"]).to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(json!(FINALIZER));
        }
        object["spec"]["finalizers"] = Value::Array(finalizers);
        object["status"] = json!({"phase": "Active"});
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_finalizers(object, &mut errors);
        errors
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, sub: &str, _: &dyn Surroundings) {
        match sub {
            // Finalizers change only by the subresource that is there for it.
            "" => object["spec"]["finalizers"] = old["spec"]["finalizers"].clone(),
            "finalize" => object["status"] = old["status"].clone(),
            _ => {}
        }
    }

    fn validate_update(&self, object: &Value, _: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        match sub {
            "finalize" => validate_finalizers(object, &mut errors),
            "status" => {
                let path = Path::new("status").child("Phase");
                let deleting = !object["metadata"]["deletionTimestamp"].is_null();
                let phase = &object["status"]["phase"];
                if deleting && phase != "Terminating" {
                    let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
                    errors.push(FieldError::invalid(&path, phase, why));
                } else if !deleting && phase != "Active" {
                    let why = "may only be 'Active' if `deletionTimestamp` is empty";
                    errors.push(FieldError::invalid(&path, phase, why));
                }
            }
            _ => {}
        }
        errors
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", text(&object["status"], "phase").to_owned())]
    }
}
