//! The conditions of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};

use super::{Facts, seconds};

/// What a condition says.
#[derive(Clone, Default)]
struct Said {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Said {
    fn yes() -> Self {
        Self {
            holds: true,
            ..Self::default()
        }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self {
            holds: false,
            reason: Some(reason),
            message,
        }
    }
}

/// The kubelet's conditions, and those of others as they are.
pub fn all(
    facts: &Facts<'_>,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    containers: &[ContainerStatus],
) -> Vec<PodCondition> {
    let old = facts
        .pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref());
    let old: Vec<PodCondition> = old.flatten().cloned().collect();
    let ready = containers_ready(phase, containers);
    let up = Said {
        holds: facts.address.is_some() && !facts.state.ended,
        ..Said::default()
    };
    let own = [
        ("PodReadyToStartContainers", up),
        ("Initialized", initialized(phase, init, containers)),
        ("Ready", pod_ready(&ready, spec, &old)),
        ("ContainersReady", ready),
        ("PodScheduled", Said::yes()),
    ];
    let mut conditions = Vec::new();
    for (kind, said) in &own {
        let before = old.iter().find(|condition| condition.type_ == *kind);
        let status = if said.holds { "True" } else { "False" };
        let since = before
            .filter(|before| before.status == status)
            .and_then(|before| before.last_transition_time.clone());
        conditions.push(PodCondition {
            type_: (*kind).to_owned(),
            status: status.to_owned(),
            reason: said.reason.map(str::to_owned),
            message: said.message.clone(),
            last_transition_time: since.or_else(|| seconds(facts.now)),
            observed_generation: facts.pod.metadata.generation,
            last_probe_time: None,
        });
    }
    let others = old
        .into_iter()
        .filter(|condition| own.iter().all(|(kind, _)| *kind != condition.type_));
    conditions.extend(others);
    conditions
}

fn initialized(phase: &str, init: &[ContainerStatus], containers: &[ContainerStatus]) -> Said {
    if phase == "Succeeded" {
        return Said {
            reason: Some("PodCompleted"),
            ..Said::yes()
        };
    }
    let incomplete = names(init);
    // Init containers of a pod whose containers have begun are done, whatever was lost of them.
    let begun = containers
        .iter()
        .any(|container| container.container_id.is_some());
    if incomplete.is_empty() || begun {
        return Said::yes();
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Said::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(phase: &str, containers: &[ContainerStatus]) -> Said {
    match phase {
        "Succeeded" => return Said::no("PodCompleted", None),
        "Failed" => return Said::no("PodFailed", None),
        _ => {}
    }
    let unready = names(containers);
    if unready.is_empty() {
        return Said::yes();
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Said::no("ContainersNotReady", Some(message))
}

fn pod_ready(containers: &Said, spec: &PodSpec, old: &[PodCondition]) -> Said {
    if !containers.holds {
        return containers.clone();
    }
    let mut unready = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match old.iter().find(|condition| condition.type_ == *kind) {
            None => unready.push(format!(
                "corresponding condition of pod readiness gate \"{kind}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => unready.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    if unready.is_empty() {
        return Said::yes();
    }
    Said::no("ReadinessGatesNotReady", Some(unready.join(", ")))
}

/// Those that are not ready.
fn names(containers: &[ContainerStatus]) -> Vec<&str> {
    let unready = containers.iter().filter(|container| !container.ready);
    unready.map(|container| container.name.as_str()).collect()
}
