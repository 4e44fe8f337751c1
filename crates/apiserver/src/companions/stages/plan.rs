//! What is to be done about an object, as planned from the world.

use super::scales::Owner;
use super::world::{Kind, Ref, World, controller, is_deleting, number, text, uid};
use super::{Delay, Stages};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Create(Kind, Value),
    /// A merge patch of the object.
    Patch(Ref, Value),
    /// A merge patch of the object's status.
    PatchStatus(Ref, Value),
    /// Deletes the object of this uid; at once where `now` is set.
    Delete {
        at: Ref,
        uid: String,
        now: bool,
    },
    /// Puts a pod on a node.
    Bind {
        at: Ref,
        node: String,
    },
}

/// What a stage does after its delay.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Staged {
    pub(super) stage: &'static str,
    pub(super) delay: Delay,
    pub(super) action: Action,
}

/// What is to be done about an object: now, and after a while.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) staged: Option<Staged>,
    /// When to look again though nothing has changed.
    pub(super) again: Option<Duration>,
    /// Owners whose scale has to be known before there is a plan.
    pub(super) asks: Vec<Owner>,
}

impl Plan {
    /// This after a while, and nothing else.
    pub(super) fn after(stage: &'static str, delay: Delay, action: Action) -> Self {
        Self {
            staged: Some(Staged { stage, delay, action }),
            ..Self::default()
        }
    }

    /// Both plans in one; only one of them may have a stage.
    fn and(mut self, other: Self) -> Self {
        self.actions.extend(other.actions);
        self.asks.extend(other.asks);
        self.staged = self.staged.or(other.staged);
        self.again = match (self.again, other.again) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self
    }
}

/// What plans are made from.
pub(super) struct Scene<'a> {
    pub(super) world: &'a World,
    pub(super) stages: &'a Stages,
    pub(super) now: Timestamp,
}

impl Scene<'_> {
    /// The present time, as objects hold it.
    pub(super) fn time(&self) -> String {
        super::super::namespaces::time_text(self.now)
    }

    /// What is to be done about the object.
    pub(super) fn plan(&self, at: &Ref) -> Plan {
        let Some(object) = self.world.get(at) else {
            return Plan::default();
        };
        let mut plan = Plan::default();
        if self.stages.kubelet {
            plan = plan.and(match at.kind {
                Kind::Pod => super::pods::plan(self, at, object),
                Kind::Service => super::services::plan(self, at, object),
                _ => Plan::default(),
            });
        } else if at.kind == Kind::Pod
            && let Some(node) = &self.stages.node
        {
            plan = plan.and(super::pods::schedule(self, at, object, node));
        }
        if self.stages.controllers {
            plan = plan.and(self.plan_of_controllers(at, object));
        }
        plan
    }

    fn plan_of_controllers(&self, at: &Ref, object: &Value) -> Plan {
        if at.kind == Kind::Pod {
            let tracked = super::jobs::plan_pod(self, at, object);
            return tracked.and(super::budgets::plan_pod(self, at, object));
        }
        if is_deleting(object) && !matches!(at.kind, Kind::Claim | Kind::Job | Kind::Volume) {
            return Plan::default();
        }
        match at.kind {
            Kind::Pod | Kind::Node | Kind::EndpointSlice => Plan::default(),
            Kind::Job => super::jobs::plan(self, at, object),
            Kind::Service => super::endpoint_slices::plan(self, at, object),
            Kind::Claim => super::services::plan_claim(self, at, object),
            Kind::Volume => super::services::plan_volume(at, object),
            Kind::ReplicaSet => super::replica_sets::plan(self, at, object),
            Kind::Deployment => super::deployments::plan(self, at, object),
            Kind::StatefulSet => super::stateful_sets::plan(self, at, object),
            Kind::Budget => super::budgets::plan(self, at, object),
        }
    }
}

