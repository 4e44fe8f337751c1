//! Roles, and their bindings: whom a binding binds may change, to what it binds may not.

use super::Rules;
use super::check::{complaints, items, not_supported, shown_as, subdomain, text};
use super::labels::validate_selector;
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::metadata::names;
use crate::resource::Surroundings;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles of a namespace or of the cluster.
pub(super) struct Roles {
    pub(super) namespaced: bool,
}

/// Bindings in a namespace or in the cluster.
pub(super) struct Bindings {
    pub(super) namespaced: bool,
}

impl Roles {
    fn validate(&self, role: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (index, rule) in items(&role["rules"]).iter().enumerate() {
            self.validate_rule(rule, &Path::new("rules").index(index), &mut errors);
        }
        let aggregation = &role["aggregationRule"];
        if !self.namespaced && !aggregation.is_null() {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors");
            let selectors = items(&aggregation["clusterRoleSelectors"]);
            if selectors.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(&path, why));
            }
            for (index, selector) in selectors.iter().enumerate() {
                validate_selector(&path.index(index), selector, &mut errors);
            }
        }
        errors
    }

    fn validate_rule(&self, rule: &Value, path: &Path, errors: &mut FieldErrors) {
        let has = |field: &str| !items(&rule[field]).is_empty();
        let mut require = |field: &str, why: &str| {
            if !has(field) {
                errors.push(FieldError::required(&path.child(field), why));
            }
        };
        require("verbs", "verbs must contain at least one value");
        if !has("nonResourceURLs") {
            require("apiGroups", "resource rules must supply at least one api group");
            require("resources", "resource rules must supply at least one resource");
            return;
        }
        let mut refuse = |why: &str| {
            let at = path.child("nonResourceURLs");
            errors.push(FieldError::invalid(&at, &rule["nonResourceURLs"], why));
        };
        if self.namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
    }
}

impl Rules for Roles {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        self.validate(object)
    }

    fn validate_update(&self, object: &Value, _: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        self.validate(object)
    }
}

impl Bindings {
    fn validate(&self, binding: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (role, path) = (&binding["roleRef"], Path::new("roleRef"));
        not_supported(&path.child("apiGroup"), &role["apiGroup"], &[GROUP], &mut errors);
        let kinds: &[&str] = if self.namespaced {
            &["Role", "ClusterRole"]
        } else {
            &["ClusterRole"]
        };
        not_supported(&path.child("kind"), &role["kind"], kinds, &mut errors);
        let name = text(role, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            let wrong = names::path_segment(name);
            complaints(&path.child("name"), &role["name"], wrong, &mut errors);
        }
        for (index, subject) in items(&binding["subjects"]).iter().enumerate() {
            self.validate_subject(subject, &Path::new("subjects").index(index), &mut errors);
        }
        errors
    }

    fn validate_subject(&self, subject: &Value, path: &Path, errors: &mut FieldErrors) {
        let name = text(subject, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        let group = json!(text(subject, "apiGroup"));
        match text(subject, "kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    subdomain(&path.child("name"), name, errors);
                }
                not_supported(&path.child("apiGroup"), &group, &[""], errors);
                if !self.namespaced && text(subject, "namespace").is_empty() {
                    errors.push(FieldError::required(&path.child("namespace"), ""));
                }
            }
            "User" | "Group" => not_supported(&path.child("apiGroup"), &group, &[GROUP], errors),
            kind => {
                let known = ["ServiceAccount", "User", "Group"];
                not_supported(&path.child("kind"), &json!(kind), &known, errors);
            }
        }
    }
}

impl Rules for Bindings {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        self.validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, _: &str, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = self.validate(object);
        let role = &object["roleRef"];
        if *role != old["roleRef"] {
            let shown = format!(
                r#"{{"APIGroup":{},"Kind":{},"Name":{}}}"#,
                role["apiGroup"], role["kind"], role["name"]
            );
            let path = Path::new("roleRef");
            errors.push(shown_as(Kind::Invalid, &path, &shown, "cannot change roleRef"));
        }
        errors
    }
}
