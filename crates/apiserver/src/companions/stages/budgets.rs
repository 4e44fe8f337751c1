//! What the disruption controller does: the status of a `PodDisruptionBudget`.

use super::plan::{
    Plan, Scene, conditions_of, is_active, is_ready, length, replicas, scaled, status_patch, with_condition,
};
use super::world::{Kind, Ref, World, controller, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, budget: &Value) -> Plan {
    let selector = &budget["spec"]["selector"];
    let pods: Vec<&Value> = scene
        .world
        .in_namespace(Kind::Pod, &at.namespace)
        .map(|(_, pod)| pod)
        .filter(|pod| is_active(pod) && selects(selector, &pod["metadata"]["labels"]))
        .collect();
    let healthy = length(pods.iter().filter(|pod| is_ready(pod)).count());
    let (expected, desired) = bounds(scene.world, at, budget, &pods);
    let allowed = if expected > 0 {
        (healthy - desired).max(0)
    } else {
        0
    };
    let (status, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let generation = &budget["metadata"]["generation"];
    let mut conditions = conditions_of(budget);
    let condition = json!({
        "type": "DisruptionAllowed", "status": status, "reason": reason, "message": "", "observedGeneration": generation,
    });
    with_condition(&mut conditions, condition, &scene.time(), false);
    let mut wanted = json!({"observedGeneration": generation, "conditions": conditions});
    let counts = [
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("disruptionsAllowed", allowed),
        ("expectedPods", expected),
    ];
    let differs = counts
        .iter()
        .any(|(name, count)| budget["status"][*name] != *count);
    let mut plan = Plan::default();
    if differs {
        // These are there when they are zero, too.
        for (name, count) in counts {
            wanted[name] = json!(count);
        }
        let patch = json!({ "status": wanted });
        plan.actions
            .push(super::plan::Action::PatchStatus(at.clone(), patch));
    } else {
        plan.actions.extend(status_patch(at, budget, wanted));
    }
    plan
}

/// How many pods there are to be, and how many of them must stay.
fn bounds(world: &World, at: &Ref, budget: &Value, pods: &[&Value]) -> (i64, i64) {
    let (least, most) = (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]);
    if let Some(least) = least.as_i64() {
        return (length(pods.len()), least);
    }
    let expected = expected(world, at, pods);
    if !most.is_null() {
        return (
            expected,
            (expected - scaled(Some(most), expected, true, "0")).max(0),
        );
    }
    (expected, scaled(Some(least), expected, true, "0"))
}

/// The replicas of all workloads that the pods are of; a pod of none counts as itself.
fn expected(world: &World, at: &Ref, pods: &[&Value]) -> i64 {
    let mut alone = 0;
    let mut workloads: BTreeMap<String, i64> = BTreeMap::new();
    for pod in pods {
        match workload(world, &at.namespace, pod) {
            Some(workload) => {
                workloads.insert(text(workload, "/metadata/uid").to_owned(), replicas(workload));
            }
            None => alone += 1,
        }
    }
    alone + workloads.values().sum::<i64>()
}

/// The workload that an object is of, at the top.
fn workload<'w>(world: &'w World, namespace: &str, object: &Value) -> Option<&'w Value> {
    let owner = controller(object)?;
    let kind = [Kind::ReplicaSet, Kind::StatefulSet, Kind::Deployment]
        .into_iter()
        .find(|kind| owner["kind"] == kind.name())?;
    let found = world.get(&Ref {
        kind,
        namespace: namespace.to_owned(),
        name: text(owner, "/name").to_owned(),
    })?;
    workload(world, namespace, found).or(Some(found))
}

/// Whether a label selector matches; one that is empty matches all, one that is not there none.
fn selects(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(name, value)| labels[name] == *value);
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal
        && expressions.into_iter().all(|expression| {
            let label = &labels[text(expression, "/key")];
            let listed = expression["values"]
                .as_array()
                .is_some_and(|values| values.contains(label));
            match text(expression, "/operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !label.is_null(),
                "DoesNotExist" => label.is_null(),
                _ => false,
            }
        })
}
