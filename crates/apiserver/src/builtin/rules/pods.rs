//! Pods.

use super::check::{ip, items, text};
use super::{Rules, admission, pod_spec};
use crate::builtin::defaults::quality_of_service;
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use crate::status::ApiResult;
use serde_json::{Value, json};

pub(super) struct Pods;

const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

impl Rules for Pods {
    fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        sub: &str,
        around: &dyn Surroundings,
    ) -> ApiResult<()> {
        match old {
            None if sub.is_empty() => admission::admit_new(object, around),
            Some(old) if sub.is_empty() => {
                admission::tolerations(object);
                for field in ["priority", "preemptionPolicy"] {
                    if object["spec"][field].is_null() && !old["spec"][field].is_null() {
                        object["spec"][field] = old["spec"][field].clone();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        let mut status = json!({"phase": "Pending", "qosClass": quality_of_service(&object["spec"])});
        if !items(&object["spec"]["schedulingGates"]).is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": now(around),
            }]);
        }
        object["status"] = status;
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        pod_spec::validate(&object["spec"], &Path::new("spec"), &mut errors);
        errors
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, sub: &str, _: &dyn Surroundings) {
        match sub {
            "status" => {
                // Kubelets of old corrupted owner references; they are not theirs.
                object["metadata"]["ownerReferences"] = old["metadata"]["ownerReferences"].clone();
                if text(&object["status"], "qosClass").is_empty() {
                    object["status"]["qosClass"] = old["status"]["qosClass"].clone();
                }
                keep_observed_generations(object, old);
            }
            "ephemeralcontainers" => {
                let wanted = object["spec"]["ephemeralContainers"].clone();
                object["spec"] = old["spec"].clone();
                object["spec"]["ephemeralContainers"] = wanted;
                object["status"] = old["status"].clone();
            }
            "resize" => {
                let mut spec = old["spec"].clone();
                for list in ["containers", "initContainers"] {
                    for container in spec[list].as_array_mut().into_iter().flatten() {
                        let same = items(&object["spec"][list])
                            .iter()
                            .find(|c| c["name"] == container["name"]);
                        if let Some(same) = same {
                            container["resources"] = same["resources"].clone();
                        }
                    }
                }
                object["spec"] = spec;
                object["status"] = old["status"].clone();
            }
            _ => {}
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        let mut errors = FieldErrors::new();
        match sub {
            "" => validate_changes(&object["spec"], &old["spec"], &mut errors),
            "ephemeralcontainers" | "resize" => {
                pod_spec::validate(&object["spec"], &Path::new("spec"), &mut errors);
            }
            "status" => {
                for (field, at) in [("podIPs", "podIPs"), ("hostIPs", "hostIPs")] {
                    for (index, address) in items(&object["status"][field]).iter().enumerate() {
                        ip(
                            &Path::new("status").child(at).index(index),
                            &address["ip"],
                            &mut errors,
                        );
                    }
                }
            }
            _ => {}
        }
        errors
    }

    fn grace_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let seconds = asked.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64());
        let over = ["Failed", "Succeeded"].contains(&text(&object["status"], "phase"));
        if text(&object["spec"], "nodeName").is_empty() || over {
            return Some(0);
        }
        Some(match seconds.unwrap_or(0) {
            negative if negative < 0 => 1,
            seconds => seconds,
        })
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let address = items(&status["podIPs"]).first().map_or("", |ip| text(ip, "ip"));
        vec![
            ("spec.nodeName", text(spec, "nodeName").to_owned()),
            ("spec.restartPolicy", text(spec, "restartPolicy").to_owned()),
            ("spec.schedulerName", text(spec, "schedulerName").to_owned()),
            (
                "spec.serviceAccountName",
                text(spec, "serviceAccountName").to_owned(),
            ),
            ("spec.hostNetwork", (spec["hostNetwork"] == true).to_string()),
            ("status.phase", text(status, "phase").to_owned()),
            ("status.podIP", address.to_owned()),
            (
                "status.nominatedNodeName",
                text(status, "nominatedNodeName").to_owned(),
            ),
        ]
    }
}

/// The time as objects carry it.
pub(super) fn now(around: &dyn Surroundings) -> String {
    around.clock().now_seconds().to_string()
}

/// Clients that do not know `observedGeneration` do not clear it.
fn keep_observed_generations(object: &mut Value, old: &Value) {
    let status = &mut object["status"];
    if status["observedGeneration"].is_null() && !old["status"]["observedGeneration"].is_null() {
        status["observedGeneration"] = old["status"]["observedGeneration"].clone();
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let was = items(&old["status"]["conditions"])
            .iter()
            .find(|was| was["type"] == condition["type"]);
        let generation = was
            .map(|was| was["observedGeneration"].clone())
            .filter(|g| !g.is_null());
        if condition["observedGeneration"].is_null()
            && let Some(generation) = generation
        {
            condition["observedGeneration"] = generation;
        }
    }
}

/// A pod's spec hardly changes: images, a shorter deadline, more tolerations, fewer gates.
fn validate_changes(spec: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    pod_spec::validate(spec, &path, errors);
    for list in ["containers", "initContainers"] {
        if items(&spec[list]).len() != items(&old[list]).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(list), why));
            return;
        }
    }
    let deadline = path.child("activeDeadlineSeconds");
    match (
        spec["activeDeadlineSeconds"].as_i64(),
        old["activeDeadlineSeconds"].as_i64(),
    ) {
        (Some(new), Some(was)) if new > was => {
            let why = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(&deadline, &json!(new), why));
            return;
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&deadline, &Value::Null, why));
        }
        _ => {}
    }
    validate_tolerations(spec, old, &path, errors);
    let gates = items(&old["schedulingGates"]);
    for gate in items(&spec["schedulingGates"]) {
        if !gates.contains(gate) {
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                text(gate, "name")
            );
            errors.push(FieldError::forbidden(&path.child("schedulingGates"), why));
        }
    }
    let mut rest = spec.clone();
    for list in ["containers", "initContainers"] {
        let containers = rest.get_mut(list).and_then(Value::as_array_mut);
        for (container, was) in containers.into_iter().flatten().zip(items(&old[list])) {
            container["image"] = was["image"].clone();
        }
    }
    let negative = old["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 0);
    let mut same = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if negative && spec["terminationGracePeriodSeconds"] == 1 {
        same.push("terminationGracePeriodSeconds");
    }
    if !gates.is_empty() {
        same.push("nodeSelector");
    }
    for field in same {
        if old[field].is_null() {
            if let Some(map) = rest.as_object_mut() {
                map.remove(field);
            }
        } else {
            rest[field] = old[field].clone();
        }
    }
    if rest != *old {
        errors.push(FieldError::forbidden(&path, UNCHANGEABLE));
    }
}

fn validate_tolerations(spec: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        toleration
    };
    let kept = items(&old["tolerations"]).iter().all(|was| {
        items(&spec["tolerations"])
            .iter()
            .any(|new| without_seconds(new) == without_seconds(was))
    });
    if !kept {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), why));
    }
}
