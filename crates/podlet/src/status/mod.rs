//! From a pod's life to its status, as a kubelet writes it. Pure.
//!
//! The rules are those of the kubelet (`pkg/kubelet/kubelet_pods.go` and `status/generate.go` say the same).

mod conditions;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as StateShown, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use crate::pod::{ContainerState, PodState, RestartPolicy, State, Terminated};

/// What a container's first process is taken to have ended with if nobody saw its end.
const UNSEEN: i32 = 137;

/// What a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The pod as the server has it: conditions of others stay, and times stay unless what they tell of has changed.
    pub pod: &'a Pod,
    /// Its life.
    pub state: &'a PodState,
    /// Its address, while it has one.
    pub address: Option<Ipv4Addr>,
    /// The node's address.
    pub host: IpAddr,
    /// What its containers were in lives before this podlet's, by name.
    pub earlier: &'a BTreeMap<String, Earlier>,
    /// What images are here, by their name in the spec.
    pub images: &'a BTreeMap<String, String>,
    /// The time.
    pub now: Timestamp,
}

/// What a container was before a podlet took on its pod that another one had run.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Earlier {
    /// How often it had been started again, this time included.
    pub restarts: i32,
    /// How it ended.
    pub last: Option<ContainerStateTerminated>,
}

impl Earlier {
    /// What is left of earlier lives in a pod's status, by container.
    pub fn of(status: &PodStatus, now: Timestamp) -> BTreeMap<String, Self> {
        let init = status.init_container_statuses.iter().flatten();
        let main = status.container_statuses.iter().flatten();
        let known = init
            .chain(main)
            .filter_map(|status| Some((status.name.clone(), Self::of_container(status, now)?)));
        known.collect()
    }

    fn of_container(status: &ContainerStatus, now: Timestamp) -> Option<Self> {
        let none = StateShown::default();
        let state = status.state.as_ref().unwrap_or(&none);
        let last = status
            .last_state
            .as_ref()
            .and_then(|last| last.terminated.clone());
        let ended = if let Some(running) = &state.running {
            Some(ContainerStateTerminated {
                container_id: status.container_id.clone(),
                exit_code: UNSEEN,
                finished_at: Some(Time(now)),
                message: Some("the podlet that ran it has ended, and the container with it".to_owned()),
                reason: Some("ContainerStatusUnknown".to_owned()),
                signal: None,
                started_at: running.started_at.clone(),
            })
        } else {
            state.terminated.clone().or(last)
        };
        ended.map(|last| Self {
            restarts: status.restart_count + 1,
            last: Some(last),
        })
    }
}

