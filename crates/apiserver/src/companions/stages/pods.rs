//! What kubelet and scheduler do for a pod.

use super::plan::{Action, Plan, Scene, is_controlled_by};
use super::world::{Kind, Ref, claims_of, is_deleting, text, uid};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The node that all pods are on.
pub(super) const NODE: &str = "simulated";
const HOST_ADDRESS: &str = "10.243.0.1";

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, pod: &Value) -> Plan {
    let delays = scene.stages;
    let node = text(pod, "/spec/nodeName");
    if is_deleting(pod) {
        let uid = uid(pod).to_owned();
        let action = Action::Delete {
            at: at.clone(),
            uid,
            now: true,
        };
        // Without the grace period it would be gone; what is left are finalizers, which are for others.
        let waits = pod
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            == Some(0);
        return if waits {
            Plan::default()
        } else {
            Plan::after("stop", delays.stop, action)
        };
    }
    if node.is_empty() {
        return schedule(scene, at, pod, NODE);
    }
    if node != NODE {
        return Plan::default();
    }
    match text(pod, "/status/phase") {
        "" | "Pending" if claims_are_bound(scene, at, pod) => Plan::after(
            "start",
            delays.start,
            Action::PatchStatus(at.clone(), running(scene, pod)),
        ),
        "Running" if ends(pod) => Plan::after(
            "finish",
            delays.start,
            Action::PatchStatus(at.clone(), finished(scene, pod)),
        ),
        _ => Plan::default(),
    }
}

/// Binds a pod that has no node to this one.
pub(super) fn schedule(scene: &Scene<'_>, at: &Ref, pod: &Value, node: &str) -> Plan {
    let gated = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    let waits = gated.is_some_and(|gates| !gates.is_empty());
    if waits || is_deleting(pod) || !text(pod, "/spec/nodeName").is_empty() {
        return Plan::default();
    }
    let action = Action::Bind {
        at: at.clone(),
        node: node.to_owned(),
    };
    Plan::after("schedule", scene.stages.schedule, action)
}

/// Whether the pod's containers end by themselves, as those of Jobs do.
fn ends(pod: &Value) -> bool {
    is_controlled_by(pod, "Job")
}

fn claims_are_bound(scene: &Scene<'_>, at: &Ref, pod: &Value) -> bool {
    if !scene.stages.controllers {
        return true;
    }
    claims_of(pod).all(|name| {
        let claim = Ref {
            kind: Kind::Claim,
            namespace: at.namespace.clone(),
            name: name.to_owned(),
        };
        let claim = scene.world.get(&claim);
        claim.is_some_and(|claim| text(claim, "/status/phase") == "Bound")
    })
}

/// An address that follows from the pod's uid.
fn address(pod: &Value) -> String {
    let hash = Sha256::digest(uid(pod).as_bytes());
    // Neither the network's own address nor its broadcast.
    format!("10.244.{}.{}", hash[0], hash[1] % 254 + 1)
}

fn running(scene: &Scene<'_>, pod: &Value) -> Value {
    let time = scene.time();
    let container = |spec: &Value, state: Value, ready: bool| {
        let id = Sha256::digest(format!("{}/{}", uid(pod), text(spec, "/name")).as_bytes());
        json!({
            "name": spec["name"], "image": spec["image"], "imageID": format!("simulated/{}", text(spec, "/image")),
            "containerID": format!("simulated://{}", hex(&id)),
            "ready": ready, "started": ready, "restartCount": 0, "state": state,
        })
    };
    let listed = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let runs = || json!({"running": {"startedAt": time}});
    let ended = || json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": time, "finishedAt": time}});
    let containers: Vec<Value> = listed("/spec/containers")
        .iter()
        .map(|spec| container(spec, runs(), true))
        .collect();
    let init: Vec<Value> = listed("/spec/initContainers")
        .iter()
        .map(|spec| {
            let stays = spec["restartPolicy"] == "Always";
            let mut status = container(spec, if stays { runs() } else { ended() }, true);
            status["started"] = json!(stays);
            status
        })
        .collect();
    let generation = pod
        .pointer("/metadata/generation")
        .cloned()
        .unwrap_or(Value::Null);
    let mut conditions: Vec<Value> = super::plan::conditions_of(pod);
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        let condition = json!({"type": kind, "status": "True", "observedGeneration": generation});
        super::plan::with_condition(&mut conditions, condition, &time, false);
    }
    let address = address(pod);
    let mut status = json!({
        "phase": "Running", "conditions": conditions, "containerStatuses": containers,
        "hostIP": HOST_ADDRESS, "hostIPs": [{"ip": HOST_ADDRESS}],
        "podIP": address, "podIPs": [{"ip": address}], "startTime": time, "observedGeneration": generation,
    });
    if !init.is_empty() {
        status["initContainerStatuses"] = json!(init);
    }
    json!({ "status": status })
}

fn finished(scene: &Scene<'_>, pod: &Value) -> Value {
    let time = scene.time();
    let mut containers = pod
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for container in &mut containers {
        let started = container.pointer("/state/running/startedAt").cloned();
        container["ready"] = json!(false);
        container["started"] = json!(false);
        container["state"] = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": time}});
    }
    let mut conditions = super::plan::conditions_of(pod);
    for kind in ["Ready", "ContainersReady"] {
        let condition = json!({"type": kind, "status": "False", "reason": "PodCompleted"});
        super::plan::with_condition(&mut conditions, condition, &time, false);
    }
    json!({"status": {"phase": "Succeeded", "conditions": conditions, "containerStatuses": containers}})
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
