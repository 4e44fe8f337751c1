//! From what is there to what is to be written: pure.

use clusterwright_api::cluster::{ApiEndpoint, ClusterInitialization, ClusterStatus};
use clusterwright_api::conditions::{ClusterCondition, HostedControlPlaneCondition};
use clusterwright_api::meta::{CLUSTER_NAME_LABEL, PAUSED_ANNOTATION};
use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_runtime::conditions::{self, ConditionStatus, ConditionUpdate};
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::owner;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

/// What is to be written; nothing where a part is none.
#[derive(Debug, Default)]
pub struct Plan {
    /// To the control plane: whose it is.
    pub adoption: Option<Adoption>,
    /// To the Cluster's spec: where its API server is reached.
    pub endpoint: Option<ApiEndpoint>,
    /// The Cluster's status, whole.
    pub status: Option<ClusterStatus>,
}

/// A merge patch that makes a control plane the Cluster's.
#[derive(Debug)]
pub struct Adoption {
    pub key: ObjectKey,
    pub patch: Value,
}

/// The name of the HostedControlPlane that the Cluster refers to.
pub fn control_plane_name(cluster: &Cluster) -> Option<&str> {
    let reference = cluster.spec.control_plane_ref.as_ref()?;
    let ours = reference.kind == HostedControlPlane::kind(&())
        && reference.api_group == HostedControlPlane::group(&());
    ours.then_some(reference.name.as_str())
}

/// Whether the control plane names the Cluster as an owner.
pub fn is_owned(control_plane: &HostedControlPlane, cluster: &Cluster) -> bool {
    owner::is_owned_by(cluster, control_plane)
}

/// What has to be written for `cluster`, whose control plane is as given, or not there.
pub fn plan(cluster: &Cluster, control_plane: Option<&HostedControlPlane>, now: Timestamp) -> Plan {
    let paused = is_paused(cluster);
    let mut plan = Plan {
        status: Some(status(cluster, control_plane, paused, now)),
        ..Plan::default()
    };
    let Some(control_plane) = control_plane else {
        return plan;
    };
    if paused
        || cluster.metadata.deletion_timestamp.is_some()
        || control_plane.metadata.deletion_timestamp.is_some()
    {
        return plan;
    }
    plan.adoption = adoption(cluster, control_plane);
    let known = cluster
        .spec
        .control_plane_endpoint
        .as_ref()
        .is_some_and(ApiEndpoint::is_complete);
    if initialized(cluster, Some(control_plane)) && !known {
        plan.endpoint = control_plane
            .spec
            .control_plane_endpoint
            .clone()
            .filter(ApiEndpoint::is_complete);
    }
    plan
}

fn is_paused(cluster: &Cluster) -> bool {
    cluster.spec.paused == Some(true) || cluster.annotations().contains_key(PAUSED_ANNOTATION)
}

fn adoption(cluster: &Cluster, control_plane: &HostedControlPlane) -> Option<Adoption> {
    let labelled = control_plane.labels().get(CLUSTER_NAME_LABEL) == Some(&cluster.name_any());
    if labelled && is_owned(control_plane, cluster) {
        return None;
    }
    let mut adopted = control_plane.clone();
    owner::set_owner(cluster, &mut adopted).ok()?;
    Some(Adoption {
        key: ObjectKey::of(control_plane),
        patch: json!({"metadata": {
            // A list is replaced whole by a merge patch; nobody else's entry may get lost in between.
            "resourceVersion": control_plane.metadata.resource_version,
            "labels": {CLUSTER_NAME_LABEL: cluster.name_any()},
            "ownerReferences": adopted.metadata.owner_references,
        }}),
    })
}

/// Once initialized, always so.
fn initialized(cluster: &Cluster, control_plane: Option<&HostedControlPlane>) -> bool {
    let before = cluster
        .status
        .as_ref()
        .and_then(|status| status.initialization.as_ref());
    let now = control_plane
        .and_then(|control_plane| control_plane.status.as_ref())
        .and_then(|status| status.initialization.as_ref());
    before.and_then(|seen| seen.control_plane_initialized) == Some(true)
        || now.and_then(|seen| seen.control_plane_initialized) == Some(true)
}

