//! What the disruption controller does: the status of a `PodDisruptionBudget`, and an end to announced disruptions
//! that did not come.

use super::plan::{Action, Plan, Scene, conditions_of, is_ready, length, replicas, scaled, with_condition};
use super::scales::Owner;
use super::world::{Kind, Ref, World, condition, controller, is_deleting, number, text, uid};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// How long a pod that was evicted may take to be deleted, and how long one that is to be disrupted may live on.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, budget: &Value) -> Plan {
    let selector = &budget["spec"]["selector"];
    let pods: Vec<&Value> = scene
        .world
        .in_namespace(Kind::Pod, &at.namespace)
        .map(|(_, pod)| pod)
        .filter(|pod| selects(selector, &pod["metadata"]["labels"]))
        .collect();
    let bounds = match bounds(scene.world, at, budget, &pods) {
        Ok(bounds) => bounds,
        Err(Unknown::Asked(asks)) => {
            return Plan {
                asks,
                ..Plan::default()
            };
        }
        Err(Unknown::Failed(why)) => return failed(scene, at, budget, &why),
    };
    let (disrupted, again) = disrupted(scene, budget, &pods);
    let healthy = pods.iter().filter(|pod| {
        !is_deleting(pod) && is_ready(pod) && !disrupted.contains_key(text(pod, "/metadata/name"))
    });
    let healthy = length(healthy.count());
    let allowed = if bounds.expected > 0 {
        (healthy - bounds.desired).max(0)
    } else {
        0
    };
    let counts = [
        ("currentHealthy", healthy),
        ("desiredHealthy", bounds.desired),
        ("disruptionsAllowed", allowed),
        ("expectedPods", bounds.expected),
    ];
    let mut plan = Plan {
        again,
        ..Plan::default()
    };
    let (status, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let generation = &budget["metadata"]["generation"];
    let said = condition(budget, "DisruptionAllowed");
    let old = |field: &str| &budget["status"][field];
    let none = Map::new();
    let remembered = old("disruptedPods").as_object().unwrap_or(&none);
    let settled = counts
        .iter()
        .all(|(name, count)| old(name).as_i64().unwrap_or_default() == *count)
        && *remembered == disrupted
        && old("observedGeneration") == generation
        && said.is_some_and(|said| said["status"] == status && said["reason"] == reason);
    if settled {
        return plan;
    }
    let mut conditions = conditions_of(budget);
    let condition = json!({
        "type": "DisruptionAllowed", "status": status, "reason": reason, "message": "", "observedGeneration": generation,
    });
    with_condition(&mut conditions, condition, &scene.time(), false);
    let mut wanted = json!({"observedGeneration": generation, "conditions": conditions});
    for (name, count) in counts {
        wanted[name] = json!(count);
    }
    wanted["disruptedPods"] = if disrupted.is_empty() {
        Value::Null
    } else {
        let mut patch = disrupted.clone();
        for name in remembered.keys().filter(|name| !disrupted.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
        Value::Object(patch)
    };
    plan.actions.push(write(at, budget, &wanted));
    plan
}

/// A patch of the status of the object as it is known; an eviction may come between.
fn write(at: &Ref, object: &Value, status: &Value) -> Action {
    let version = &object["metadata"]["resourceVersion"];
    Action::PatchStatus(
        at.clone(),
        json!({"metadata": {"resourceVersion": version}, "status": status}),
    )
}

/// Allows no disruption where it cannot be known how many there may be.
fn failed(scene: &Scene<'_>, at: &Ref, budget: &Value, why: &str) -> Plan {
    let mut conditions = conditions_of(budget);
    let mut condition =
        json!({"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": why});
    let observed = &budget["status"]["observedGeneration"];
    if !observed.is_null() {
        condition["observedGeneration"] = observed.clone();
    }
    with_condition(&mut conditions, condition, &scene.time(), false);
    let allowed = budget["status"]["disruptionsAllowed"].as_i64();
    let mut plan = Plan::default();
    if conditions != conditions_of(budget) || allowed != Some(0) {
        let mut status = json!({"disruptionsAllowed": 0, "conditions": conditions});
        for name in ["currentHealthy", "desiredHealthy", "expectedPods"] {
            // The fields have to be there.
            status[name] = json!(budget["status"][name].as_i64().unwrap_or_default());
        }
        plan.actions.push(write(at, budget, &status));
    }
    plan
}

/// The pods that are evicted but not deleted yet, and when the first of them has had its time.
fn disrupted(scene: &Scene<'_>, budget: &Value, pods: &[&Value]) -> (Map<String, Value>, Option<Duration>) {
    let mut disrupted = Map::new();
    let mut again: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| !is_deleting(pod)) {
        let name = text(pod, "/metadata/name");
        let since = &budget["status"]["disruptedPods"][name];
        let Some(left) = since.as_str().and_then(|since| left(since, scene.now)) else {
            continue;
        };
        again = Some(again.map_or(left, |again| again.min(left)));
        disrupted.insert(name.to_owned(), since.clone());
    }
    (disrupted, again)
}

