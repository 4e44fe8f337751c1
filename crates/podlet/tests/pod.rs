//! Lives of pods, with real processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;
#[path = "common/life.rs"]
mod life;

use std::time::Duration;

use clusterwright_podlet::isolation::Entry;
use clusterwright_podlet::pod::{self, State, Unprepared};
use common::{machines, shell_image};
use life::{Run, code, ended, running};

#[tokio::test]
async fn init_containers_run_in_order_and_then_containers_together() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            r#"
            metadata: {name: web, namespace: test}
            spec:
              restartPolicy: Never
              initContainers:
              - {name: first, command: [sh, -c, "echo 1 >> /data/file"], volumeMounts: &m [{name: data, mountPath: /data}]}
              - {name: second, command: [sh, -c, "cat /data/file; echo 2 >> /data/file"], volumeMounts: *m}
              containers:
              - {name: one, command: [sh, -c, "echo $NAME $0 >> /data/$HOSTNAME; exit 3", "$(HOSTNAME)"], volumeMounts: *m}
              - name: two
                command: [sh, -c, "cat /data/file; hostname >&2; grep web /etc/hosts; cat /etc/resolv.conf; pwd"]
                workingDir: /work/here
                volumeMounts: *m
            "#,
        )
        .await;
        let state = run.ended().await;
        assert_eq!(run.log("second"), "F 1");
        assert_eq!(std::fs::read_to_string(run.data.join("file")).unwrap(), "1\n2\n");
        assert_eq!(std::fs::read_to_string(run.data.join("web")).unwrap(), "web\n");
        let log = run.log("two");
        for line in [
            "F 1\nF 2",
            "F web",
            "F 10.244.0.2\tweb",
            "F search test.svc.cluster.local svc.cluster.local cluster.local\nF nameserver 10.244.0.1\nF options ndots:5",
            "F /work/here",
        ] {
            assert!(log.contains(line), "{line} in {log}");
        }
        let codes =
            |list: &[pod::ContainerState]| list.iter().map(|one| code(&one.state)).collect::<Vec<_>>();
        assert_eq!(codes(&state.init), [0, 0]);
        assert_eq!(codes(&state.containers), [3, 0]);
        let ended = ended(&state);
        assert_eq!(ended.reason, "Error");
    }
}

#[tokio::test]
async fn a_failed_init_container_ends_a_pod_that_is_never_restarted() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "
            metadata: {name: web}
            spec:
              restartPolicy: Never
              initContainers: [{name: init, command: ['false']}]
              containers: [{name: main, command: ['true']}]
            ",
        )
        .await;
        let state = run.ended().await;
        assert_eq!(code(&state.init[0].state), 1);
        assert!(
            matches!(&state.containers[0].state, State::Waiting(waiting) if waiting.reason == "PodInitializing")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_longer_each_time() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "
            metadata: {name: web}
            spec:
              containers:
              - {name: main, command: [sh, -c, 'echo $(($(cat /data/n || echo 0) + 1)) > /data/n; exit 1'],
                 volumeMounts: [{name: data, mountPath: /data}]}
            ",
        )
        .await;
        let mut waits = Vec::new();
        for restarts in [1, 2, 3] {
            let state = run
                .until(|state| {
                    let main = &state.containers[0];
                    main.restarts == restarts
                        && matches!(&main.state, State::Waiting(waiting) if waiting.reason == "CrashLoopBackOff")
                })
                .await;
            let main = &state.containers[0];
            assert_eq!(main.last.as_ref().unwrap().code, 1);
            let State::Waiting(waiting) = &main.state else {
                panic!("{state:?}");
            };
            waits.push(waiting.message.clone());
        }
        let message = |seconds| format!("back-off {seconds}s restarting failed container=main");
        assert_eq!(waits, [message(10), message(20), message(40)]);
        assert_eq!(std::fs::read_to_string(run.data.join("n")).unwrap(), "4\n");
        assert!(!run.logs.join("main/0.log").exists() && run.logs.join("main/2.log").exists());
        run.pod.stop(Duration::ZERO);
        run.ended().await;
    }
}

#[tokio::test]
async fn a_container_that_succeeded_is_not_restarted_on_failure() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "
            metadata: {name: web}
            spec:
              restartPolicy: OnFailure
              containers:
              - {name: main, command: [sh, -c, 'test -e /data/n || { touch /data/n; exit 1; }'],
                 volumeMounts: [{name: data, mountPath: /data}]}
            ",
        )
        .await;
        let state = run.ended().await;
        let main = &state.containers[0];
        assert_eq!((code(&main.state), main.restarts), (0, 1));
        assert_eq!(main.last.as_ref().unwrap().code, 1);
    }
}

