//! The scenarios on the server in this process, and what only it can do: faults on purpose, and the controller's end
//! at each of its calls, under a clock that stands still.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_clock::Clock;
use common::crash::{Crash, End};
use common::harness::{Bench, run};
use common::scenarios;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How often the world acts and tests look.
const PAUSE: Duration = Duration::from_millis(50);

fn server() -> ApiServer {
    ApiServer::builder().clock(clock()).build()
}

fn clock() -> Clock {
    Clock::at("2026-06-01T00:00:00Z".parse().unwrap())
}

async fn bench(server: &ApiServer) -> Bench {
    Bench::new(server.client(), clock(), PAUSE).await
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let server = server();
            scenarios::$name(&mut bench(&server).await).await;
        }
    )+};
}

scenarios!(
    create_to_ready,
    restart_changes_nothing,
    upgrade,
    versions_are_guarded,
    pause,
    fields_not_supported,
    a_lost_root_is_not_made_anew,
    delete_leaves_nothing,
);

/// What a control plane comes to, but for what differs from run to run by chance: uids, versions, the names of pods
/// that the world makes, and the contents of keys.
async fn end_state(bench: &Bench) -> (BTreeSet<String>, Value) {
    let names = bench.contents().await.into_keys().filter(|name| !name.starts_with("Pod ")).collect();
    let Some(object) = bench.get().await else {
        return (names, Value::Null);
    };
    let mut status = serde_json::to_value(object.status.unwrap_or_default()).unwrap();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let condition = condition.as_object_mut().unwrap();
        condition.remove("lastTransitionTime");
        condition.remove("observedGeneration");
    }
    status.as_object_mut().unwrap().remove("observedGeneration");
    (names, json!({"spec": serde_json::to_value(object.spec).unwrap(), "status": status}))
}

/// A whole life: made, changed, deleted. `begin` is called at the start of each part.
async fn life(bench: &mut Bench, mut begin: impl FnMut(&'static str, &mut Bench)) -> Vec<(BTreeSet<String>, Value)> {
    let mut states = Vec::new();
    begin("create", bench);
    bench.create(&json!({"version": "v1.35.4"})).await;
    bench.until_ready().await;
    states.push(end_state(bench).await);
    let keys = bench.keys().await;
    begin("update", bench);
    bench.patch(json!({"spec": {"version": "v1.36.3", "replicas": 2}})).await.unwrap();
    bench.until("the update", |object| {
        object.is_some_and(|object| {
            common::harness::holds(object, "Ready")
                && object.status.as_ref().and_then(|status| status.version.as_deref()) == Some("v1.36.3")
        })
    }).await;
    assert_eq!(bench.keys().await, keys, "no key is made anew");
    states.push(end_state(bench).await);
    begin("delete", bench);
    scenarios::delete(bench).await;
    states.push(end_state(bench).await);
    states
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_call_leads_to_the_same_end() {
    let server_without = server();
    let mut without = bench(&server_without).await;
    without.start();
    server_without.record().start();
    let expected = life(&mut without, |_, _| {}).await;
    // The world's own calls are not struck: rules name what only the controller writes.
    let mut calls: BTreeMap<(String, String), u64> = BTreeMap::new();
    for call in server_without.record().calls() {
        *calls.entry((call.verb.to_string(), call.resource.to_string())).or_default() += 1;
    }
    drop(without);

    let faults = [
        Fault::Conflict,
        Fault::TooManyRequests(1),
        Fault::Internal,
        Fault::Unavailable,
        Fault::Cut,
        Fault::Latency(Duration::from_secs(90)),
    ];
    for (verb, resource, most) in [
        ("create", "secrets", 13),
        ("patch", "secrets", 1),
        ("patch", "services", 2),
        ("patch", "configmaps", 2),
        ("patch", "statefulsets.apps", 2),
        ("patch", "deployments.apps", 5),
        ("patch", "poddisruptionbudgets.policy", 2),
        ("patch", "hostedcontrolplanes.controlplane.cluster.x-k8s.io", 2),
        ("patch", "hostedcontrolplanes.controlplane.cluster.x-k8s.io/status", 6),
        ("delete", "deployments.apps", 3),
        ("delete", "statefulsets.apps", 1),
        ("delete", "persistentvolumeclaims", 3),
        ("delete", "secrets", 14),
    ] {
        for nth in 1..=most {
            for (index, fault) in faults.into_iter().enumerate() {
                // Each call meets each fault once over all; the answer is struck for every other one.
                let mut rule = Rule::on(verb, resource, fault).nth(nth);
                if (index as u64 + nth) % 2 == 0 {
                    rule = rule.after_it_is_applied();
                }
                let server = server();
                let mut bench = bench(&server).await;
                server.faults().add(rule);
                bench.start();
                let states = life(&mut bench, |_, _| {}).await;
                assert_eq!(states, expected, "{fault:?} at {verb} {resource} number {nth}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_at_every_call_leads_to_the_same_state() {
    let server_without = server();
    let mut without = bench(&server_without).await;
    without.start();
    let expected = life(&mut without, |_, _| {}).await;
    drop(without);

    for part in ["create", "update", "delete"] {
        for end in [End::BeforeSent, End::AfterApplied] {
            let mut last = 1;
            loop {
                let server = server();
                let mut bench = bench(&server).await;
                let crash = Crash::at(server.client(), last, end);
                let mut running: Option<CancellationToken> = None;
                let states = life(&mut bench, |begun, bench| {
                    if begun != part {
                        if running.is_none() {
                            running = Some(bench.start());
                        }
                        return;
                    }
                    // The one before hands over; this one ends at its n-th write, and a new one takes its place.
                    if let Some(running) = running.take() {
                        running.cancel();
                    }
                    let (client, clock) = (crash.client(), bench.clock);
                    let (crash, next) = (crash.clone(), bench.client.clone());
                    let shutdown = CancellationToken::new();
                    running = Some(shutdown.clone());
                    bench.spawn(async move {
                        tokio::select! {
                            () = crash.ended() => {}
                            () = run(client, clock, shutdown.clone()) => return,
                        }
                        run(next, clock, shutdown).await;
                    });
                })
                .await;
                assert_eq!(states, expected, "{part}: {end:?} at write {last}");
                if crash.calls() < last {
                    break;
                }
                last += 1;
            }
            assert!(last > 10, "{part}: only {last} writes were seen");
        }
    }
}
