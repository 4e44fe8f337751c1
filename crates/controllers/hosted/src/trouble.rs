//! Why pods do not come up, as they themselves say it: what a rollout that stands still is to be told of. Pure.

use clusterwright_api::reasons::Reason;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt as _;

use crate::graph::Why;
use crate::names::Component;
use crate::rollout;

/// How much of what a program said last is repeated, in characters.
const LAST_WORDS: usize = 400;

/// What keeps a component's newest pod that is in trouble from being ready, and the way out. `None` if none is, or
/// none says so: one that starts is in no trouble.
pub fn trouble(pods: &[Pod], component: Component) -> Option<Why> {
    let mut waiting: Vec<&Pod> = pods
        .iter()
        .filter(|pod| rollout::is_of(pod, component) && rollout::is_live(pod))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !rollout::is_ready(pod))
        .collect();
    waiting.sort_by_key(|pod| {
        let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(made), pod.name_any())
    });
    waiting.into_iter().find_map(|pod| of_pod(pod, component))
}

fn of_pod(pod: &Pod, component: Component) -> Option<Why> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let mut containers = inits.chain(status.container_statuses.iter().flatten());
    let name = pod.name_any();
    if let Some(why) = containers.find_map(|container| of_container(pod, container, component)) {
        return Some(why);
    }
    if has_stopped_answering(status) {
        return Some(Why::new(
            Reason::PodUnhealthy,
            format!(
                "pod {name} runs but is not ready any more: it hangs, or can't do its work; `kubectl describe pod {name}` \
                 has what its probes say, and it is restarted when its liveness probe fails too"
            ),
        ));
    }
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = unscheduled.message.as_deref().unwrap_or("no reason is given");
    Some(Why::new(
        Reason::PodUnschedulable,
        format!("no node takes pod {name}: {message}"),
    ))
}

/// Whether the pod has been ready since it began to run, and is not now.
fn has_stopped_answering(status: &PodStatus) -> bool {
    let since = |kind: &str, is: &str| {
        let mut conditions = status.conditions.iter().flatten();
        let condition = conditions.find(|condition| condition.type_ == kind && condition.status == is)?;
        Some(condition.last_transition_time.as_ref()?.0)
    };
    let began = since("Initialized", "True");
    began.is_some_and(|began| since("Ready", "False").is_some_and(|not_ready| not_ready > began))
}

fn of_container(pod: &Pod, container: &ContainerStatus, component: Component) -> Option<Why> {
    let (name, field) = (pod.name_any(), component.field());
    let program = &container.name;
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or_default();
    let message = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or("no reason is given");
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            let image = image(pod, program).unwrap_or(&container.image);
            return Some(Why::new(
                Reason::ImagePullFailed,
                format!(
                    "pod {name} does not get the image {image}: {}; provide it, or set spec.version or \
                     {field}.image to one that there is",
                    // A kubelet says it another way while it waits to try again.
                    shortened(message.rsplit("ErrImagePull: ").next().unwrap_or(message))
                ),
            ));
        }
        // These are of a program that has ended, which says more.
        "" | "CrashLoopBackOff" | "ContainerCreating" | "PodInitializing" => {}
        reason => {
            return Some(Why::new(
                Reason::ContainerFailed,
                format!(
                    "{program} of pod {name} can't be started ({reason}): {}",
                    shortened(message)
                ),
            ));
        }
    }
    let ended = ended(container.state.as_ref()).or_else(|| ended(container.last_state.as_ref()))?;
    // An init container that has done its work.
    if ended.exit_code == 0 && container.ready {
        return None;
    }
    let how = match ended.signal {
        Some(signal) => format!("by signal {signal}"),
        None => format!("with exit code {}", ended.exit_code),
    };
    let said = last_line(ended.message.as_deref().unwrap_or_default());
    let said = match (said, ended.reason.as_deref()) {
        (Some(said), _) => format!(": {said}"),
        (None, Some(reason)) if reason != "Error" => format!(" ({reason})"),
        (None, _) => String::new(),
    };
    Some(Why::new(
        Reason::ContainerFailed,
        format!(
            "{program} of pod {name} ended {how}{said}; correct {field}.args or spec.version if they are the cause, \
             and see `kubectl logs --previous {name}`"
        ),
    ))
}

fn ended(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state?.terminated.as_ref()
}

/// The image that a container is to have: its status may not name it yet.
fn image<'a>(pod: &'a Pod, container: &str) -> Option<&'a String> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.find(|known| known.name == container)?.image.as_ref()
}

/// The last line of what a program said that says something.
fn last_line(said: &str) -> Option<String> {
    said.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(shortened)
}

