//! From lives of pods to what they report.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use clusterwright_podlet::pod::{PodPlan, PodState, State, Terminated, Waiting};
use clusterwright_podlet::status::{Earlier, Facts, status};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: &str) -> Pod {
    let text = format!("{{metadata: {{name: web, namespace: ns, uid: u, generation: 3}}, spec: {spec}}}");
    serde_saphyr::from_str(&text).unwrap()
}

fn running(at: i64) -> State {
    State::Running { started: time(at) }
}

fn ended(code: i32) -> Terminated {
    Terminated {
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" },
        message: String::new(),
        started: time(10),
        finished: time(20),
    }
}

fn waiting(reason: &str) -> State {
    State::Waiting(Waiting {
        reason: reason.to_owned(),
        message: String::new(),
    })
}

/// The status of a pod of this spec, whose life `change` makes.
fn of(pod: &Pod, earlier: &BTreeMap<String, Earlier>, change: impl FnOnce(&mut PodState)) -> PodStatus {
    let mut state = PodState::new(&PodPlan::new(pod).unwrap(), time(5));
    change(&mut state);
    let facts = Facts {
        pod,
        state: &state,
        address: Some([10, 244, 0, 2].into()),
        host: [127, 0, 0, 1].into(),
        earlier,
        images: &[("app:1".to_owned(), "file:///app".to_owned())].into(),
        now: time(100),
    };
    status(&facts)
}

fn phase(spec: &str, change: impl FnOnce(&mut PodState)) -> String {
    of(&pod(spec), &BTreeMap::new(), change).phase.unwrap()
}

/// Conditions as `Type=Status Reason`.
fn conditions(status: &PodStatus) -> Vec<String> {
    let conditions = status.conditions.iter().flatten();
    let line = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        let reason = condition.reason.clone().unwrap_or_default();
        format!("{}={} {reason}", condition.type_, condition.status)
            .trim_end()
            .to_owned()
    };
    conditions.map(line).collect()
}

const TWO: &str = "{containers: [{name: a, image: 'app:1'}, {name: b, image: 'app:1'}]}";
const NEVER: &str = "{restartPolicy: Never, containers: [{name: a, image: 'app:1'}]}";
const ON_FAILURE: &str = "{restartPolicy: OnFailure, containers: [{name: a, image: 'app:1'}]}";
const INIT: &str = "{initContainers: [{name: i, image: 'app:1'}], containers: [{name: a, image: 'app:1'}]}";

#[test]
fn phases_are_the_kubelets() {
    let crashed = |state: &mut PodState| {
        state.containers[0].state = waiting("CrashLoopBackOff");
        state.containers[0].last = Some(ended(1));
    };
    let over = |code| {
        move |state: &mut PodState| {
            state.containers[0].state = State::Terminated(ended(code));
            state.ended = true;
        }
    };
    assert_eq!(phase(TWO, |_| {}), "Pending");
    assert_eq!(
        phase(TWO, |state| state.containers[0].state = running(10)),
        "Pending"
    );
    assert_eq!(
        phase(TWO, |state| {
            crashed(state);
            state.containers[1].state = running(10);
        }),
        "Running"
    );
    assert_eq!(phase(NEVER, over(0)), "Succeeded");
    assert_eq!(phase(NEVER, over(3)), "Failed");
    assert_eq!(phase(ON_FAILURE, crashed), "Running");
    // Between two runs.
    let between = |state: &mut PodState| state.containers[0].state = State::Terminated(ended(1));
    assert_eq!(phase(ON_FAILURE, between), "Running");
    assert_eq!(phase(NEVER, between), "Failed");
    // A pod that is deleted while it runs, and one before it began.
    assert_eq!(phase("{containers: [{name: a}]}", over(137)), "Failed");
    assert_eq!(phase(TWO, |state| state.ended = true), "Failed");

    let failed_init = |state: &mut PodState| state.init[0].state = State::Terminated(ended(1));
    assert_eq!(phase(INIT, failed_init), "Pending");
    let never = INIT.replacen('{', "{restartPolicy: Never, ", 1);
    assert_eq!(phase(&never, failed_init), "Failed");
    let begun = |state: &mut PodState| {
        state.init[0].state = State::Terminated(ended(0));
        state.containers[0].state = running(30);
    };
    assert_eq!(phase(INIT, begun), "Running");
}

