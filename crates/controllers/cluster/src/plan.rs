//! From what is there to what is to be written: pure.

use std::collections::BTreeMap;

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

/// What has to be written for `cluster`, whose control plane is as given, or not there.
pub fn plan(cluster: &Cluster, control_plane: Option<&HostedControlPlane>, now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: Some(status(cluster, control_plane, now)),
        ..Plan::default()
    };
    let Some(control_plane) = control_plane.filter(|_| !is_paused(cluster)) else {
        return plan;
    };
    // One that is deleted too: a Cluster that goes takes the control plane that it refers to with it.
    plan.adoption = adoption(cluster, control_plane);
    if !is_reached(cluster) && initialized(cluster, Some(control_plane)) && !is_deleted(control_plane) {
        plan.endpoint = control_plane
            .spec
            .control_plane_endpoint
            .clone()
            .filter(ApiEndpoint::is_complete);
    }
    plan
}

/// Whether nothing but the pause itself may be written.
pub fn is_paused(cluster: &Cluster) -> bool {
    !pauses(cluster).is_empty()
}

/// What pauses the Cluster.
fn pauses(cluster: &Cluster) -> Vec<&'static str> {
    [
        (
            cluster.spec.paused == Some(true),
            "Cluster spec.paused is set to true",
        ),
        (
            cluster.annotations().contains_key(PAUSED_ANNOTATION),
            "Cluster has the cluster.x-k8s.io/paused annotation",
        ),
    ]
    .into_iter()
    .filter_map(|(pauses, how)| pauses.then_some(how))
    .collect()
}

