//! Where a pod may run: affinity, spreading, tolerations.

use super::check::{items, qualified, text};
use super::labels::validate_selector;
use crate::field::{FieldError, FieldErrors, Path};
use serde_json::{Value, json};

/// The field of an affinity that must hold.
pub(super) const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
/// The field of an affinity that weighs.
pub(super) const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate_affinity(affinity: &Value, path: &Path, errors: &mut FieldErrors) {
    let node = &affinity["nodeAffinity"];
    let at = path.child("nodeAffinity");
    if !node[REQUIRED].is_null() {
        validate_node_selector(&node[REQUIRED], &at.child(REQUIRED), errors);
    }
    for (index, preferred) in items(&node[PREFERRED]).iter().enumerate() {
        let at = at.child(PREFERRED).index(index);
        validate_weight(preferred, &at, errors);
        validate_term(&preferred["preference"], &at.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = path.child(kind);
        for (index, term) in items(&affinity[kind][REQUIRED]).iter().enumerate() {
            validate_pod_term(term, &at.child(REQUIRED).index(index), errors);
        }
        for (index, preferred) in items(&affinity[kind][PREFERRED]).iter().enumerate() {
            let at = at.child(PREFERRED).index(index);
            validate_weight(preferred, &at, errors);
            validate_pod_term(
                &preferred["podAffinityTerm"],
                &at.child("podAffinityTerm"),
                errors,
            );
        }
    }
}

/// Terms of which a node has to meet one.
pub(super) fn validate_node_selector(selector: &Value, path: &Path, errors: &mut FieldErrors) {
    let at = path.child("nodeSelectorTerms");
    let terms = items(&selector["nodeSelectorTerms"]);
    if terms.is_empty() {
        errors.push(FieldError::required(
            &at,
            "must have at least one node selector term",
        ));
    }
    for (index, term) in terms.iter().enumerate() {
        validate_term(term, &at.index(index), errors);
    }
}

fn validate_weight(preferred: &Value, path: &Path, errors: &mut FieldErrors) {
    let weight = preferred["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        let why = "must be in the range 1-100";
        errors.push(FieldError::invalid(&path.child("weight"), &json!(weight), why));
    }
}

fn validate_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, expression) in items(&term["matchExpressions"]).iter().enumerate() {
        let at = path.child("matchExpressions").index(index);
        let values = items(&expression["values"]);
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &at.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &at.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
                &at.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.push(FieldError::invalid(
                &at.child("operator"),
                &json!(other),
                "not a valid selector operator",
            )),
        }
        qualified(&at.child("key"), text(expression, "key"), errors);
    }
}

fn validate_pod_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    validate_selector(&path.child("labelSelector"), &term["labelSelector"], errors);
    validate_selector(
        &path.child("namespaceSelector"),
        &term["namespaceSelector"],
        errors,
    );
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(
            &path.child("topologyKey"),
            "can not be empty",
        ));
        qualified(&path.child("topologyKey"), key, errors);
    } else {
        qualified(&path.child("topologyKey"), key, errors);
    }
}

pub(super) fn validate_spread(constraints: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, constraint) in items(constraints).iter().enumerate() {
        let at = path.index(index);
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(
                &at.child("maxSkew"),
                &json!(skew),
                "must be greater than zero",
            ));
        }
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        } else {
            qualified(&at.child("topologyKey"), key, errors);
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        let action = text(constraint, "whenUnsatisfiable");
        if !known.contains(&action) {
            errors.push(FieldError::not_supported(
                &at.child("whenUnsatisfiable"),
                &json!(action),
                &known,
            ));
        }
        validate_selector(&at.child("labelSelector"), &constraint["labelSelector"], errors);
    }
}

pub(super) fn validate_tolerations(tolerations: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, toleration) in items(tolerations).iter().enumerate() {
        let at = path.index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if !key.is_empty() {
            qualified(&at.child("key"), key, errors);
        }
        if key.is_empty() && operator != "Exists" {
            errors.push(FieldError::invalid(
                &at.child("operator"),
                &json!(operator),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        let effect = text(toleration, "effect");
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            errors.push(FieldError::invalid(
                &at.child("effect"),
                &json!(effect),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "Exists" if !text(toleration, "value").is_empty() => errors.push(FieldError::invalid(
                &at.child("operator"),
                &toleration["value"],
                "value must be empty when `operator` is 'Exists'",
            )),
            "" | "Equal" | "Exists" => {}
            other => errors.push(FieldError::not_supported(
                &at.child("operator"),
                &json!(other),
                &["Equal", "Exists"],
            )),
        }
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !effect.is_empty() && !known.contains(&effect) {
            errors.push(FieldError::not_supported(
                &at.child("effect"),
                &json!(effect),
                &known,
            ));
        }
    }
}