#[test]
fn conditions_say_what_is_missing() {
    let none = BTreeMap::new();
    let first = of(&pod(INIT), &none, |_| {});
    assert_eq!(
        conditions(&first),
        [
            "PodReadyToStartContainers=True",
            "Initialized=False ContainersNotInitialized",
            "Ready=False ContainersNotReady",
            "ContainersReady=False ContainersNotReady",
            "PodScheduled=True",
        ]
    );
    let messages: Vec<_> = first
        .conditions
        .iter()
        .flatten()
        .filter_map(|one| one.message.as_deref())
        .collect();
    assert_eq!(messages[0], "containers with incomplete status: [i]");
    assert_eq!(messages[1], "containers with unready status: [a]");
    let done = of(&pod(NEVER), &none, |state| {
        state.containers[0].state = State::Terminated(ended(0));
        state.ended = true;
    });
    assert_eq!(
        conditions(&done),
        [
            "PodReadyToStartContainers=False",
            "Initialized=True PodCompleted",
            "Ready=False PodCompleted",
            "ContainersReady=False PodCompleted",
            "PodScheduled=True",
        ]
    );
}

#[test]
fn times_move_with_what_they_tell_of_and_conditions_of_others_stay() {
    let none = BTreeMap::new();
    let mut pod = pod("{readinessGates: [{conditionType: x/gate}], containers: [{name: a, image: 'app:1'}]}");
    let ready = |state: &mut PodState| {
        state.containers[0].state = running(10);
        state.containers[0].ready = true;
        state.containers[0].started = true;
    };
    let mut before = of(&pod, &none, |_| {});
    let others: PodStatus = serde_saphyr::from_str(
        "{qosClass: Burstable, startTime: '1970-01-01T00:00:01Z', conditions: [{type: x/gate, status: 'False'}]}",
    )
    .unwrap();
    let conditions_before = before.conditions.as_mut().unwrap();
    for condition in conditions_before.iter_mut() {
        condition.last_transition_time = serde_saphyr::from_str("'1970-01-01T00:00:50Z'").unwrap();
    }
    conditions_before.extend(others.conditions.clone().unwrap());
    before.qos_class = others.qos_class;
    before.start_time = others.start_time;
    pod.status = Some(before);

    let after = of(&pod, &none, ready);
    assert_eq!(
        conditions(&after),
        [
            "PodReadyToStartContainers=True",
            "Initialized=True",
            "Ready=False ReadinessGatesNotReady",
            "ContainersReady=True",
            "PodScheduled=True",
            "x/gate=False",
        ]
    );
    let since: Vec<_> = after
        .conditions
        .iter()
        .flatten()
        .map(|one| one.last_transition_time.as_ref().map(|time| time.0.as_second()))
        .collect();
    // Of the kubelet's own only what holds now and did not before has changed.
    assert_eq!(since, [Some(50), Some(50), Some(50), Some(100), Some(50), None]);
    assert_eq!(after.qos_class.as_deref(), Some("Burstable"));
    assert_eq!(after.start_time.unwrap().0, time(1));
    assert_eq!(after.observed_generation, Some(3));
}

#[test]
fn a_container_shows_its_runs() {
    let none = BTreeMap::new();
    let of = |change: fn(&mut PodState)| {
        let status = of(&pod(NEVER), &none, change);
        serde_json::to_value(&status.container_statuses.unwrap()[0]).unwrap()
    };
    let first = of(|_| {});
    assert_eq!(first["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(first["containerID"], serde_json::Value::Null);
    assert_eq!(first["imageID"], "file:///app");
    let runs = of(|state| {
        state.containers[0].state = running(10);
        state.containers[0].restarts = 2;
        state.containers[0].last = Some(ended(7));
    });
    assert_eq!(runs["state"]["running"]["startedAt"], "1970-01-01T00:00:10Z");
    assert_eq!(runs["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(runs["restartCount"], 2);
    let waits = of(|state| {
        state.containers[0].state = waiting("CrashLoopBackOff");
        state.containers[0].restarts = 2;
        state.containers[0].last = Some(ended(7));
    });
    assert_eq!(waits["containerID"], runs["containerID"]);
    assert_eq!(waits["state"]["waiting"]["reason"], "CrashLoopBackOff");
}

#[test]
fn what_an_earlier_podlet_ran_counts_on() {
    let pod = pod(NEVER);
    let before = of(&pod, &BTreeMap::new(), |state| {
        state.containers[0].state = running(10);
        state.containers[0].restarts = 1;
    });
    let earlier = Earlier::of(&before, time(90));
    let after = of(&pod, &earlier, |state| state.containers[0].state = running(95));
    let container = &after.container_statuses.unwrap()[0];
    assert_eq!(container.restart_count, 2);
    let last = container.last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    assert_ne!(
        container.container_id,
        before.container_statuses.unwrap()[0].container_id
    );
    // What had not begun begins for the first time.
    let fresh = of(&pod, &BTreeMap::new(), |_| {});
    assert!(Earlier::of(&fresh, time(90)).is_empty());
}