/// What is left of the time that began at `since`; none where it is over.
fn left(since: &str, now: Timestamp) -> Option<Duration> {
    let since: Timestamp = since.parse().ok()?;
    let passed = u64::try_from(now.as_millisecond() - since.as_millisecond()).unwrap_or_default();
    PATIENCE
        .checked_sub(Duration::from_millis(passed))
        .filter(|left| !left.is_zero())
}

/// Takes back a disruption that was announced for a pod and did not come.
pub(super) fn plan_pod(scene: &Scene<'_>, at: &Ref, pod: &Value) -> Plan {
    let mut plan = Plan::default();
    let announced = condition(pod, "DisruptionTarget").filter(|announced| {
        announced["status"] == "True"
            && !is_deleting(pod)
            && announced["reason"] != "TerminationByKubelet"
            && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
    });
    let Some(announced) = announced else {
        return plan;
    };
    plan.again = left(text(announced, "/lastTransitionTime"), scene.now);
    if plan.again.is_none() {
        let mut conditions = conditions_of(pod);
        let mut condition = json!({"type": "DisruptionTarget", "status": "False"});
        if !announced["observedGeneration"].is_null() || number(pod, "/status/observedGeneration").is_some() {
            condition["observedGeneration"] = pod["metadata"]["generation"].clone();
        }
        with_condition(&mut conditions, condition, &scene.time(), false);
        plan.actions
            .push(write(at, pod, &json!({ "conditions": conditions })));
    }
    plan
}

/// How many pods there are to be, and how many of them must stay.
struct Bounds {
    expected: i64,
    desired: i64,
}

/// Why the bounds are not known.
enum Unknown {
    /// They will be when these scales are.
    Asked(Vec<Owner>),
    Failed(String),
}

fn bounds(world: &World, at: &Ref, budget: &Value, pods: &[&Value]) -> Result<Bounds, Unknown> {
    let (least, most) = (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]);
    if !most.is_null() {
        let expected = expected(world, at, pods)?;
        let desired = (expected - scaled(Some(most), expected, true, "0")).max(0);
        return Ok(Bounds { expected, desired });
    }
    if let Some(desired) = least.as_i64() {
        let expected = length(pods.len());
        return Ok(Bounds { expected, desired });
    }
    if least.is_null() {
        return Ok(Bounds {
            expected: 0,
            desired: 0,
        });
    }
    let expected = expected(world, at, pods)?;
    let desired = scaled(Some(least), expected, true, "0");
    Ok(Bounds { expected, desired })
}

/// The replicas of all workloads that the pods are of; a pod of none counts for nothing.
fn expected(world: &World, at: &Ref, pods: &[&Value]) -> Result<i64, Unknown> {
    let mut workloads: HashMap<String, i64> = HashMap::new();
    let mut asks: Vec<Owner> = Vec::new();
    for pod in pods {
        let Some(reference) = controller(pod) else {
            continue;
        };
        if let Some(workload) = workload(world, &at.namespace, reference) {
            workloads.insert(uid(workload).to_owned(), replicas(workload));
            continue;
        }
        let owner = Owner::of(reference, &at.namespace);
        match world.scales.get(&owner) {
            None if asks.contains(&owner) => {}
            None => asks.push(owner),
            Some(Err(why)) => return Err(Unknown::Failed(why.clone())),
            Some(Ok(Some((uid, replicas)))) if *uid == text(reference, "/uid") => {
                workloads.insert(uid.clone(), *replicas);
            }
            Some(Ok(_)) => {
                let why = format!("found no controllers for pod {:?}", text(pod, "/metadata/name"));
                return Err(Unknown::Failed(why));
            }
        }
    }
    if asks.is_empty() {
        Ok(workloads.values().sum())
    } else {
        Err(Unknown::Asked(asks))
    }
}

/// The workload that a reference is to, or the Deployment that it is of, where it is one of those that are watched.
fn workload<'w>(world: &'w World, namespace: &str, reference: &Value) -> Option<&'w Value> {
    let named = |kind: Kind, reference: &Value| {
        let is_kind = reference["kind"] == kind.name() && text(reference, "/apiVersion").starts_with("apps/");
        let at = Ref {
            kind,
            namespace: namespace.to_owned(),
            name: text(reference, "/name").to_owned(),
        };
        let found = is_kind.then(|| world.get(&at)).flatten();
        found.filter(|found| uid(found) == text(reference, "/uid"))
    };
    let Some(set) = named(Kind::ReplicaSet, reference) else {
        return named(Kind::StatefulSet, reference);
    };
    controller(set)
        .and_then(|deployment| named(Kind::Deployment, deployment))
        .or(Some(set))
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
