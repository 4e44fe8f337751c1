//! What the controller of Deployments does.

use super::plan::{
    Action, Plan, Scene, conditions_of, owned_by, replicas, scaled, status_patch, with_condition,
};
use super::rollout::{self, Limits, Size};
use super::world::{Kind, Ref, is_deleting, number, text, uid};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, deployment: &Value) -> Plan {
    let mut sets: Vec<&Value> = scene
        .world
        .controlled(Kind::ReplicaSet, deployment)
        .filter(|set| !is_deleting(set))
        .collect();
    sets.sort_by_key(|set| revision(set));
    let new = sets
        .iter()
        .copied()
        .find(|set| same_template(&set["spec"]["template"], &deployment["spec"]["template"]));
    let old: Vec<&Value> = sets
        .iter()
        .copied()
        .filter(|set| new.is_none_or(|new| uid(new) != uid(set)))
        .collect();
    let limits = limits(deployment);
    let mut actions = Vec::new();
    let paused = deployment["spec"]["paused"] == true;
    match new {
        None if !paused => actions.extend(create_set(scene, deployment, &old, limits)),
        Some(new) if !paused => {
            number_set(at, deployment, new, &old, &mut actions);
            roll(scene, deployment, new, &old, limits, &mut actions);
        }
        _ => {}
    }
    clean_up(deployment, &old, &mut actions);
    actions.extend(status(scene, at, deployment, new, &sets, limits));
    Plan {
        actions,
        ..Plan::default()
    }
}

fn limits(deployment: &Value) -> Limits {
    let replicas = replicas(deployment);
    if is_recreate(deployment) {
        return Limits {
            replicas,
            surge: 0,
            unavailable: 0,
        };
    }
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    let surge = scaled(rolling.get("maxSurge"), replicas, true, "25%");
    let unavailable = scaled(rolling.get("maxUnavailable"), replicas, false, "25%").min(replicas);
    Limits {
        replicas,
        surge,
        unavailable: if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable
        },
    }
}

fn is_recreate(deployment: &Value) -> bool {
    text(deployment, "/spec/strategy/type") == "Recreate"
}

fn size(set: &Value) -> Size {
    Size {
        wanted: replicas(set),
        there: number(set, "/status/replicas").unwrap_or_default(),
        available: number(set, "/status/availableReplicas").unwrap_or_default(),
    }
}

fn revision(set: &Value) -> i64 {
    let text = set["metadata"]["annotations"][REVISION].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether two templates are the same but for the label that tells sets apart.
fn same_template(a: &Value, b: &Value) -> bool {
    let without = |template: &Value| {
        let mut template = template.clone();
        if let Some(labels) = template
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.remove(HASH);
        }
        template
    };
    without(a) == without(b)
}

/// A short name for a template, of the letters that generated names are made of.
pub(super) fn template_hash(template: &Value) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = Sha256::digest(template.to_string().as_bytes());
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}

fn create_set(scene: &Scene<'_>, deployment: &Value, old: &[&Value], limits: Limits) -> Option<Action> {
    let olds: Vec<Size> = old.iter().map(|set| size(set)).collect();
    let pods_left = olds.iter().any(|size| size.wanted > 0 || size.there > 0) || terminating(scene, old);
    let nothing = Size {
        wanted: 0,
        there: 0,
        available: 0,
    };
    let first = if !is_recreate(deployment) {
        rollout::new_size(limits, nothing, &olds)
    } else if pods_left {
        0
    } else {
        limits.replicas
    };
    let name = text(deployment, "/metadata/name");
    let hash = template_hash(&deployment["spec"]["template"]);
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"][HASH] = json!(hash);
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = json!(hash);
    let last = old.iter().map(|set| revision(set)).max().unwrap_or_default();
    let mut annotations = deployment["metadata"]["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(REVISION.to_owned(), json!((last + 1).to_string()));
    annotations.insert(
        "deployment.kubernetes.io/desired-replicas".to_owned(),
        json!(limits.replicas.to_string()),
    );
    let most = (limits.replicas + limits.surge).to_string();
    annotations.insert("deployment.kubernetes.io/max-replicas".to_owned(), json!(most));
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{name}-{hash}"), "namespace": text(deployment, "/metadata/namespace"),
            "labels": template["metadata"]["labels"], "annotations": annotations,
            "ownerReferences": owned_by(Kind::Deployment, deployment),
        },
        "spec": {"replicas": first, "selector": selector, "template": template},
    });
    if let Some(seconds) = deployment["spec"].get("minReadySeconds") {
        set["spec"]["minReadySeconds"] = seconds.clone();
    }
    let at = Ref::of(Kind::ReplicaSet, &set);
    scene
        .world
        .get(&at)
        .is_none()
        .then_some(Action::Create(Kind::ReplicaSet, set))
}

