//! What the controller of `StatefulSets` does.
//!
//! A revision is told by the hash of its template. Templates of earlier revisions are not kept, so that a pod below
//! the partition of a rolling update that goes comes back with the present one.

use super::deployments::template_hash;
use super::plan::{Action, Plan, Scene, count, length, owned_by, replicas, status_patch, until_available};
use super::world::{Kind, Ref, World, is_deleting, number, text, uid};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const REVISION: &str = "controller-revision-hash";

struct Set<'v> {
    scene: &'v Scene<'v>,
    object: &'v Value,
    name: &'v str,
    revision: String,
    pods: BTreeMap<i64, &'v Value>,
}

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, object: &Value) -> Plan {
    let name = text(object, "/metadata/name");
    let set = Set {
        scene,
        object,
        name,
        revision: format!("{name}-{}", template_hash(&object["spec"]["template"])),
        pods: scene
            .world
            .controlled(Kind::Pod, object)
            .filter_map(|pod| Some((ordinal(text(pod, "/metadata/name"), name)?, pod)))
            .collect(),
    };
    let mut plan = Plan {
        actions: set.scale_and_update(),
        ..Plan::default()
    };
    plan.again = set.status(at, &mut plan.actions);
    plan
}

/// The number at the end of `NAME-NUMBER`.
fn ordinal(of: &str, name: &str) -> Option<i64> {
    of.strip_prefix(name)?.strip_prefix('-')?.parse().ok()
}

