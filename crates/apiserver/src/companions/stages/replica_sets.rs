//! What the controller of `ReplicaSets` does.

use super::plan::{self, Action, Plan, Scene, count, is_active, is_ready, length, owned_by, replicas};
use super::world::{Kind, Ref, number, text, uid};
use serde_json::{Value, json};

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, set: &Value) -> Plan {
    let mut pods: Vec<&Value> = scene
        .world
        .controlled(Kind::Pod, set)
        .filter(|pod| is_active(pod))
        .collect();
    let wanted = replicas(set);
    let mut actions = Vec::new();
    for _ in length(pods.len())..wanted {
        actions.push(Action::Create(Kind::Pod, pod_of(Kind::ReplicaSet, set)));
    }
    let excess = usize::try_from(length(pods.len()) - wanted).unwrap_or_default();
    if excess > 0 {
        // Those that are not ready go first, then the youngest.
        pods.sort_by_key(|pod| {
            (
                is_ready(pod),
                std::cmp::Reverse(text(pod, "/metadata/creationTimestamp").to_owned()),
            )
        });
        for pod in pods.iter().take(excess) {
            actions.push(Action::Delete {
                at: Ref::of(Kind::Pod, pod),
                uid: uid(pod).to_owned(),
                now: false,
            });
        }
    }
    let seconds = number(set, "/spec/minReadySeconds").unwrap_or_default();
    let counted = count(pods.iter().copied(), seconds, scene.now);
    let template = set
        .pointer("/spec/template/metadata/labels")
        .and_then(Value::as_object);
    let labelled = pods.iter().filter(|pod| {
        let labels = &pod["metadata"]["labels"];
        template
            .into_iter()
            .flatten()
            .all(|(name, value)| labels[name] == *value)
    });
    let mut status = json!({
        "fullyLabeledReplicas": labelled.count(), "readyReplicas": counted.ready,
        "availableReplicas": counted.available, "observedGeneration": set["metadata"]["generation"],
    });
    if number(set, "/status/replicas") != Some(length(pods.len())) {
        status["replicas"] = json!(pods.len());
    }
    let again = counted.again;
    // `replicas` is there when it is zero, too.
    let mut patch = plan::status_patch(at, set, status);
    if let Some(Action::PatchStatus(_, patch)) = &mut patch
        && patch.pointer("/status/replicas").is_some()
    {
        patch["status"]["replicas"] = json!(pods.len());
    }
    actions.extend(patch);
    Plan {
        actions,
        again,
        ..Plan::default()
    }
}

/// A pod as the template says.
pub(super) fn pod_of(kind: Kind, owner: &Value) -> Value {
    let template = &owner["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": format!("{}-", text(owner, "/metadata/name")),
            "namespace": text(owner, "/metadata/namespace"),
            "ownerReferences": owned_by(kind, owner),
        },
        "spec": template["spec"],
    });
    for name in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(name) {
            pod["metadata"][name] = value.clone();
        }
    }
    pod
}
