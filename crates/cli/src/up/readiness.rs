//! Whether an object has reached what it is there for.

use serde_json::Value;

/// How far an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It says of its present form that it is ready or available.
    Ready,
    /// It says that it is not yet, with its reason.
    Waiting(String),
    /// It is there, and says nothing of being ready.
    There,
    /// It is being deleted.
    Deleting,
}

impl State {
    /// Whether the wait for everything may end with this.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Ready | Self::There)
    }
}

/// The condition that says that a kind has reached its end; others have `Ready` or `Available`, or none.
fn decisive(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        ("cluster.x-k8s.io", "Cluster") => Some("ControlPlaneAvailable"),
        ("controlplane.cluster.x-k8s.io", "HostedControlPlane") => Some("Available"),
        _ => None,
    }
}

/// The group of an object's API version; empty for the core group.
pub fn group(object: &Value) -> &str {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Judges by the conditions of the object's present generation.
pub fn state(object: &Value) -> State {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return State::Deleting;
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    if let Some(wanted) = decisive(group(object), kind) {
        return match condition(object, wanted) {
            Some(found) => judge(object, found),
            None => State::Waiting(format!("{wanted} is not reported yet")),
        };
    }
    if kind == "StatefulSet" {
        return replicas(object);
    }
    // A pod that has done its work is never ready again.
    if kind == "Pod" && object["status"]["phase"] == "Succeeded" {
        return State::Ready;
    }
    if kind == "Pod"
        && let Some(why) = held_up(&object["status"])
    {
        return State::Waiting(why);
    }
    let found: Vec<&Value> = ["Ready", "Available"]
        .iter()
        .filter_map(|name| condition(object, name))
        .collect();
    for found in &found {
        let judged = judge(object, found);
        if judged != State::Ready {
            return judged;
        }
    }
    if found.is_empty() && !matches!(kind, "Pod" | "Deployment") {
        State::There
    } else if found.is_empty() {
        State::Waiting("no status yet".to_owned())
    } else {
        State::Ready
    }
}

/// What keeps a container of a pod from running, where its kubelet has something to say of it.
fn held_up(status: &Value) -> Option<String> {
    let containers = ["initContainerStatuses", "containerStatuses"];
    let containers = containers
        .iter()
        .flat_map(|list| status[list].as_array().into_iter().flatten());
    let mut waiting = containers.map(|container| &container["state"]["waiting"]);
    waiting.find_map(|waiting| {
        let message = waiting["message"].as_str()?.lines().next()?;
        let reason = waiting["reason"].as_str().unwrap_or_default();
        Some(format!("{reason}: {message}"))
    })
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == name)
}

fn judge(object: &Value, condition: &Value) -> State {
    let observed = condition["observedGeneration"].as_i64();
    let current = object["metadata"]["generation"].as_i64();
    if observed.is_some() && observed < current {
        return State::Waiting("the latest change is not observed yet".to_owned());
    }
    if condition["status"] == "True" {
        return State::Ready;
    }
    let reason = condition["reason"].as_str().unwrap_or_default();
    let message = condition["message"]
        .as_str()
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    State::Waiting(match (reason, message) {
        ("", "") => "not ready".to_owned(),
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    })
}

/// A StatefulSet has no condition; it is ready when all its replicas are, of its latest form.
fn replicas(object: &Value) -> State {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let status = &object["status"];
    let ready = status["readyReplicas"].as_i64().unwrap_or(0);
    let updated = status["updatedReplicas"].as_i64().unwrap_or(0);
    let observed = status["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64();
    if observed && ready >= wanted && updated >= wanted {
        State::Ready
    } else {
        State::Waiting(format!("{ready}/{wanted} ready"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_counts_only_at_the_current_generation() {
        let at = |observed: i64| {
            state(
                &json!({"apiVersion": "controlplane.cluster.x-k8s.io/v1alpha1", "kind": "HostedControlPlane",
                "metadata": {"generation": 2}, "status": {"conditions": [
                {"type": "Available", "status": "True", "observedGeneration": observed}]}}),
            )
        };
        assert_eq!(at(2), State::Ready);
        assert!(!at(1).is_done());
    }

    #[test]
    fn a_reason_is_told() {
        let pod = json!({"kind": "Pod", "status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "etcd\nmore"}]}});
        assert_eq!(state(&pod), State::Waiting("ContainersNotReady: etcd".into()));
        assert!(!state(&json!({"kind": "Pod"})).is_done());
        let cluster =
            |group: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "Cluster", "status": {}});
        assert!(!state(&cluster("cluster.x-k8s.io")).is_done());
        assert_eq!(state(&cluster("postgresql.cnpg.io")), State::There);
    }

    #[test]
    fn what_holds_a_container_up_is_told() {
        let pod = json!({"kind": "Pod", "status": {"containerStatuses": [
            {"state": {"waiting": {"reason": "ContainerCreating"}}},
            {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image\nat all"}}}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}});
        assert_eq!(state(&pod), State::Waiting("ErrImagePull: no such image".into()));
    }

    #[test]
    fn a_pod_that_has_done_its_work_is_done() {
        let pod = json!({"kind": "Pod", "status": {"phase": "Succeeded", "conditions": [
            {"type": "Ready", "status": "False", "reason": "PodCompleted"}]}});
        assert_eq!(state(&pod), State::Ready);
    }

    #[test]
    fn what_has_no_such_condition_is_done_when_it_is_there() {
        assert_eq!(state(&json!({"kind": "Secret"})), State::There);
        assert_eq!(
            state(&json!({"kind": "Secret", "metadata": {"deletionTimestamp": "x"}})),
            State::Deleting
        );
    }

    #[test]
    fn a_stateful_set_counts_its_replicas() {
        let set = |ready: i64| {
            json!({"kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 3},
                "status": {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": 3}})
        };
        assert_eq!(state(&set(3)), State::Ready);
        assert_eq!(state(&set(2)), State::Waiting("2/3 ready".into()));
    }
}
