//! Pods.

use super::check::{items, text};
use super::{Rules, admission, containers, pod_changes, pod_spec, pod_status, warnings};
use crate::builtin::defaults::quality_of_service;
use crate::field::{FieldErrors, Path};
use crate::resource::Surroundings;
use crate::status::ApiResult;
use serde_json::{Value, json};

pub(super) struct Pods;

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
        validate(object)
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
        match sub {
            "" => pod_changes::validate(object, old),
            "ephemeralcontainers" => pod_changes::validate_ephemeral(object, old),
            "resize" => validate(object),
            "status" => pod_status::validate(object, old),
            _ => FieldErrors::new(),
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, sub: &str) -> Vec<String> {
        let mut said = Vec::new();
        if old.is_none() {
            said = warnings::of_pod(object);
        } else if sub == "status" {
            for field in ["podIPs", "hostIPs"] {
                for (index, address) in items(&object["status"][field]).iter().enumerate() {
                    let at = Path::new("status").child(field).index(index).child("ip");
                    warnings::of_address(&at, text(address, "ip"), &mut said);
                }
            }
        }
        said
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

/// The spec, and what holds for pods but not for templates.
pub(super) fn validate(object: &Value) -> FieldErrors {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = FieldErrors::new();
    pod_spec::validate(spec, &path, &mut errors);
    for list in ["containers", "initContainers"] {
        for (index, container) in items(&spec[list]).iter().enumerate() {
            containers::validate_in_pod(container, &path.child(list).index(index), &mut errors);
        }
    }
    errors
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