/// Whether the claim belonged to a replica that is gone for good, and its `StatefulSet` wants such claims deleted.
pub(super) fn gave_up(world: &World, claim: &Ref) -> bool {
    world
        .in_namespace(Kind::StatefulSet, &claim.namespace)
        .any(|(_, set)| {
            let name = text(set, "/metadata/name");
            let templates = set
                .pointer("/spec/volumeClaimTemplates")
                .and_then(Value::as_array);
            let number_of = |template: &Value| {
                let prefix = format!("{}-{name}", text(template, "/metadata/name"));
                ordinal(&claim.name, &prefix)
            };
            let Some(number) = templates.into_iter().flatten().find_map(number_of) else {
                return false;
            };
            let pod = Ref {
                kind: Kind::Pod,
                namespace: claim.namespace.clone(),
                name: format!("{name}-{number}"),
            };
            text(set, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled") == "Delete"
                && !ordinals(set).contains(&number)
                && world.get(&pod).is_none()
        })
}

fn ordinals(set: &Value) -> std::ops::Range<i64> {
    let start = number(set, "/spec/ordinals/start").unwrap_or_default();
    start..start + replicas(set)
}

impl Set<'_> {
    fn seconds(&self) -> i64 {
        number(self.object, "/spec/minReadySeconds").unwrap_or_default()
    }

    fn is_available(&self, pod: &Value) -> bool {
        !is_deleting(pod)
            && until_available(pod, self.seconds(), self.scene.now).is_some_and(|left| left.is_zero())
    }

    /// The next steps towards the wanted pods: one after the other, unless all may be taken at once.
    fn scale_and_update(&self) -> Vec<Action> {
        let parallel = text(self.object, "/spec/podManagementPolicy") == "Parallel";
        let wanted = ordinals(self.object);
        let mut actions = self.own_claims();
        let mut settled = true;
        for number in wanted.clone() {
            match self.pods.get(&number) {
                None => {
                    actions.extend(self.create(number));
                    settled = false;
                }
                Some(pod) if matches!(text(pod, "/status/phase"), "Failed" | "Succeeded") => {
                    actions.push(delete(pod));
                    settled = false;
                }
                Some(pod) => settled &= self.is_available(pod),
            }
            if !settled && !parallel {
                return actions;
            }
        }
        for (_, pod) in self
            .pods
            .iter()
            .rev()
            .filter(|(number, _)| !wanted.contains(number))
        {
            if !is_deleting(pod) {
                actions.push(delete(pod));
            }
            if !parallel {
                return actions;
            }
        }
        if text(self.object, "/spec/updateStrategy/type") == "OnDelete" {
            return actions;
        }
        let partition =
            number(self.object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
        for (_, pod) in self
            .pods
            .iter()
            .rev()
            .filter(|(number, _)| wanted.contains(number) && **number >= partition)
        {
            if pod["metadata"]["labels"][REVISION] != self.revision && !is_deleting(pod) {
                actions.push(delete(pod));
                return actions;
            }
            if !self.is_available(pod) {
                return actions;
            }
        }
        actions
    }

    /// Claims that are to go with the set get it as their owner.
    fn own_claims(&self) -> Vec<Action> {
        if !self.deletes_claims() {
            return Vec::new();
        }
        let namespace = text(self.object, "/metadata/namespace");
        let claims = ordinals(self.object).flat_map(|number| self.claims(number));
        let claims = claims.filter_map(|(_, claim)| {
            let at = Ref {
                kind: Kind::Claim,
                namespace: namespace.to_owned(),
                name: text(&claim, "/metadata/name").to_owned(),
            };
            let there = self.scene.world.get(&at)?;
            let owners = there
                .pointer("/metadata/ownerReferences")
                .and_then(Value::as_array);
            let owned = owners
                .into_iter()
                .flatten()
                .any(|owner| owner["uid"] == uid(self.object));
            let patch = json!({"metadata": {"ownerReferences": owned_by(Kind::StatefulSet, self.object)}});
            (!owned && owners.is_none_or(Vec::is_empty)).then_some(Action::Patch(at, patch))
        });
        claims.collect()
    }

    fn deletes_claims(&self) -> bool {
        text(
            self.object,
            "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted",
        ) == "Delete"
    }

    /// The claims of a replica, by the name of their volume.
    fn claims(&self, number: i64) -> Vec<(String, Value)> {
        let templates = self
            .object
            .pointer("/spec/volumeClaimTemplates")
            .and_then(Value::as_array);
        let claim = |template: &Value| {
            let volume = text(template, "/metadata/name");
            let mut labels = template["metadata"]["labels"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            labels.extend(
                self.object["spec"]["selector"]["matchLabels"]
                    .as_object()
                    .cloned()
                    .unwrap_or_default(),
            );
            let mut claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": format!("{volume}-{}-{number}", self.name),
                    "namespace": text(self.object, "/metadata/namespace"), "labels": labels,
                },
                "spec": template["spec"],
            });
            if let Some(annotations) = template["metadata"].get("annotations") {
                claim["metadata"]["annotations"] = annotations.clone();
            }
            if self.deletes_claims() {
                claim["metadata"]["ownerReferences"] = owned_by(Kind::StatefulSet, self.object);
            }
            (volume.to_owned(), claim)
        };
        templates.into_iter().flatten().map(claim).collect()
    }

    fn create(&self, number: i64) -> Vec<Action> {
        let template = &self.object["spec"]["template"];
        let name = format!("{}-{number}", self.name);
        let mut labels = template["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), json!(name));
        labels.insert(
            "apps.kubernetes.io/pod-index".to_owned(),
            json!(number.to_string()),
        );
        labels.insert(REVISION.to_owned(), json!(self.revision));
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": text(self.object, "/metadata/namespace"), "labels": labels,
                "ownerReferences": owned_by(Kind::StatefulSet, self.object),
            },
            "spec": template["spec"],
        });
        if let Some(annotations) = template["metadata"].get("annotations") {
            pod["metadata"]["annotations"] = annotations.clone();
        }
        pod["spec"]["hostname"] = json!(name);
        if let Some(service) = self.object["spec"].get("serviceName") {
            pod["spec"]["subdomain"] = service.clone();
        }
        let claims = self.claims(number);
        let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        volumes.retain(|volume| !claims.iter().any(|(name, _)| volume["name"] == **name));
        for (volume, claim) in &claims {
            volumes.push(
                json!({"name": volume, "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}),
            );
        }
        if !volumes.is_empty() {
            pod["spec"]["volumes"] = json!(volumes);
        }
        let missing = claims.into_iter().map(|(_, claim)| claim).filter(|claim| {
            let at = Ref::of(Kind::Claim, claim);
            self.scene.world.get(&at).is_none()
        });
        let mut actions: Vec<Action> = missing.map(|claim| Action::Create(Kind::Claim, claim)).collect();
        actions.push(Action::Create(Kind::Pod, pod));
        actions
    }

    /// Plans the status; gives when to look again.
    fn status(&self, at: &Ref, actions: &mut Vec<Action>) -> Option<std::time::Duration> {
        let counted = count(
            self.pods.values().copied().filter(|pod| !is_deleting(pod)),
            self.seconds(),
            self.scene.now,
        );
        let there = length(self.pods.len());
        let of = |revision: &str| {
            let pods = self
                .pods
                .values()
                .filter(|pod| pod["metadata"]["labels"][REVISION] == *revision && !is_deleting(pod));
            length(pods.count())
        };
        let updated = of(&self.revision);
        let wanted = replicas(self.object);
        let known = text(self.object, "/status/currentRevision");
        let complete = updated == wanted && there == wanted && counted.ready == wanted;
        let current = if known.is_empty() || complete {
            &self.revision
        } else {
            known
        };
        let mut status = json!({
            "readyReplicas": counted.ready, "availableReplicas": counted.available,
            "currentReplicas": of(current), "updatedReplicas": updated,
            "currentRevision": current, "updateRevision": self.revision,
            "observedGeneration": self.object["metadata"]["generation"],
        });
        if number(self.object, "/status/replicas") != Some(there) && there > 0 {
            status["replicas"] = json!(there);
        }
        let mut patch = status_patch(at, self.object, status);
        if number(self.object, "/status/replicas").is_some_and(|old| old != 0) && there == 0 {
            patch = patch.or_else(|| Some(Action::PatchStatus(at.clone(), json!({"status": {}}))));
            if let Some(Action::PatchStatus(_, patch)) = &mut patch {
                patch["status"]["replicas"] = json!(0);
            }
        }
        actions.extend(patch);
        counted.again
    }
}

fn delete(pod: &Value) -> Action {
    Action::Delete {
        at: Ref::of(Kind::Pod, pod),
        uid: uid(pod).to_owned(),
        now: false,
    }
}
