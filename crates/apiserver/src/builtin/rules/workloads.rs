//! `Deployment`, `ReplicaSet` and `StatefulSet`.

use super::Rules;
use super::check::{
    IMMUTABLE, at_most_all, items, label, not_negative_fields, not_supported, number_or_percent, percent,
    shown_as, text,
};
use super::claims;
use super::labels::{is_empty, is_valid, matches, validate_selector};
use super::{pod_spec, warnings};
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::resource::Surroundings;
use serde_json::{Value, json};

pub(super) struct Deployments;
pub(super) struct ReplicaSets;
pub(super) struct StatefulSets;

/// The selector must be there, right, and select something.
fn validate_selection(spec: &Value, path: &Path, kind: &str, errors: &mut FieldErrors) {
    let at = path.child("selector");
    let selector = &spec["selector"];
    if selector.is_null() {
        errors.push(FieldError::required(&at, ""));
        return;
    }
    validate_selector(&at, selector, errors);
    if is_empty(selector) {
        errors.push(FieldError::invalid(
            &at,
            selector,
            format!("empty selector is invalid for {kind}"),
        ));
    }
}

/// The template, which the selector must select.
fn validate_template(spec: &Value, path: &Path, in_deployment: bool, errors: &mut FieldErrors) {
    let at = path.child("template");
    let template = &spec["template"];
    let labels = &template["metadata"]["labels"];
    if spec["selector"].is_null() || (!is_empty(&spec["selector"]) && !matches(&spec["selector"], labels)) {
        errors.push(FieldError::invalid(
            &at.child("metadata").child("labels"),
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    pod_spec::validate_template(template, &at, errors);
    let pod = at.child("spec");
    let policy = &template["spec"]["restartPolicy"];
    if policy != "Always" {
        errors.push(FieldError::not_supported(
            &pod.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() {
        let kind = if in_deployment {
            "ReplicaSet"
        } else {
            "StatefulSet"
        };
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&pod.child("activeDeadlineSeconds"), why));
    }
}

/// The pods of a deployment or replica set: which they are, and how they are made.
fn validate_pods(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    validate_selection(spec, path, "deployment", errors);
    let selector = &spec["selector"];
    // A selector that is wrong selects nothing, and the template is not looked at.
    if selector.is_null() || is_valid(selector) {
        validate_template(spec, path, true, errors);
    } else {
        let at = path.child("selector");
        errors.push(FieldError::invalid(&at, selector, "invalid label selector"));
    }
}

/// A selector that never changes.
fn validate_same_selector(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, was) = (&object["spec"]["selector"], &old["spec"]["selector"]);
    if new != was {
        errors.push(FieldError::invalid(
            &Path::new("spec").child("selector"),
            new,
            IMMUTABLE,
        ));
    }
}

/// The numbers of a status; of replicas there are no more than all, none is available that is not ready.
fn validate_status(status: &Value, numbers: &[&str], counted: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status");
    not_negative_fields(&path, status, numbers, &mut errors);
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    for name in counted {
        if number(name) > number("replicas") {
            let shown = json!(number(name));
            errors.push(FieldError::invalid(
                &path.child(name),
                &shown,
                "cannot be greater than status.replicas",
            ));
        }
    }
    if number("availableReplicas") > number("readyReplicas") {
        let shown = json!(number("availableReplicas"));
        let at = path.child("availableReplicas");
        errors.push(FieldError::invalid(
            &at,
            &shown,
            "cannot be greater than readyReplicas",
        ));
    }
    errors
}

impl Deployments {
    fn validate(object: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        not_negative_fields(&path, spec, &["replicas"], &mut errors);
        validate_pods(spec, &path, &mut errors);
        Self::validate_strategy(&spec["strategy"], &path.child("strategy"), &mut errors);
        let numbers = [
            "minReadySeconds",
            "revisionHistoryLimit",
            "progressDeadlineSeconds",
        ];
        not_negative_fields(&path, spec, &numbers, &mut errors);
        let deadline = &spec["progressDeadlineSeconds"];
        if deadline
            .as_i64()
            .is_some_and(|seconds| seconds <= spec["minReadySeconds"].as_i64().unwrap_or(0))
        {
            let at = path.child("progressDeadlineSeconds");
            errors.push(FieldError::invalid(
                &at,
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
        errors
    }

    fn validate_strategy(strategy: &Value, path: &Path, errors: &mut FieldErrors) {
        let rolling = &strategy["rollingUpdate"];
        let at = path.child("rollingUpdate");
        match text(strategy, "type") {
            "Recreate" => {
                if !rolling.is_null() {
                    let why = "may not be specified when strategy `type` is 'Recreate'";
                    errors.push(FieldError::forbidden(&at, why));
                }
            }
            "RollingUpdate" => {
                if rolling.is_null() {
                    errors.push(FieldError::required(
                        &at,
                        "this should be defaulted and never be nil",
                    ));
                    return;
                }
                let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
                number_or_percent(&unavailable, &rolling["maxUnavailable"], errors);
                number_or_percent(&surge, &rolling["maxSurge"], errors);
                let is_zero = |value: &Value| value == 0 || value.as_str().and_then(percent) == Some(0);
                if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
                    let why = "may not be 0 when `maxSurge` is 0";
                    errors.push(FieldError::invalid(&unavailable, &rolling["maxUnavailable"], why));
                }
                at_most_all(&unavailable, &rolling["maxUnavailable"], errors);
            }
            kind => {
                let shown = format!(r#"{{"Type":{},"RollingUpdate":{rolling}}}"#, json!(kind));
                let why = r#"supported values: "Recreate", "RollingUpdate""#;
                errors.push(shown_as(Kind::NotSupported, path, &shown, why));
            }
        }
    }
}

impl Rules for Deployments {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        Self::validate(object)
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, sub: &str, _: &dyn Surroundings) {
        if sub == "status" {
            object["metadata"]["labels"] = old["metadata"]["labels"].clone();
        }
    }

    fn raises_generation(&self, object: &Value, old: &Value, sub: &str) -> bool {
        // Revisions and pauses of rollouts are written as annotations.
        sub.is_empty() && object["metadata"]["annotations"] != old["metadata"]["annotations"]
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        if sub == "status" {
            let numbers = [
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "collisionCount",
            ];
            let counted = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            return validate_status(&object["status"], &numbers, &counted);
        }
        let mut errors = Self::validate(object);
        validate_same_selector(object, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, _: &str) -> Vec<String> {
        warnings::of_workload(object, old, true)
    }
}

impl ReplicaSets {
    fn validate(object: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        not_negative_fields(&path, spec, &["replicas", "minReadySeconds"], &mut errors);
        validate_pods(spec, &path, &mut errors);
        errors
    }
}

impl Rules for ReplicaSets {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        Self::validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        if sub == "status" {
            let numbers = [
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ];
            let counted = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
            return validate_status(&object["status"], &numbers, &counted);
        }
        let mut errors = Self::validate(object);
        validate_same_selector(object, old, &mut errors);
        errors
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let replicas = object["status"]["replicas"].as_i64().unwrap_or(0);
        vec![("status.replicas", replicas.to_string())]
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, _: &str) -> Vec<String> {
        warnings::of_workload(object, old, true)
    }
}

impl StatefulSets {
    fn validate(object: &Value, is_new: bool) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let policy = text(spec, "podManagementPolicy");
        if !["OrderedReady", "Parallel"].contains(&policy) {
            let why = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(
                &path.child("podManagementPolicy"),
                &json!(policy),
                why,
            ));
        }
        Self::validate_strategy(
            &spec["updateStrategy"],
            &path.child("updateStrategy"),
            &mut errors,
        );
        let retention = path.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let value = &spec["persistentVolumeClaimRetentionPolicy"][field];
            not_supported(&retention.child(field), value, &["Retain", "Delete"], &mut errors);
        }
        not_negative_fields(&path, spec, &["replicas", "minReadySeconds"], &mut errors);
        not_negative_fields(
            &path.child("ordinals"),
            &spec["ordinals"],
            &["start"],
            &mut errors,
        );
        if is_new {
            for (index, claim) in items(&spec["volumeClaimTemplates"]).iter().enumerate() {
                let at = path.child("volumeClaimTemplates").index(index).child("spec");
                errors.extend(claims::validate_spec(&claim["spec"], &at));
            }
        }
        validate_selection(spec, &path, "statefulset", &mut errors);
        if is_new && !text(spec, "serviceName").is_empty() {
            label(&path.child("serviceName"), text(spec, "serviceName"), &mut errors);
        }
        if spec["selector"].is_null() || is_valid(&spec["selector"]) {
            // The claims are volumes of the pods, and come before the template's own.
            let mut spec = spec.clone();
            let mut volumes: Vec<Value> = Vec::new();
            for claim in items(&spec["volumeClaimTemplates"]) {
                let name = &claim["metadata"]["name"];
                volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
            }
            volumes.extend(items(&spec["template"]["spec"]["volumes"]).iter().cloned());
            spec["template"]["spec"]["volumes"] = Value::Array(volumes);
            validate_template(&spec, &path, false, &mut errors);
        }
        errors
    }

    fn validate_strategy(strategy: &Value, path: &Path, errors: &mut FieldErrors) {
        let rolling = &strategy["rollingUpdate"];
        let shown = format!(
            r#"{{"Partition":{},"MaxUnavailable":{}}}"#,
            rolling["partition"], rolling["maxUnavailable"]
        );
        match text(strategy, "type") {
            "" => errors.push(FieldError::required(path, "")),
            "OnDelete" => {
                if !rolling.is_null() {
                    let why = "only allowed for updateStrategy 'RollingUpdate'";
                    errors.push(shown_as(Kind::Invalid, &path.child("rollingUpdate"), &shown, why));
                }
            }
            "RollingUpdate" => {
                not_negative_fields(&path.child("rollingUpdate"), rolling, &["partition"], errors);
            }
            kind => {
                let rolling = if rolling.is_null() { "null" } else { &shown };
                let shown = format!(r#"{{"Type":{},"RollingUpdate":{rolling}}}"#, json!(kind));
                let why = "must be 'RollingUpdate' or 'OnDelete'";
                errors.push(shown_as(Kind::Invalid, path, &shown, why));
            }
        }
    }
}

/// What of a `StatefulSet`'s spec may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

impl Rules for StatefulSets {
    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        Self::validate(object, true)
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        if sub == "status" {
            let numbers = [
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ];
            let counted = [
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ];
            return validate_status(&object["status"], &numbers, &counted);
        }
        let mut errors = Self::validate(object, false);
        let fixed = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                map.retain(|name, _| !CHANGEABLE.contains(&name.as_str()));
            }
            spec
        };
        if fixed(object) != fixed(old) {
            errors.push(FieldError::forbidden(
                &Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ));
        }
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, sub: &str) -> Vec<String> {
        if sub == "status" {
            return Vec::new();
        }
        let mut said = warnings::of_workload(object, old, false);
        let spec = &object["spec"];
        for (index, claim) in items(&spec["volumeClaimTemplates"]).iter().enumerate() {
            let mut at = Path::new("spec").child("volumeClaimTemplates").index(index);
            if old.is_some() {
                // The real server says it so, and only here.
                at = at.child("Spec");
            }
            said.extend(warnings::of_claim_spec(&at, &claim["spec"]));
        }
        if spec["revisionHistoryLimit"]
            .as_i64()
            .is_some_and(|limit| limit < 0)
        {
            said.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                    .to_owned(),
            );
        }
        said
    }
}