fn status(
    cluster: &Cluster,
    control_plane: Option<&HostedControlPlane>,
    paused: bool,
    now: Timestamp,
) -> ClusterStatus {
    let old = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation;
    let mut status = ClusterStatus {
        conditions: old.conditions.clone(),
        ..ClusterStatus::default()
    };
    let mut report = |condition: ClusterCondition, state: ConditionStatus, reason: &str, message: String| {
        let update = ConditionUpdate::new(condition.as_str(), state, reason)
            .message(message)
            .observed_generation(generation);
        conditions::set(&mut status.conditions, update, now);
    };
    let (state, reason) = if paused {
        (ConditionStatus::True, "Paused")
    } else {
        (ConditionStatus::False, "NotPaused")
    };
    report(ClusterCondition::Paused, state, reason, String::new());
    let is_initialized = initialized(cluster, control_plane);
    let deleting = cluster.metadata.deletion_timestamp.is_some();
    match deleting {
        true if control_plane.is_some() => report(
            ClusterCondition::Deleting,
            ConditionStatus::True,
            "WaitingForControlPlaneDeletion",
            "HostedControlPlane is being deleted".to_owned(),
        ),
        true => report(
            ClusterCondition::Deleting,
            ConditionStatus::True,
            "DeletionCompleted",
            String::new(),
        ),
        false => report(
            ClusterCondition::Deleting,
            ConditionStatus::False,
            "NotDeleting",
            String::new(),
        ),
    }
    for (condition, state, reason, message) in
        control_plane_conditions(cluster, control_plane, is_initialized)
    {
        report(condition, state, &reason, message);
    }
    status.initialization = Some(ClusterInitialization {
        infrastructure_provisioned: cluster.spec.infrastructure_ref.is_none().then_some(true).or(old
            .initialization
            .and_then(|seen| seen.infrastructure_provisioned)),
        control_plane_initialized: is_initialized.then_some(true),
    });
    let reached = cluster
        .spec
        .control_plane_endpoint
        .as_ref()
        .is_some_and(ApiEndpoint::is_complete);
    status.phase = Some(
        match (deleting, reached) {
            (true, _) => "Deleting",
            (false, true) => "Provisioned",
            (false, false) => "Provisioning",
        }
        .to_owned(),
    );
    status.observed_generation = generation;
    status
}

type Report = (ClusterCondition, ConditionStatus, String, String);

