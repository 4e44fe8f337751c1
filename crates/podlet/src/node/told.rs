//! What a pod's life gives to tell: Events, as a kubelet words them.

use clusterwright_runtime::events::{EventType, Recorder};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::{ContainerState, PodState, State};

/// Something to tell.
#[derive(Debug, PartialEq, Eq)]
struct News {
    r#type: EventType,
    reason: &'static str,
    action: &'static str,
    note: String,
}

/// Tells what has changed since it was last asked.
#[derive(Debug)]
pub struct Teller {
    recorder: Recorder,
    before: Option<PodState>,
}

impl Teller {
    /// One who has told nothing yet.
    pub fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            before: None,
        }
    }

    /// Tells what is new.
    pub fn tell(&mut self, pod: &Pod, now: &PodState) {
        let spec = pod.spec.as_ref();
        let init = spec.iter().flat_map(|spec| &spec.init_containers).flatten();
        let specs: Vec<&Container> = init
            .chain(spec.iter().flat_map(|spec| &spec.containers))
            .collect();
        for state in now.all() {
            let mut before = self.before.iter().flat_map(PodState::all);
            let before = before.find(|before| before.name == state.name);
            let container = specs.iter().find(|container| container.name == state.name);
            let image = container.and_then(|container| container.image.as_deref());
            for news in news(pod, image.unwrap_or_default(), before, state) {
                self.recorder
                    .publish(pod, news.r#type, news.reason, news.action, news.note);
            }
        }
        self.before = Some(now.clone());
    }

    /// Tells that all that runs of a pod is about to be ended.
    pub fn killing(&self, pod: &Pod, now: &PodState) {
        for container in now.all() {
            if matches!(container.state, State::Running { .. }) {
                let note = format!("Stopping container {}", container.name);
                self.recorder.normal(pod, "Killing", "Killing", note);
            }
        }
    }

    /// Tells that something is in the way.
    pub fn warn(&self, pod: &Pod, reason: &str, action: &str, note: String) {
        self.recorder.warning(pod, reason, action, note);
    }
}

fn news(pod: &Pod, image: &str, before: Option<&ContainerState>, now: &ContainerState) -> Vec<News> {
    let mut all = Vec::new();
    let name = &now.name;
    let mut add = |r#type, reason, action, note| {
        all.push(News {
            r#type,
            reason,
            action,
            note,
        });
    };
    if runs(now).is_some() && before.and_then(runs) != runs(now) {
        let here = format!("Container image \"{image}\" already present on machine");
        add(EventType::Normal, "Pulled", "Pulling", here);
        let created = format!("Container created: {name}");
        add(EventType::Normal, "Created", "Creating", created);
        let started = format!("Container started: {name}");
        add(EventType::Normal, "Started", "Starting", started);
    }
    if before.is_none_or(|before| before.state != now.state) {
        match &now.state {
            State::Waiting(waiting) => {
                let message = &waiting.message;
                match waiting.reason.as_str() {
                    "ErrImagePull" => {
                        let why = format!("Failed to pull image \"{image}\": {message}");
                        add(EventType::Warning, "Failed", "Pulling", why);
                        let error = "Error: ErrImagePull".to_owned();
                        add(EventType::Warning, "Failed", "Pulling", error);
                    }
                    "ImagePullBackOff" => {
                        let back_off = format!("Back-off pulling image \"{image}\"");
                        add(EventType::Normal, "BackOff", "Pulling", back_off);
                        let error = "Error: ImagePullBackOff".to_owned();
                        add(EventType::Warning, "Failed", "Pulling", error);
                    }
                    "CrashLoopBackOff" => {
                        let meta = &pod.metadata;
                        let part = |part: &Option<String>| part.clone().unwrap_or_default();
                        let note = format!(
                            "Back-off restarting failed container {name} in pod {}_{}({})",
                            part(&meta.name),
                            part(&meta.namespace),
                            part(&meta.uid)
                        );
                        add(EventType::Warning, "BackOff", "Starting", note);
                    }
                    "PodInitializing" | "ContainerCreating" => {}
                    _ => add(
                        EventType::Warning,
                        "Failed",
                        "Starting",
                        format!("Error: {message}"),
                    ),
                }
            }
            State::Terminated(ended) if ended.reason == "StartError" => {
                let note = format!("Error: {}", ended.message);
                add(EventType::Warning, "Failed", "Starting", note);
            }
            _ => {}
        }
    }
    if let Some(unhealthy) = &now.unhealthy
        && before.and_then(|before| before.unhealthy.as_ref()) != Some(unhealthy)
    {
        let note = format!("{} probe failed: {}", unhealthy.probe, unhealthy.message);
        add(EventType::Warning, "Unhealthy", "Probing", note);
    }
    if let Some(why) = &now.hook_failed
        && before.and_then(|before| before.hook_failed.as_ref()).is_none()
    {
        let note = format!("PostStartHook failed: {why}");
        add(EventType::Warning, "FailedPostStartHook", "Starting", note);
    }
    all
}

/// Which run of a container is, or was the last, to have begun.
fn runs(container: &ContainerState) -> Option<u32> {
    match &container.state {
        State::Running { .. } => Some(container.restarts),
        State::Terminated(ended) if ended.reason != "StartError" => Some(container.restarts),
        State::Waiting(_) => container.last.as_ref().map(|_| container.restarts),
        State::Terminated(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{PodPlan, Unhealthy, Waiting};
    use jiff::Timestamp;

    fn told(before: Option<&ContainerState>, now: &ContainerState) -> Vec<String> {
        let pod: Pod = serde_saphyr::from_str("{metadata: {name: p, namespace: ns, uid: u}}").unwrap();
        let news = news(&pod, "app:1", before, now);
        news.into_iter()
            .map(|news| format!("{:?} {}: {}", news.r#type, news.reason, news.note))
            .collect()
    }

    #[test]
    fn each_thing_is_told_once() {
        let pod: Pod = serde_saphyr::from_str("{spec: {containers: [{name: c}]}}").unwrap();
        let fresh = PodState::new(&PodPlan::new(&pod).unwrap(), Timestamp::UNIX_EPOCH);
        let fresh = fresh.containers[0].clone();
        assert!(told(None, &fresh).is_empty());
        let mut runs = fresh.clone();
        runs.state = State::Running {
            started: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            told(Some(&fresh), &runs),
            [
                "Normal Pulled: Container image \"app:1\" already present on machine",
                "Normal Created: Container created: c",
                "Normal Started: Container started: c",
            ]
        );
        assert!(told(Some(&runs), &runs).is_empty());
        let mut sick = runs.clone();
        sick.unhealthy = Some(Unhealthy {
            probe: "Readiness",
            message: "refused".to_owned(),
            count: 1,
        });
        assert_eq!(
            told(Some(&runs), &sick),
            ["Warning Unhealthy: Readiness probe failed: refused"]
        );
        let mut missing = fresh.clone();
        missing.state = State::Waiting(Waiting {
            reason: "ErrImagePull".to_owned(),
            message: "none".to_owned(),
        });
        assert_eq!(
            told(Some(&fresh), &missing),
            [
                "Warning Failed: Failed to pull image \"app:1\": none",
                "Warning Failed: Error: ErrImagePull",
            ]
        );
    }
}
