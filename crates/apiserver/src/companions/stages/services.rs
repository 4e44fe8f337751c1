//! What a load balancer does for a Service, and a volume provisioner for a claim.

use super::plan::{Action, Plan, Scene, Staged};
use super::world::{Kind, Ref, claims_of, is_deleting, text, uid};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Gives a Service of type `LoadBalancer` an address of 198.18.0.0/16, which is set aside for tests (RFC 2544).
pub(super) fn plan(scene: &Scene<'_>, at: &Ref, service: &Value) -> Plan {
    let wants = text(service, "/spec/type") == "LoadBalancer" && !is_deleting(service);
    // A class of its own is for a load balancer of its own.
    let is_ours = text(service, "/spec/loadBalancerClass").is_empty();
    let has = service.pointer("/status/loadBalancer/ingress/0").is_some();
    if !wants || !is_ours || has {
        return Plan::default();
    }
    let taken: BTreeSet<&str> = scene
        .world
        .of_kind(Kind::Service)
        .map(|(_, service)| text(service, "/status/loadBalancer/ingress/0/ip"))
        .collect();
    let free = (1..=u16::MAX)
        .map(|number| format!("198.18.{}.{}", number >> 8, number & 0xff))
        .find(|address| {
            !address.ends_with(".0") && !address.ends_with(".255") && !taken.contains(&**address)
        });
    let Some(address) = free else {
        return Plan::default();
    };
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}});
    Plan::after(
        "balance",
        scene.stages.balance,
        Action::PatchStatus(at.clone(), status),
    )
}

/// The finalizer of claims that a pod may use.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The finalizer of volumes that a claim may have.
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// Lets a volume go that is deleted when no claim has it.
pub(super) fn plan_volume(at: &Ref, volume: &Value) -> Plan {
    let goes = is_deleting(volume) && text(volume, "/status/phase") != "Bound";
    Plan {
        actions: goes
            .then(|| without_finalizer(at, volume, VOLUME_PROTECTION))
            .flatten()
            .into_iter()
            .collect(),
        ..Plan::default()
    }
}

/// Takes a finalizer off an object; none where it is not there.
fn without_finalizer(at: &Ref, object: &Value, name: &str) -> Option<Action> {
    let all = object.pointer("/metadata/finalizers")?.as_array()?;
    let left: Vec<&Value> = all.iter().filter(|other| **other != name).collect();
    (left.len() < all.len()).then(|| Action::Patch(at.clone(), json!({"metadata": {"finalizers": left}})))
}

/// Whether a pod that is not done names the claim.
fn is_in_use(scene: &Scene<'_>, at: &Ref) -> bool {
    let pods = scene.world.in_namespace(Kind::Pod, &at.namespace);
    let mut pods = pods.filter(|(_, pod)| !matches!(text(pod, "/status/phase"), "Failed" | "Succeeded"));
    pods.any(|(_, pod)| claims_of(pod).any(|name| name == at.name))
}

/// Binds a claim to a volume of the size that it asks for, and lets it go with its `StatefulSet` where that says so.
/// One that is deleted goes when no pod uses it.
pub(super) fn plan_claim(scene: &Scene<'_>, at: &Ref, claim: &Value) -> Plan {
    let mut plan = Plan::default();
    if is_deleting(claim) {
        if !is_in_use(scene, at) {
            plan.actions.extend(without_finalizer(at, claim, PROTECTION));
        }
        return plan;
    }
    if scene.stages.kubelet && text(claim, "/status/phase") != "Bound" {
        let action = if text(claim, "/spec/volumeName").is_empty() {
            Action::Patch(
                at.clone(),
                json!({"spec": {"volumeName": format!("pvc-{}", uid(claim))}}),
            )
        } else {
            let capacity = claim
                .pointer("/spec/resources/requests")
                .cloned()
                .unwrap_or_else(|| json!({}));
            let modes = claim
                .pointer("/spec/accessModes")
                .cloned()
                .unwrap_or_else(|| json!([]));
            let status = json!({"phase": "Bound", "accessModes": modes, "capacity": capacity});
            Action::PatchStatus(at.clone(), json!({ "status": status }))
        };
        let stage = if matches!(action, Action::Patch(..)) {
            "provision"
        } else {
            "bind"
        };
        plan.staged = Some(Staged {
            stage,
            delay: scene.stages.bind,
            action,
        });
    }
    if super::stateful_sets::gave_up(scene.world, at) {
        plan.staged = None;
        plan.actions.push(Action::Delete {
            at: at.clone(),
            uid: uid(claim).to_owned(),
            now: false,
        });
    }
    plan
}
