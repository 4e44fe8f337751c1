//! Bindings of roles: whom they bind may change, to what they bind may not.

use super::Rules;
use super::check::shown_as;
use crate::field::{FieldErrors, Kind, Path};
use crate::resource::Surroundings;
use serde_json::Value;

pub(super) struct Bindings;

impl Rules for Bindings {
    fn validate_update(&self, object: &Value, old: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        let role = &object["roleRef"];
        if *role == old["roleRef"] {
            return FieldErrors::new();
        }
        let shown = format!(
            r#"{{"APIGroup":{},"Kind":{},"Name":{}}}"#,
            role["apiGroup"], role["kind"], role["name"]
        );
        vec![shown_as(
            Kind::Invalid,
            &Path::new("roleRef"),
            &shown,
            "cannot change roleRef",
        )]
    }
}
