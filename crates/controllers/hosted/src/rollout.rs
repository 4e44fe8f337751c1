//! How far the replacement of pods has come, read from what their controllers and the pods themselves say.

use clusterwright_api::meta;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use crate::names::Component;
use crate::version::Version;

/// The replicas of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How many there are to be.
    pub desired: i32,
    /// How many there are.
    pub total: i32,
    /// How many have the present template.
    pub updated: i32,
    /// How many are ready.
    pub ready: i32,
    /// How many have been ready for long enough.
    pub available: i32,
    /// The workload's controller has seen the present spec.
    pub observed: bool,
}

impl Rollout {
    /// All are new and available, and no old one is left.
    pub fn is_complete(&self) -> bool {
        self.observed
            && self.updated == self.desired
            && self.total == self.desired
            && self.ready == self.desired
            && self.available == self.desired
    }

    /// Old ones are being replaced.
    pub fn is_rolling(&self) -> bool {
        !self.observed || self.updated < self.total
    }

    /// Of a Deployment.
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        Self {
            desired: deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
            total: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            observed: status.observed_generation >= deployment.metadata.generation,
        }
    }

    /// Of a `StatefulSet`.
    pub fn of_stateful_set(set: &StatefulSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        let mut updated = status.updated_replicas.unwrap_or(0);
        // Where no update is under way, some controllers count none as updated.
        if status.update_revision.is_some() && status.update_revision == status.current_revision {
            updated = status.replicas;
        }
        Self {
            desired: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            total: status.replicas,
            updated,
            ready: status.ready_replicas.unwrap_or(0),
            // A set without minReadySeconds has no other measure.
            available: status.available_replicas.or(status.ready_replicas).unwrap_or(0),
            observed: status.observed_generation >= set.metadata.generation,
        }
    }
}

/// The version in a pod template's annotation.
pub fn template_version(template: &PodTemplateSpec) -> Option<Version> {
    annotation(template, meta::VERSION_ANNOTATION)?.parse().ok()
}

/// The `spec.rollout.after` in a pod template's annotation.
pub fn template_rollout(template: &PodTemplateSpec) -> Option<&str> {
    annotation(template, meta::ROLLOUT_ANNOTATION)
}

fn annotation<'a>(template: &'a PodTemplateSpec, name: &str) -> Option<&'a str> {
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// The template of a Deployment.
pub fn template(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    deployment.spec.as_ref().map(|spec| &spec.template)
}

/// Whether a pod has not ended: it runs, will, or is being stopped.
pub fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod is a component's.
pub fn is_of(pod: &Pod, component: Component) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(meta::COMPONENT_LABEL))
        .is_some_and(|label| label == component.program())
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The version that a pod runs: that of its image's tag. A tag that is no version says nothing; then it is the
/// version that the pod was made for.
pub fn running_version(pod: &Pod, component: Component) -> Option<Version> {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let image = containers
        .find(|container| container.name == component.program())
        .and_then(|container| container.image.as_deref());
    image.and_then(Version::of_image).or_else(|| pod_version(pod))
}

/// The version that a pod was made for.
pub fn pod_version(pod: &Pod) -> Option<Version> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(meta::VERSION_ANNOTATION)?
        .parse()
        .ok()
}

/// Whether every live pod of a component was made for this version: one that is still stopping counts, it may yet answer.
pub fn all_run(pods: &[Pod], component: Component, version: &Version) -> bool {
    pods.iter()
        .filter(|pod| is_of(pod, component) && is_live(pod))
        .all(|pod| pod_version(pod).as_ref() == Some(version))
}

/// The `spec.rollout.after` that pods are to carry now.
///
/// Once its time has come, it is carried if a pod is older than it; pods that are younger have nothing to be replaced
/// for.
pub fn rollout_marker(
    after: Option<Timestamp>,
    carried: Option<&str>,
    oldest_pod: Option<Timestamp>,
    now: Timestamp,
) -> Option<String> {
    match after {
        Some(after) if after <= now && oldest_pod.is_some_and(|oldest| oldest < after) => {
            Some(after.to_string())
        }
        _ => carried.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_rollout_date_replaces_pods_that_are_older_once() {
        let (early, date, late) = (
            "2026-01-01T00:00:00Z",
            "2026-02-01T00:00:00Z",
            "2026-03-01T00:00:00Z",
        );
        let marker = |after: Option<&str>, carried, oldest: Option<&str>, now| {
            rollout_marker(after.map(time), carried, oldest.map(time), time(now))
        };
        assert_eq!(marker(None, None, Some(early), late), None);
        assert_eq!(marker(Some(date), None, Some(early), early), None, "not yet");
        assert_eq!(marker(Some(date), None, Some(early), late).as_deref(), Some(date));
        assert_eq!(marker(Some(date), None, Some(late), late), None, "young already");
        assert_eq!(marker(Some(date), None, None, late), None, "no pods");
        assert_eq!(
            marker(Some(date), Some(date), Some(late), late).as_deref(),
            Some(date),
            "kept"
        );
        assert_eq!(
            marker(None, Some(date), Some(late), late).as_deref(),
            Some(date),
            "kept when taken out"
        );
    }

    #[test]
    fn a_pod_runs_what_its_image_is() {
        let runs = |image: &str| {
            let pod = serde_json::json!({
                "metadata": {"annotations": {meta::VERSION_ANNOTATION: "v1.36.3"}},
                "spec": {"containers": [
                    {"name": "sidecar", "image": "registry.example:5000/sidecar:v1.33.1"},
                    {"name": "kube-apiserver", "image": image},
                ]},
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            running_version(&pod, Component::ApiServer).unwrap().to_string()
        };
        for (image, version) in [
            ("registry.k8s.io/kube-apiserver:v1.36.3", "v1.36.3"),
            ("registry.example:5000/k8s/api:v1.35.1", "v1.35.1"),
            ("api:1.35.1", "v1.35.1"),
            ("api:v1.35.1_vendor.2", "v1.35.1+vendor.2"),
            ("api:v1.36.0-rc.1", "v1.36.0-rc.1"),
            ("api:v1.35.1@sha256:0123", "v1.35.1"),
            ("api:v1.32.9", "v1.32.9"),
            ("api:v1.35.1-hardened", "v1.36.3"),
            ("api:stable", "v1.36.3"),
            ("registry.example:5000/api", "v1.36.3"),
            ("api@sha256:0123", "v1.36.3"),
        ] {
            assert_eq!(runs(image), version, "{image}");
        }
    }

    #[test]
    fn a_rollout_is_complete_when_nothing_old_is_left() {
        let whole = Rollout {
            desired: 3,
            total: 3,
            updated: 3,
            ready: 3,
            available: 3,
            observed: true,
        };
        assert!(whole.is_complete() && !whole.is_rolling());
        for part in [
            Rollout { total: 4, ..whole },
            Rollout { updated: 2, ..whole },
            Rollout { ready: 2, ..whole },
            Rollout {
                available: 2,
                ..whole
            },
            Rollout {
                observed: false,
                ..whole
            },
        ] {
            assert!(!part.is_complete(), "{part:?}");
        }
    }
}