/// A reference to the object's controller, for what it creates.
pub(super) fn owned_by(kind: Kind, owner: &Value) -> Value {
    json!([{
        "apiVersion": kind.api_version(), "kind": kind.name(),
        "name": text(owner, "/metadata/name"), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// A patch that makes the status have these fields, or none where it has them. A zero is a field that is not there.
pub(super) fn status_patch(at: &Ref, object: &Value, wanted: Value) -> Option<Action> {
    let Value::Object(wanted) = wanted else {
        return None;
    };
    let status = &object["status"];
    let mut patch = Map::new();
    for (name, value) in wanted {
        let value = if value == 0 { Value::Null } else { value };
        if status[&name] != value {
            patch.insert(name, value);
        }
    }
    (!patch.is_empty()).then(|| Action::PatchStatus(at.clone(), json!({ "status": patch })))
}

/// The status's conditions with this one in them. The transition time moves with the status only; `dated` puts it in
/// `lastUpdateTime` too, which moves with every change.
pub(super) fn with_condition(conditions: &mut Vec<Value>, mut condition: Value, time: &str, dated: bool) {
    let old = conditions.iter().position(|old| old["type"] == condition["type"]);
    let since =
        |name: &str, old: Option<&Value>| old.map_or_else(|| Value::from(time), |old| old[name].clone());
    let found = old.map(|at| conditions[at].clone());
    let same_status = found.clone().filter(|old| old["status"] == condition["status"]);
    condition["lastTransitionTime"] = since("lastTransitionTime", same_status.as_ref());
    if dated {
        let same = same_status
            .filter(|old| old["reason"] == condition["reason"] && old["message"] == condition["message"]);
        condition["lastUpdateTime"] = since("lastUpdateTime", same.as_ref());
    }
    match old {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

pub(super) fn conditions_of(object: &Value) -> Vec<Value> {
    object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

/// Whether a pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    super::world::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// Whether a pod counts: it is neither deleted nor done.
pub(super) fn is_active(pod: &Value) -> bool {
    !is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Failed" | "Succeeded")
}

/// How long until a ready pod has been so for `seconds`; none where it is not ready.
pub(super) fn until_available(pod: &Value, seconds: i64, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    let since = super::world::condition(pod, "Ready")?;
    let since: Timestamp = text(since, "/lastTransitionTime").parse().ok()?;
    let left = since.as_millisecond() + seconds * 1000 - now.as_millisecond();
    Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
}

/// Replicas, ready and available pods of those given, and when to count again.
pub(super) struct Count {
    pub(super) ready: i64,
    pub(super) available: i64,
    pub(super) again: Option<Duration>,
}

pub(super) fn count<'v>(pods: impl Iterator<Item = &'v Value>, seconds: i64, now: Timestamp) -> Count {
    let mut count = Count {
        ready: 0,
        available: 0,
        again: None,
    };
    for pod in pods {
        if let Some(left) = until_available(pod, seconds, now) {
            count.ready += 1;
            if left.is_zero() {
                count.available += 1;
            } else {
                count.again = Some(count.again.map_or(left, |again| again.min(left)));
            }
        }
    }
    count
}

pub(super) fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas").unwrap_or(1)
}

/// Whether a workload's controller is this kind; pods of Jobs end, others stay.
pub(super) fn is_controlled_by(object: &Value, kind: &str) -> bool {
    controller(object).is_some_and(|owner| owner["kind"] == kind)
}

/// A number or a percentage of `of`, rounded up or down.
pub(super) fn scaled(value: Option<&Value>, of: i64, up: bool, default: &str) -> i64 {
    let default = Value::from(default);
    let value = value.filter(|value| !value.is_null()).unwrap_or(&default);
    if let Some(number) = value.as_i64() {
        return number;
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%'));
    let percent: i64 = percent.and_then(|text| text.parse().ok()).unwrap_or_default();
    let hundredths = percent * of;
    if up {
        (hundredths + 99) / 100
    } else {
        hundredths / 100
    }
}

pub(super) fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