/// What a pod is to report.
pub fn status(facts: &Facts<'_>) -> PodStatus {
    let old = facts.pod.status.clone().unwrap_or_default();
    let none = PodSpec::default();
    let spec = facts.pod.spec.as_ref().unwrap_or(&none);
    let list = |containers: &[Container], states: &[ContainerState], init: bool| -> Vec<ContainerStatus> {
        let shown = states.iter().filter_map(|state| {
            let container = containers.iter().find(|container| container.name == state.name)?;
            Some(container_status(facts, container, state, init))
        });
        shown.collect()
    };
    let init = list(
        spec.init_containers.as_deref().unwrap_or_default(),
        &facts.state.init,
        true,
    );
    let containers = list(&spec.containers, &facts.state.containers, false);
    let phase = phase(spec, facts.state);
    let address = facts.address.map(|address| address.to_string());
    let host = facts.host.to_string();
    let generation = facts.pod.metadata.generation;
    PodStatus {
        conditions: Some(conditions::all(facts, spec, phase, &init, &containers)),
        phase: Some(phase.to_owned()),
        // What ended the pod, such as an eviction, stays said.
        reason: old.reason,
        message: old.message,
        host_ip: Some(host.clone()),
        host_ips: Some(vec![HostIP { ip: host }]),
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: old.start_time.or_else(|| seconds(facts.state.started)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: (!containers.is_empty()).then_some(containers),
        observed_generation: generation,
        qos_class: old.qos_class,
        nominated_node_name: old.nominated_node_name,
        ephemeral_container_statuses: old.ephemeral_container_statuses,
        resource_claim_statuses: old.resource_claim_statuses,
        ..PodStatus::default()
    }
}

fn container_status(
    facts: &Facts<'_>,
    container: &Container,
    state: &ContainerState,
    init: bool,
) -> ContainerStatus {
    let earlier = facts.earlier.get(&container.name);
    let before = earlier.map_or(0, |earlier| earlier.restarts);
    let restarts = |here: u32| before + i32::try_from(here).unwrap_or(i32::MAX - before);
    let image = container.image.clone().unwrap_or_default();
    let (shown, runs) = shown(&state.state);
    let last = state.last.as_ref().map(terminated).or_else(|| {
        earlier
            .filter(|_| state.restarts == 0)
            .and_then(|earlier| earlier.last.clone())
    });
    // One that waits is still called what its last run was.
    let id = (runs || state.last.is_some())
        .then(|| container_id(facts.pod, &container.name, restarts(state.restarts)));
    let done = matches!(&state.state, State::Terminated(ended) if ended.code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image_id: facts.images.get(&image).cloned().unwrap_or_default(),
        image,
        container_id: id,
        last_state: Some(StateShown {
            terminated: last,
            ..StateShown::default()
        }),
        ready: if init { done } else { state.ready },
        restart_count: restarts(state.restarts),
        started: Some(state.started && !init),
        state: Some(shown),
        ..ContainerStatus::default()
    }
}

/// What a container is, and whether it runs or has run.
fn shown(state: &State) -> (StateShown, bool) {
    let none = StateShown::default();
    match state {
        State::Waiting(waiting) => {
            let waiting = ContainerStateWaiting {
                reason: Some(waiting.reason.clone()),
                message: (!waiting.message.is_empty()).then(|| waiting.message.clone()),
            };
            (
                StateShown {
                    waiting: Some(waiting),
                    ..none
                },
                false,
            )
        }
        State::Running { started } => {
            let running = ContainerStateRunning {
                started_at: seconds(*started),
            };
            (
                StateShown {
                    running: Some(running),
                    ..none
                },
                true,
            )
        }
        State::Terminated(ended) => (
            StateShown {
                terminated: Some(terminated(ended)),
                ..none
            },
            true,
        ),
    }
}

fn terminated(ended: &Terminated) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: None,
        exit_code: ended.code,
        finished_at: seconds(ended.finished),
        message: (!ended.message.is_empty()).then(|| ended.message.clone()),
        reason: Some(ended.reason.to_owned()),
        signal: ended.signal,
        started_at: seconds(ended.started),
    }
}

/// A name of one run of a container.
fn container_id(pod: &Pod, container: &str, restarts: i32) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let hash = Sha256::digest(format!("{uid}/{container}/{restarts}"));
    format!("podlet://{hash:x}")
}

/// The time as objects hold it: what is compared with it came from the server.
fn seconds(time: Timestamp) -> Option<Time> {
    Timestamp::from_second(time.as_second()).ok().map(Time)
}

/// What the pod is as a whole.
fn phase(spec: &PodSpec, state: &PodState) -> &'static str {
    let restart = RestartPolicy::of(spec);
    let failed = |container: &ContainerState| {
        let last = match &container.state {
            State::Terminated(ended) => Some(ended),
            State::Waiting(_) => container.last.as_ref(),
            State::Running { .. } => None,
        };
        last.is_some_and(|ended| ended.code != 0)
    };
    let done =
        |container: &ContainerState| matches!(&container.state, State::Terminated(ended) if ended.code == 0);
    if restart == RestartPolicy::Never && state.init.iter().any(failed) {
        return "Failed";
    }
    let begun = state.containers.iter().any(has_run);
    if !begun && !state.init.iter().all(done) {
        // A pod that was ended before it began has failed.
        return if state.ended { "Failed" } else { "Pending" };
    }
    let all = &state.containers;
    let running = all.iter().any(|one| matches!(one.state, State::Running { .. }));
    if state.ended {
        return if all.iter().all(done) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if !all.iter().all(has_run) {
        return "Pending";
    }
    if running || restart == RestartPolicy::Always {
        return "Running";
    }
    if all.iter().all(done) {
        return "Succeeded";
    }
    let over = all.iter().all(|one| matches!(one.state, State::Terminated(_)));
    if over && restart == RestartPolicy::Never {
        return "Failed";
    }
    "Running"
}

fn has_run(container: &ContainerState) -> bool {
    container.last.is_some() || !matches!(container.state, State::Waiting(_))
}
