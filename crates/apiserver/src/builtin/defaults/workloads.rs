//! Defaults of the kinds that make pods.

use super::{Fields, object, set, text};
use serde_json::{Value, json};

pub(super) fn of_type(name: &str, map: &mut Fields) {
    match name {
        "Deployment" => deployment(map),
        "ReplicaSet" => {
            if let Some(spec) = object(map, "spec") {
                set(spec, "replicas", 1);
            }
        }
        "DaemonSet" => daemon_set(map),
        "StatefulSet" => stateful_set(map),
        "Job" => job(map),
        "CronJob" => cron_job(map),
        "PodFailurePolicyOnPodConditionsPattern" => set(map, "status", "True"),
        _ => {}
    }
}

fn deployment(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = object(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            set_number_or_text(rolling, "maxUnavailable", json!("25%"));
            set_number_or_text(rolling, "maxSurge", json!("25%"));
        }
    }
}

/// Sets what is missing; an empty text is a value.
fn set_number_or_text(map: &mut Fields, name: &str, value: Value) {
    if map.get(name).is_none_or(Value::is_null) {
        map.insert(name.to_owned(), value);
    }
}

fn daemon_set(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = object(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            set_number_or_text(rolling, "maxUnavailable", json!(1));
            set_number_or_text(rolling, "maxSurge", json!(0));
        }
    }
}

fn stateful_set(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    set(spec, "podManagementPolicy", "OrderedReady");
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = object(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            set(strategy, "type", "RollingUpdate");
            set(strategy, "rollingUpdate", json!({}));
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut)
        {
            set(rolling, "partition", 0);
        }
    }
    if let Some(policy) = object(spec, "persistentVolumeClaimRetentionPolicy") {
        set(policy, "whenDeleted", "Retain");
        set(policy, "whenScaled", "Retain");
    }
    let templates = spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut);
    for template in templates.into_iter().flatten().filter_map(Value::as_object_mut) {
        set(template, "apiVersion", "v1");
        set(template, "kind", "PersistentVolumeClaim");
    }
}

fn job(map: &mut Fields) {
    let labels = map
        .get("spec")
        .map(|spec| spec["template"]["metadata"]["labels"].clone());
    if let Some(metadata) = object(map, "metadata")
        && let Some(Value::Object(labels)) = labels
        && metadata
            .get("labels")
            .and_then(Value::as_object)
            .is_none_or(Fields::is_empty)
    {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    let Some(spec) = object(map, "spec") else {
        return;
    };
    let missing = |spec: &Fields, name: &str| spec.get(name).is_none_or(Value::is_null);
    if missing(spec, "parallelism") {
        set(
            spec,
            "completions",
            if missing(spec, "completions") {
                json!(1)
            } else {
                Value::Null
            },
        );
    }
    set(spec, "parallelism", 1);
    let limit = if missing(spec, "backoffLimitPerIndex") {
        6
    } else {
        i32::MAX
    };
    set(spec, "backoffLimit", limit);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let replacement = if missing(spec, "podFailurePolicy") {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    set(spec, "podReplacementPolicy", replacement);
}

fn cron_job(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
}