/// A text that is fit for a condition.
fn shortened(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    match text.char_indices().nth(LAST_WORDS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, made: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "creationTimestamp": made,
                "labels": {"app.kubernetes.io/component": "kube-apiserver",
                    clusterwright_api::meta::COMPONENT_LABEL: "kube-apiserver"},
            },
            "spec": {"containers": [{"name": "kube-apiserver", "image": "registry.k8s.io/kube-apiserver:v1.36.99"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "kube-apiserver", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        }]})
    }

    fn why(pods: &[Pod]) -> Option<(Reason, String)> {
        trouble(pods, Component::ApiServer).map(|why| (why.reason, why.message))
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T01:00:00Z";

    #[test]
    fn an_image_that_is_not_there_is_named_with_the_way_out() {
        for (reason, said) in [
            ("ErrImagePull", "not found."),
            (
                "ImagePullBackOff",
                "Back-off pulling image \"x\": ErrImagePull: not found.",
            ),
        ] {
            let waiting = json!({"waiting": {"reason": reason, "message": said}});
            let (said, message) = why(&[pod("a", LATE, &container(&waiting, &json!({})))]).unwrap();
            assert_eq!(said, Reason::ImagePullFailed);
            assert_eq!(
                message,
                "pod a does not get the image registry.k8s.io/kube-apiserver:v1.36.99: not found; provide it, or set \
                 spec.version or spec.deployment.apiServer.image to one that there is"
            );
        }
    }

    #[test]
    fn a_program_that_ends_is_told_the_same_whether_it_is_down_waits_or_runs_again() {
        let ended = json!({"terminated": {
            "exitCode": 1, "reason": "Error", "message": "I0101 starting\nError: unknown flag: --nope\n\n",
        }});
        let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let running = json!({"running": {"startedAt": LATE}});
        for (state, last) in [(&ended, &json!({})), (&back_off, &ended), (&running, &ended)] {
            let (said, message) = why(&[pod("a", LATE, &container(state, last))]).unwrap();
            assert_eq!(said, Reason::ContainerFailed);
            assert_eq!(
                message,
                "kube-apiserver of pod a ended with exit code 1: Error: unknown flag: --nope; correct \
                 spec.deployment.apiServer.args or spec.version if they are the cause, and see `kubectl logs \
                 --previous a`"
            );
        }
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let (_, message) = why(&[pod("a", LATE, &container(&back_off, &killed))]).unwrap();
        assert!(
            message.contains("ended with exit code 137 (OOMKilled);"),
            "{message}"
        );
    }

    #[test]
    fn what_a_program_said_is_cut_at_a_character() {
        let long = "ä".repeat(LAST_WORDS + 1);
        let ended = json!({"terminated": {"exitCode": 2, "message": long}});
        let (_, message) = why(&[pod("a", LATE, &container(&ended, &json!({})))]).unwrap();
        assert!(message.contains(&format!("{}…;", "ä".repeat(LAST_WORDS))));
    }

    #[test]
    fn the_newest_pod_in_trouble_is_told_of_and_none_that_starts_is_ready_or_goes() {
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let wrong =
            json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"x\" not found"}});
        let trouble = |name: &str, made: &str| pod(name, made, &container(&wrong, &json!({})));
        assert_eq!(why(&[pod("a", LATE, &container(&creating, &json!({})))]), None);
        let (said, message) = why(&[trouble("a", EARLY), trouble("b", LATE)]).unwrap();
        assert_eq!(
            (said, message.as_str()),
            (
                Reason::ContainerFailed,
                "kube-apiserver of pod b can't be started (CreateContainerConfigError): secret \"x\" not found"
            )
        );
        let mut ready = trouble("a", LATE);
        ready.status.as_mut().unwrap().conditions =
            serde_json::from_value(json!([{"type": "Ready", "status": "True"}])).unwrap();
        let mut going = trouble("b", LATE);
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        assert_eq!(why(&[ready, going]), None);
        assert_eq!(super::trouble(&[trouble("a", LATE)], Component::Scheduler), None);
    }

    #[test]
    fn a_pod_that_has_been_ready_and_is_not_now_is_told_of() {
        let running = json!({"running": {"startedAt": EARLY}});
        let with = |ready: &str| {
            let mut status = container(&running, &json!({}));
            status["conditions"] = json!([
                {"type": "Initialized", "status": "True", "lastTransitionTime": EARLY},
                {"type": "Ready", "status": "False", "lastTransitionTime": ready},
            ]);
            why(&[pod("a", EARLY, &status)])
        };
        assert_eq!(with(EARLY), None);
        let (said, message) = with(LATE).unwrap();
        assert_eq!(said, Reason::PodUnhealthy);
        assert!(
            message.starts_with("pod a runs but is not ready any more"),
            "{message}"
        );
    }

    #[test]
    fn a_pod_without_a_node_says_what_nodes_lack() {
        let status = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"},
        ]});
        let (said, message) = why(&[pod("a", LATE, &status)]).unwrap();
        assert_eq!(
            (said, message.as_str()),
            (Reason::PodUnschedulable, "no node takes pod a: 0/1 nodes")
        );
    }

    #[test]
    fn an_init_container_that_has_done_its_work_is_no_trouble() {
        let status = json!({"phase": "Pending", "initContainerStatuses": [{
            "name": "first", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
        }]});
        assert_eq!(why(&[pod("a", LATE, &status)]), None);
    }
}
