//! Ends of pods, with real processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;
#[path = "common/life.rs"]
mod life;

use std::time::Duration;

use common::{Machine, machines};
use life::{Run, code, ended, running};

#[tokio::test]
async fn a_pod_is_asked_to_end_after_its_hook() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            r#"
            metadata: {name: web}
            spec:
              containers:
              - name: main
                command: [sh, -c, "trap 'cat /data/hook; echo last > /dev/termination-log; exit 0' TERM; touch /data/up; while :; do sleep 0.01; done"]
                lifecycle: {preStop: {exec: {command: [sh, -c, "echo hooked > /data/hook"]}}}
                volumeMounts: [{name: data, mountPath: /data}]
            "#,
        )
        .await;
        run.until(|state| running(&state.containers[0].state)).await;
        common::until(|| run.data.join("up").exists()).await;
        run.pod.stop(Duration::from_secs(30));
        let state = run.ended().await;
        assert_eq!(run.log("main"), "F hooked");
        let ended = ended(&state);
        // It does not start again, although its policy is Always.
        assert_eq!(
            (ended.code, ended.reason, ended.message.as_str()),
            (0, "Completed", "last\n")
        );
    }
}

/// How the only container of a pod that is given seven seconds ends, and after how many.
async fn seconds_to_end(machine: Machine, container: &str) -> (i32, Option<i32>, i64) {
    let text = format!("{{metadata: {{name: web}}, spec: {{containers: [{container}]}}}}");
    let mut run = Run::of(machine, &text).await;
    run.until(|state| running(&state.containers[0].state)).await;
    let before = run.clock.now();
    run.pod.stop(Duration::from_secs(7));
    let state = run.ended().await;
    let ended = ended(&state);
    let seconds = (ended.finished - before).get_seconds();
    (ended.code, ended.signal, seconds)
}

#[tokio::test(start_paused = true)]
async fn what_ignores_the_request_is_killed_after_the_grace() {
    for machine in machines!() {
        let container = "{name: main, command: [sh, -c, 'trap : TERM; while :; do sleep 1000; done']}";
        assert_eq!(seconds_to_end(machine, container).await, (137, Some(9), 7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_all_the_time_leaves_two_seconds() {
    for machine in machines!() {
        let container = "{name: main, command: [sleep, '1000'], lifecycle: {preStop: {exec: {command: [sleep, '1000']}}}}";
        assert_eq!(seconds_to_end(machine, container).await, (137, Some(9), 9));
    }
}

#[tokio::test]
async fn a_shorter_grace_counts() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "{metadata: {name: web}, spec: {containers: [{name: main, command: [sleep, '1000']}]}}",
        )
        .await;
        run.until(|state| running(&state.containers[0].state)).await;
        run.pod.stop(Duration::from_secs(1_000_000));
        run.pod.stop(Duration::ZERO);
        assert_eq!(code(&run.ended().await.containers[0].state), 137);
    }
}

#[tokio::test]
async fn a_run_that_is_ended_is_followed_by_another() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "{metadata: {name: web}, spec: {containers: [{name: main, command: [sleep, '1000']}]}}",
        )
        .await;
        run.until(|state| running(&state.containers[0].state)).await;
        run.pod.end("main", 0, Duration::ZERO);
        let state = run
            .until(|state| state.containers[0].restarts == 1 && running(&state.containers[0].state))
            .await;
        assert_eq!(state.containers[0].last.as_ref().unwrap().code, 137);
    }
}

#[tokio::test]
async fn nothing_runs_after_the_pod_or_the_isolation_is_dropped() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "{metadata: {name: web}, spec: {containers: [{name: main, command: [sleep, '1000']}]}}",
        )
        .await;
        let state = run.until(|state| running(&state.containers[0].state)).await;
        let handle = state.containers[0].handle.clone().unwrap();
        let Run {
            pod,
            isolation,
            folder,
            ..
        } = run;
        drop(pod);
        common::until(|| handle.has_ended()).await;
        drop(isolation);
        common::until(|| !folder.path().join("volatile").exists()).await;
    }
}