/// Whether the object is to go.
pub fn is_deleted(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

fn is_reached(cluster: &Cluster) -> bool {
    cluster
        .spec
        .control_plane_endpoint
        .as_ref()
        .is_some_and(ApiEndpoint::is_complete)
}

fn adoption(cluster: &Cluster, control_plane: &HostedControlPlane) -> Option<Adoption> {
    let labelled = control_plane.labels().get(CLUSTER_NAME_LABEL) == Some(&cluster.name_any());
    if labelled && owner::is_owned_by(cluster, control_plane) {
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
    before.and_then(|seen| seen.control_plane_initialized) == Some(true)
        || control_plane.is_some_and(|object| !is_deleted(object) && says_initialized(object))
}

fn says_initialized(control_plane: &HostedControlPlane) -> bool {
    let status = control_plane.status.as_ref();
    let initialization = status.and_then(|status| status.initialization.as_ref());
    initialization.and_then(|seen| seen.control_plane_initialized) == Some(true)
}

/// A condition to report.
struct Report {
    condition: ClusterCondition,
    state: ConditionStatus,
    reason: String,
    message: String,
    /// Since when, where it is somebody else's word that is passed on.
    since: Option<Timestamp>,
}

fn say(condition: ClusterCondition, state: ConditionStatus, reason: &str, message: String) -> Report {
    Report {
        condition,
        state,
        reason: reason.to_owned(),
        message,
        since: None,
    }
}

fn status(cluster: &Cluster, control_plane: Option<&HostedControlPlane>, now: Timestamp) -> ClusterStatus {
    let mut status = ClusterStatus {
        rest: BTreeMap::new(),
        ..cluster.status.clone().unwrap_or_default()
    };
    let reports = reports(cluster, control_plane);
    for report in reports {
        let update = ConditionUpdate::new(report.condition.as_str(), report.state, report.reason)
            .message(report.message)
            .observed_generation(cluster.metadata.generation);
        conditions::set(&mut status.conditions, update, report.since.unwrap_or(now));
    }
    if is_paused(cluster) {
        return status;
    }
    let deleting = is_deleted(cluster);
    let mut initialization = status.initialization.take().unwrap_or_default();
    if cluster.spec.infrastructure_ref.is_none() && !deleting {
        initialization.infrastructure_provisioned = Some(true);
    }
    if initialized(cluster, control_plane) {
        initialization.control_plane_initialized = Some(true);
    }
    let provisioned = initialization.infrastructure_provisioned == Some(true) && is_reached(cluster);
    let phase = match (deleting, provisioned) {
        (true, _) => "Deleting",
        (false, true) => "Provisioned",
        (false, false) => "Provisioning",
    };
    status.phase = Some(phase.to_owned());
    status.initialization = Some(initialization).filter(|seen| *seen != ClusterInitialization::default());
    status.observed_generation = cluster.metadata.generation;
    status
}

fn reports(cluster: &Cluster, control_plane: Option<&HostedControlPlane>) -> Vec<Report> {
    use ClusterCondition::{Deleting, Paused};
    use ConditionStatus::{False, True};
    let pauses = pauses(cluster);
    if !pauses.is_empty() {
        return vec![say(Paused, True, "Paused", pauses.join(", "))];
    }
    let mut reports = vec![say(Paused, False, "NotPaused", String::new())];
    reports.extend(initialized_report(cluster, control_plane));
    reports.push(available_report(cluster, control_plane));
    let kind = HostedControlPlane::kind(&());
    reports.push(match (is_deleted(cluster), control_plane) {
        (false, _) => say(Deleting, False, "NotDeleting", String::new()),
        (true, Some(_)) => {
            let message = format!("Waiting for {kind} to be deleted");
            say(Deleting, True, "WaitingForControlPlaneDeletion", message)
        }
        (true, None) => say(
            Deleting,
            True,
            "DeletionCompleted",
            "Deletion completed".to_owned(),
        ),
    });
    reports
}

/// Nothing where it is known already: once True, it is not looked at again.
fn initialized_report(cluster: &Cluster, control_plane: Option<&HostedControlPlane>) -> Option<Report> {
    use ClusterCondition::ControlPlaneInitialized;
    use ConditionStatus::{False, True, Unknown};
    let known = cluster.status.as_ref().and_then(|status| {
        conditions::get(&status.conditions, ControlPlaneInitialized.as_str()).map(|known| &known.status)
    });
    if known.is_some_and(|status| status == True.as_str()) {
        return None;
    }
    Some(match control_plane {
        None => say(ControlPlaneInitialized, Unknown, "ObjectDoesNotExist", absent()),
        Some(object) if says_initialized(object) => {
            say(ControlPlaneInitialized, True, "Initialized", String::new())
        }
        Some(_) => {
            let message = "Control plane not yet initialized".to_owned();
            say(ControlPlaneInitialized, False, "NotInitialized", message)
        }
    })
}

fn absent() -> String {
    format!("{} does not exist", HostedControlPlane::kind(&()))
}

/// The control plane's own word, if it has said one.
fn available_report(cluster: &Cluster, control_plane: Option<&HostedControlPlane>) -> Report {
    use ClusterCondition::ControlPlaneAvailable;
    use ConditionStatus::{False, True, Unknown};
    let kind = HostedControlPlane::kind(&());
    let initialized = initialized(cluster, control_plane);
    let Some(control_plane) = control_plane else {
        return match (initialized, is_deleted(cluster)) {
            (false, _) => say(ControlPlaneAvailable, False, "ObjectDoesNotExist", absent()),
            (true, true) => {
                let message = format!("{kind} has been deleted");
                say(ControlPlaneAvailable, False, "ObjectDeleted", message)
            }
            (true, false) => {
                let message = format!("{kind} has been deleted while the cluster still exists");
                say(ControlPlaneAvailable, False, "ObjectDeleted", message)
            }
        };
    };
    let own = control_plane
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    match conditions::get(own, HostedControlPlaneCondition::Available.as_str()) {
        Some(said) => {
            let state = match said.status.as_str() {
                "True" => True,
                "False" => False,
                _ => Unknown,
            };
            Report {
                since: Some(said.last_transition_time.0),
                ..say(ControlPlaneAvailable, state, &said.reason, said.message.clone())
            }
        }
        None if initialized => say(ControlPlaneAvailable, True, "Available", String::new()),
        None => {
            let message = format!("{kind} status.initialization.controlPlaneInitialized is false");
            say(ControlPlaneAvailable, False, "NotAvailable", message)
        }
    }
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
                "ObjectDoesNotExist".into(),
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
            "message": "because", "lastTransitionTime": "2025-01-01T00:00:00Z"}]}});
        let mirrored = plan(&cluster(&json!({})), Some(&control_plane(&mirrored)), at());
        assert_eq!(
            said(&mirrored, "ControlPlaneAvailable"),
            ("False".into(), "Why".into(), "because".into())
        );
        let conditions = &mirrored.status.as_ref().unwrap().conditions;
        let available = conditions::get(conditions, "ControlPlaneAvailable").unwrap();
        assert_eq!(
            available.last_transition_time.0.to_string(),
            "2025-01-01T00:00:00Z"
        );
    }

    #[test]
    fn a_paused_cluster_is_only_said_to_be_paused() {
        let paused = cluster(&json!({
            "metadata": {"annotations": {PAUSED_ANNOTATION: ""}},
            "spec": {"paused": true},
        }));
        let plan = plan(&paused, Some(&control_plane(&json!({}))), at());
        assert!(plan.adoption.is_none());
        assert_eq!(
            said(&plan, "Paused"),
            (
                "True".into(),
                "Paused".into(),
                "Cluster spec.paused is set to true, Cluster has the cluster.x-k8s.io/paused annotation"
                    .into()
            )
        );
        assert_eq!(plan.status.unwrap().conditions.len(), 1);
    }

    #[test]
    fn a_deleted_cluster_still_takes_its_control_plane_over() {
        let deleted = cluster(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let going = plan(&deleted, Some(&control_plane(&json!({}))), at());
        assert!(going.adoption.is_some());
        assert_eq!(said(&going, "Deleting").1, "WaitingForControlPlaneDeletion");
        assert_eq!(going.status.unwrap().initialization, None);
        let gone = plan(&deleted, None, at());
        assert_eq!(said(&gone, "Deleting").1, "DeletionCompleted");
        assert_eq!(said(&gone, "ControlPlaneAvailable").1, "ObjectDoesNotExist");
    }

    #[test]
    fn a_control_plane_that_goes_initializes_nothing() {
        let ready = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443}},
            "status": {"initialization": {"controlPlaneInitialized": true}},
        });
        let plan = plan(&cluster(&json!({})), Some(&control_plane(&ready)), at());
        assert!(plan.endpoint.is_none());
        let initialization = plan.status.unwrap().initialization.unwrap();
        assert_eq!(initialization.control_plane_initialized, None);
    }

    #[test]
    fn what_was_initialized_and_has_gone_is_missed() {
        let initialized = json!({"status": {"initialization": {"controlPlaneInitialized": true}}});
        let plan = plan(&cluster(&initialized), None, at());
        assert_eq!(
            said(&plan, "ControlPlaneAvailable"),
            (
                "False".into(),
                "ObjectDeleted".into(),
                "HostedControlPlane has been deleted while the cluster still exists".into()
            )
        );
    }

    #[test]
    fn a_cluster_of_another_provider_is_not_ours() {
        let other = cluster(&json!({"spec": {"controlPlaneRef": {"kind": "KubeadmControlPlane"}}}));
        assert_eq!(control_plane_name(&other), None);
    }
}