/// Whether pods of these sets are still on their way out.
fn terminating(scene: &Scene<'_>, sets: &[&Value]) -> bool {
    sets.iter()
        .any(|set| scene.world.controlled(Kind::Pod, set).any(is_deleting))
}

/// Keeps the new set's revision the highest, and the Deployment's the same.
fn number_set(at: &Ref, deployment: &Value, new: &Value, old: &[&Value], actions: &mut Vec<Action>) {
    let last = old.iter().map(|set| revision(set)).max().unwrap_or_default();
    let mut current = revision(new);
    if current <= last {
        current = last + 1;
        let patch = json!({"metadata": {"annotations": {REVISION: current.to_string()}}});
        actions.push(Action::Patch(Ref::of(Kind::ReplicaSet, new), patch));
    }
    if revision(deployment) != current {
        let patch = json!({"metadata": {"annotations": {REVISION: current.to_string()}}});
        actions.push(Action::Patch(at.clone(), patch));
    }
}

fn roll(
    scene: &Scene<'_>,
    deployment: &Value,
    new: &Value,
    old: &[&Value],
    limits: Limits,
    actions: &mut Vec<Action>,
) {
    let olds: Vec<Size> = old.iter().map(|set| size(set)).collect();
    let mut scale = |set: &Value, to: i64| {
        if replicas(set) != to {
            actions.push(Action::Patch(
                Ref::of(Kind::ReplicaSet, set),
                json!({"spec": {"replicas": to}}),
            ));
        }
    };
    if is_recreate(deployment) {
        for set in old {
            scale(set, 0);
        }
        let pods_left = olds.iter().any(|size| size.wanted > 0 || size.there > 0) || terminating(scene, old);
        if !pods_left {
            scale(new, limits.replicas);
        }
        return;
    }
    let mut size = size(new);
    size.wanted = rollout::new_size(limits, size, &olds);
    scale(new, size.wanted);
    for (set, to) in old.iter().zip(rollout::old_sizes(limits, size, &olds)) {
        scale(set, to);
    }
}

/// Deletes old sets beyond those that are kept for a roll-back.
fn clean_up(deployment: &Value, old: &[&Value], actions: &mut Vec<Action>) {
    let kept = number(deployment, "/spec/revisionHistoryLimit").unwrap_or(10);
    let idle: Vec<&&Value> = old
        .iter()
        .filter(|set| replicas(set) == 0 && number(set, "/status/replicas").unwrap_or_default() == 0)
        .collect();
    let excess = idle
        .len()
        .saturating_sub(usize::try_from(kept).unwrap_or_default());
    for set in idle.into_iter().take(excess) {
        actions.push(Action::Delete {
            at: Ref::of(Kind::ReplicaSet, set),
            uid: uid(set).to_owned(),
            now: false,
        });
    }
}

fn status(
    scene: &Scene<'_>,
    at: &Ref,
    deployment: &Value,
    new: Option<&Value>,
    sets: &[&Value],
    limits: Limits,
) -> Option<Action> {
    let sum = |pointer: &str| {
        sets.iter()
            .map(|set| number(set, pointer).unwrap_or_default())
            .sum::<i64>()
    };
    let (there, ready, available) = (
        sum("/status/replicas"),
        sum("/status/readyReplicas"),
        sum("/status/availableReplicas"),
    );
    let updated = new
        .and_then(|new| number(new, "/status/replicas"))
        .unwrap_or_default();
    let total: i64 = sets.iter().map(|set| replicas(set)).sum();
    let time = scene.time();
    let mut conditions = conditions_of(deployment);
    let is_available = available >= limits.least();
    let minimum = if is_available {
        json!({"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
            "message": "Deployment has minimum availability."})
    } else {
        json!({"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
            "message": "Deployment does not have minimum availability."})
    };
    with_condition(&mut conditions, minimum, &time, true);
    if let Some(new) = new {
        let complete = updated == limits.replicas && there == limits.replicas && available == limits.replicas;
        let name = text(new, "/metadata/name");
        let (reason, message) = if complete {
            (
                "NewReplicaSetAvailable",
                format!("ReplicaSet {name:?} has successfully progressed."),
            )
        } else {
            (
                "ReplicaSetUpdated",
                format!("ReplicaSet {name:?} is progressing."),
            )
        };
        let progressing =
            json!({"type": "Progressing", "status": "True", "reason": reason, "message": message});
        with_condition(&mut conditions, progressing, &time, true);
    }
    let wanted = json!({
        "replicas": there, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": available,
        "unavailableReplicas": (total - available).max(0), "conditions": conditions,
        "observedGeneration": deployment["metadata"]["generation"],
    });
    status_patch(at, deployment, wanted)
}