fn control_plane_conditions(
    cluster: &Cluster,
    control_plane: Option<&HostedControlPlane>,
    is_initialized: bool,
) -> Vec<Report> {
    use ClusterCondition::{ControlPlaneAvailable, ControlPlaneInitialized};
    use ConditionStatus::{False, True, Unknown};
    let kind = HostedControlPlane::kind(&());
    let say =
        |condition, state, reason: &str, message: String| (condition, state, reason.to_owned(), message);
    let mut reports = Vec::new();
    if is_initialized {
        reports.push(say(ControlPlaneInitialized, True, "Initialized", String::new()));
    } else if control_plane.is_some() {
        let message = "Control plane not yet initialized".to_owned();
        reports.push(say(ControlPlaneInitialized, False, "NotInitialized", message));
    } else {
        reports.push(say(
            ControlPlaneInitialized,
            Unknown,
            "DoesNotExist",
            format!("{kind} does not exist"),
        ));
    }
    let Some(control_plane) = control_plane else {
        let deleted = is_initialized && cluster.metadata.deletion_timestamp.is_some();
        reports.push(match (deleted, is_initialized) {
            (true, _) => say(
                ControlPlaneAvailable,
                False,
                "Deleted",
                format!("{kind} has been deleted"),
            ),
            (false, true) => {
                let message = format!("{kind} has been deleted while the cluster still exists");
                say(ControlPlaneAvailable, False, "Deleted", message)
            }
            (false, false) => say(
                ControlPlaneAvailable,
                False,
                "DoesNotExist",
                format!("{kind} does not exist"),
            ),
        });
        return reports;
    };
    let own = control_plane
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    reports.push(
        match conditions::get(own, HostedControlPlaneCondition::Available.as_str()) {
            Some(available) => {
                let state = match available.status.as_str() {
                    "True" => True,
                    "False" => False,
                    _ => Unknown,
                };
                say(
                    ControlPlaneAvailable,
                    state,
                    &available.reason,
                    available.message.clone(),
                )
            }
            None if is_initialized => say(ControlPlaneAvailable, True, "Available", String::new()),
            None => {
                let message = format!("{kind} status.initialization.controlPlaneInitialized is false");
                say(ControlPlaneAvailable, False, "NotAvailable", message)
            }
        },
    );
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(more: &Value) -> Cluster {
        let mut object = json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "c", "namespace": "ns", "uid": "u", "generation": 2},
            "spec": {"controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "HostedControlPlane", "name": "h"}},
        });
        json_patch::merge(&mut object, more);
        serde_json::from_value(object).unwrap()
    }

    fn control_plane(more: &Value) -> HostedControlPlane {
        let mut object = json!({
            "apiVersion": "controlplane.cluster.x-k8s.io/v1alpha1", "kind": "HostedControlPlane",
            "metadata": {"name": "h", "namespace": "ns", "uid": "v", "resourceVersion": "7"},
            "spec": {"version": "v1.36.3"},
        });
        json_patch::merge(&mut object, more);
        serde_json::from_value(object).unwrap()
    }

    fn at() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn said(plan: &Plan, name: &str) -> (String, String, String) {
        let conditions = &plan.status.as_ref().unwrap().conditions;
        let found = conditions::get(conditions, name).unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    }

    #[test]
    fn a_control_plane_is_adopted_beside_its_other_owners() {
        let other = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "o"}]}});
        let plan = plan(&cluster(&json!({})), Some(&control_plane(&other)), at());
        let patch = plan.adoption.unwrap().patch;
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["labels"][CLUSTER_NAME_LABEL], "c");
        let owners = patch["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!(
            owners.iter().map(|owner| &owner["uid"]).collect::<Vec<_>>(),
            ["o", "u"]
        );
    }

    #[test]
    fn what_is_adopted_is_left_alone() {
        let mine = json!({"metadata": {"labels": {CLUSTER_NAME_LABEL: "c"}, "ownerReferences": [
            {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "c", "uid": "u"}]}});
        assert!(
            plan(&cluster(&json!({})), Some(&control_plane(&mine)), at())
                .adoption
                .is_none()
        );
    }

    #[test]
    fn the_endpoint_is_copied_once_the_control_plane_is_initialized() {
        let endpoint = json!({"spec": {"controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443}}});
        assert!(
            plan(&cluster(&json!({})), Some(&control_plane(&endpoint)), at())
                .endpoint
                .is_none()
        );
        let mut ready = endpoint.clone();
        ready["status"] = json!({"initialization": {"controlPlaneInitialized": true}});
        let plan = plan(&cluster(&json!({})), Some(&control_plane(&ready)), at());
        assert_eq!(plan.endpoint.as_ref().unwrap().host, "10.0.0.1");
        assert_eq!(said(&plan, "ControlPlaneInitialized").1, "Initialized");
        let known = cluster(&endpoint);
        assert!(
            super::plan(&known, Some(&control_plane(&ready)), at())
                .endpoint
                .is_none()
        );
    }

    #[test]
    fn conditions_are_the_core_managers() {
        let none = plan(&cluster(&json!({})), None, at());
        assert_eq!(
            said(&none, "ControlPlaneAvailable"),
            (
                "False".into(),
                "DoesNotExist".into(),
                "HostedControlPlane does not exist".into()
            )
        );
        assert_eq!(said(&none, "ControlPlaneInitialized").0, "Unknown");
        let bare = plan(&cluster(&json!({})), Some(&control_plane(&json!({}))), at());
        assert_eq!(
            said(&bare, "ControlPlaneAvailable").2,
            "HostedControlPlane status.initialization.controlPlaneInitialized is false"
        );
        let mirrored = json!({"status": {"conditions": [{"type": "Available", "status": "False", "reason": "Why",
            "message": "because", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let mirrored = plan(&cluster(&json!({})), Some(&control_plane(&mirrored)), at());
        assert_eq!(
            said(&mirrored, "ControlPlaneAvailable"),
            ("False".into(), "Why".into(), "because".into())
        );
    }

    #[test]
    fn a_paused_cluster_is_only_reported() {
        let plan = plan(
            &cluster(&json!({"spec": {"paused": true}})),
            Some(&control_plane(&json!({}))),
            at(),
        );
        assert!(plan.adoption.is_none());
        assert_eq!(said(&plan, "Paused").0, "True");
    }

    #[test]
    fn a_cluster_of_another_provider_is_not_ours() {
        let other = cluster(&json!({"spec": {"controlPlaneRef": {"kind": "KubeadmControlPlane"}}}));
        assert_eq!(control_plane_name(&other), None);
    }
}