#[tokio::test]
async fn last_words_come_from_the_log_where_there_are_none() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "
            metadata: {name: web}
            spec:
              restartPolicy: Never
              containers:
              - {name: main, command: [sh, -c, 'echo the reason >&2; exit 1'], terminationMessagePolicy: FallbackToLogsOnError}
            ",
        )
        .await;
        let state = run.ended().await;
        let ended = ended(&state);
        assert_eq!(ended.message, "the reason\n");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lacking_is_waited_for() {
    for machine in machines!() {
        let lacking = Unprepared {
            reason: "CreateContainerConfigError".to_owned(),
            message: "secret \"keys\" not found".to_owned(),
        };
        let mut run = Run::lacking(
            machine,
            "{metadata: {name: web}, spec: {restartPolicy: Never, containers: [{name: main, command: ['true']}]}}",
            Some(lacking.clone()),
        )
        .await;
        run.until(|state| {
            matches!(&state.containers[0].state, State::Waiting(waiting)
                if waiting.reason == lacking.reason && waiting.message == lacking.message)
        })
        .await;
        assert_eq!(code(&run.ended().await.containers[0].state), 0);
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "{metadata: {name: web}, spec: {restartPolicy: Never, containers: [{name: main, command: [no-such]}]}}",
        )
        .await;
        let state = run.ended().await;
        let ended = ended(&state);
        assert_eq!((ended.code, ended.reason), (128, "StartError"));
        assert_eq!(
            ended.message,
            "failed to start no-such: No such file or directory (os error 2)"
        );
    }
}

#[tokio::test]
async fn a_root_is_read_only_and_its_user_another_if_the_spec_says_so() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            r#"
            metadata: {name: web}
            spec:
              restartPolicy: Never
              securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true, fsGroup: 3000}
              containers:
              - name: main
                command: [sh, -c, "id -u; touch /x || echo read-only; grep CapBnd /proc/self/status; test -w /dev/termination-log && echo words"]
                securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
            "#,
        )
        .await;
        run.ended().await;
        let log = run.log("main");
        for line in ["F 1000", "F read-only", "F CapBnd:\t0000000000000000", "F words"] {
            assert!(log.contains(line), "{log}");
        }
    }
}

#[tokio::test]
async fn probes_say_when_it_has_started_is_ready_and_is_dead() {
    for machine in machines!() {
        let mut run = Run::of(
            machine,
            "
            metadata: {name: web}
            spec:
              containers:
              - name: main
                command: [sleep, '1000']
                volumeMounts: [{name: data, mountPath: /data}]
                startupProbe: {exec: {command: [sh, -c, 'echo not yet; test -e /data/started']}, periodSeconds: 1,
                  failureThreshold: 1000}
                readinessProbe: {exec: {command: [test, -e, /data/ready]}, periodSeconds: 1, failureThreshold: 1}
                livenessProbe: {exec: {command: [test, '!', -e, /data/dead]}, periodSeconds: 1, failureThreshold: 1,
                  terminationGracePeriodSeconds: 0}
            ",
        )
        .await;
        let touch = |name: &str| std::fs::write(run.data.join(name), "").unwrap();
        touch("dead");
        let mut state = run.state.clone();
        let now = state
            .wait_for(|state| state.containers[0].unhealthy.is_some())
            .await
            .unwrap()
            .clone();
        let main = &now.containers[0];
        // Dead it may be, but that is not asked before it has started.
        assert!(running(&main.state) && !main.started && !main.ready);
        let unhealthy = main.unhealthy.as_ref().unwrap();
        assert_eq!(
            (unhealthy.probe, unhealthy.message.as_str()),
            ("Startup", "not yet\n")
        );
        std::fs::remove_file(run.data.join("dead")).unwrap();
        touch("started");
        let now = state
            .wait_for(|state| state.containers[0].started)
            .await
            .unwrap()
            .clone();
        assert!(!now.containers[0].ready);
        touch("ready");
        state.wait_for(|state| state.containers[0].ready).await.unwrap();
        std::fs::remove_file(run.data.join("ready")).unwrap();
        let now = state
            .wait_for(|state| !state.containers[0].ready)
            .await
            .unwrap()
            .clone();
        assert!(now.containers[0].started && now.containers[0].restarts == 0);
        touch("dead");
        let now = run.until(|state| state.containers[0].restarts == 1).await;
        assert_eq!(now.containers[0].last.as_ref().unwrap().code, 137);
    }
}

#[test]
fn roots_have_what_the_image_has() {
    assert!(
        shell_image()
            .entries()
            .iter()
            .any(|entry| matches!(entry, Entry::Bind { path, .. } if path == "/usr"))
    );
}
