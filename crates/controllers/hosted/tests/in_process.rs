//! The scenarios on the server in this process, with the controller as the ServiceAccount of `deploy/install.yaml` under
//! the rules that it brings; and what only this server can do: faults on purpose, and the controller's end
//! at each of its calls, under a clock that stands still.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_apiserver::record::Call;
use clusterwright_apiserver::{ApiServer, User};
use clusterwright_clock::Clock;
use common::account::Account;
use common::crash::{Crash, End};
use common::harness::{Bench, run};
use common::scenarios;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How often the world acts and tests look.
const PAUSE: Duration = Duration::from_millis(250);

fn server() -> ApiServer {
    ApiServer::builder().clock(clock()).build()
}

fn clock() -> Clock {
    Clock::at("2026-06-01T00:00:00Z".parse().unwrap())
}

async fn bench(server: &ApiServer) -> Bench {
    let mut bench = Bench::new(server.client(), clock(), PAUSE).await;
    // Of a clock that stands still while there is work.
    bench.patience = Duration::from_hours(6);
    bench
}

/// The ServiceAccount on a server where rules say who may do what.
async fn account(server: &ApiServer) -> Account {
    Account::install(server.client(), async |token: &str| {
        let bearer: HeaderValue = format!("Bearer {token}").parse().unwrap();
        let service = server
            .service_as(User::anonymous())
            .map_request(move |mut request: Request<Body>| {
                request.headers_mut().insert(AUTHORIZATION, bearer.clone());
                request
            });
        Client::new(service, "default")
    })
    .await
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let server = ApiServer::builder().clock(clock()).rbac().build();
            let account = account(&server).await;
            let mut bench = bench(&server).await;
            bench.controller = Some(account.client());
            scenarios::$name(&mut bench).await;
            assert_eq!(account.denied(), Vec::<String>::new());
        }
    )+};
}

scenarios!(
    create_to_ready,
    restart_changes_nothing,
    an_emptied_status_is_made_anew,
    upgrade,
    versions_are_guarded,
    fields_are_validated,
    volumes_do_not_shrink,
    pause,
    a_move_is_blocked,
    fields_not_supported,
    a_lost_root_is_not_made_anew,
    etcd_grows_and_shrinks,
    a_member_that_lost_its_data_is_replaced,
    a_lost_majority_is_told,
    delete_leaves_nothing,
);

#[tokio::test(start_paused = true)]
async fn a_new_manager_of_another_image_writes_nothing_that_is_there() {
    let server = server();
    let mut bench = bench(&server).await;
    let manager = server.client_as("manager", ["system:masters"]);
    let first = bench.start_as(manager.clone());
    bench.create(&json!({})).await;
    bench.until_ready().await;
    scenarios::quiet(&bench).await;
    first.cancel();
    tokio::time::sleep(bench.pause * 10).await;

    server.record().start();
    bench.image = "ghcr.io/clusterwright/clusterwright:another";
    bench.start_as(manager);
    scenarios::quiet(&bench).await;
    let calls = server.record().take().into_iter();
    let (reads, writes): (Vec<_>, Vec<_>) = calls
        .filter(|call| call.user == "manager")
        .map(|call| format!("{} {}", call.verb, call.path))
        .partition(|call| ["get", "list", "watch"].iter().any(|verb| call.starts_with(verb)));
    assert_eq!(writes, Vec::<String>::new());
    assert!(!reads.is_empty());
}

/// Deleted when the first new member of etcd, the first new API server and the first of the others has come.
#[tokio::test(start_paused = true)]
async fn deleted_while_it_is_upgraded_nothing_is_left() {
    for come in [1, 4, 7] {
        let server = server();
        let mut bench = bench(&server).await;
        bench.start();
        bench.create(&json!({"version": "v1.35.4"})).await;
        bench.until_ready().await;
        bench.world.log.lock().unwrap().clear();
        bench
            .patch(json!({"spec": {"version": "v1.36.3"}}))
            .await
            .unwrap();
        bench
            .until("the upgrade", |_| bench.world.log.lock().unwrap().len() >= come)
            .await;
        scenarios::delete(&bench).await;
        let made = bench.world.log.lock().unwrap().len();
        assert!(
            made <= come + 3,
            "{made} pods were made, some after the deletion at {come}"
        );
        let left: Vec<String> = bench.contents().await.into_keys().collect();
        assert_eq!(left, Vec::<String>::new(), "{come}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ready_control_plane_costs_nothing() {
    let server = server();
    let mut bench = bench(&server).await;
    bench.start_as(server.client_as("manager", ["system:masters"]));
    bench.create(&json!({})).await;
    bench.until_ready().await;
    scenarios::quiet(&bench).await;

    server.record().start();
    let passes = 5;
    for pass in 0..passes {
        // It is looked at, and is as it should be.
        let looked_at = json!({"metadata": {"annotations": {"looked-at": pass.to_string()}}});
        bench.patch(looked_at).await.unwrap();
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
    let calls = server.record().take().into_iter();
    let (reads, writes): (Vec<_>, Vec<_>) = calls
        .filter(|call| call.user == "manager" && call.verb != "watch" && call.resource != "leases")
        .map(|call| format!("{} {}", call.verb, call.path))
        .partition(|call| ["get", "list"].iter().any(|verb| call.starts_with(verb)));
    assert_eq!(writes, Vec::<String>::new());
    assert!(reads.len() <= 2 * passes, "{reads:?}");
}

/// What a control plane comes to, but for what differs from run to run by chance: uids, versions, the names of pods
/// that the world makes, and the contents of keys.
async fn end_state(bench: &Bench) -> (BTreeSet<String>, Value) {
    let names = bench
        .contents()
        .await
        .into_keys()
        .filter(|name| !name.starts_with("Pod "))
        .collect();
    let Some(object) = bench.get().await else {
        return (names, Value::Null);
    };
    (
        names,
        json!({"spec": serde_json::to_value(object.spec).unwrap(), "status": bench.status().await}),
    )
}

/// The last part of a life.
const WHOLE: &str = "delete";

/// A life, made, changed and deleted, up to the end of the part `last`. `begin` is called at the start of each part.
async fn life(
    bench: &mut Bench,
    last: &str,
    mut begin: impl FnMut(&'static str, &mut Bench),
) -> Vec<(BTreeSet<String>, Value)> {
    let mut states = Vec::new();
    begin("create", bench);
    bench.create(&json!({"version": "v1.35.4"})).await;
    bench.until_ready().await;
    states.push(end_state(bench).await);
    if last == "create" {
        return states;
    }
    let keys = bench.keys().await;
    begin("update", bench);
    bench
        .patch(json!({"spec": {"version": "v1.36.3", "replicas": 2}}))
        .await
        .unwrap();
    bench
        .until("the update", |object| {
            object.is_some_and(|object| {
                common::harness::holds(object, "Ready")
                    && object
                        .status
                        .as_ref()
                        .and_then(|status| status.version.as_deref())
                        == Some("v1.36.3")
            })
        })
        .await;
    assert_eq!(bench.keys().await, keys, "no key is made anew");
    states.push(end_state(bench).await);
    if last == "update" {
        return states;
    }
    begin("delete", bench);
    scenarios::delete(bench).await;
    states.push(end_state(bench).await);
    states
}

/// The controller's user: rules of faults are for its calls alone.
const CONTROLLER: &str = "controller";

/// A bench whose controller is struck by these rules.
async fn struck(rules: impl IntoIterator<Item = Rule>) -> Bench {
    started(&server(), rules).await
}

async fn started(server: &ApiServer, rules: impl IntoIterator<Item = Rule>) -> Bench {
    let mut bench = bench(server).await;
    for rule in rules {
        server.faults().add(rule.user(CONTROLLER));
    }
    bench.start_as(server.client_as(CONTROLLER, ["system:masters"]));
    bench
}

/// From nothing to Ready.
async fn made(bench: &Bench) -> (BTreeSet<String>, Value) {
    bench.create(&json!({})).await;
    bench.until_ready().await;
    end_state(bench).await
}

/// How many good calls there are between two that are struck: enough to get over the one before the next.
const APART: u64 = 10;

/// The fault at each call of a creation in turn, reads and watches too, of the request and of the answer. A run has
/// several positions, far apart; together the runs have all.
async fn at_each_call(fault: Fault) {
    let server = server();
    server.record().start();
    let expected = made(&started(&server, []).await).await;
    let calls = server.record().take();
    let is_counted = |call: &&Call| call.user == CONTROLLER;
    let total = calls.iter().filter(is_counted).count() as u64;
    // A watch for each kind, and a write for each object.
    assert!(total >= 45, "only {total} calls");
    for first in 1..=APART.min(total) {
        for applied in [false, true] {
            let at = |nth| {
                let rule = Rule::on("*", "*", fault).nth(nth);
                if applied { rule.after_it_is_applied() } else { rule }
            };
            let positions = (first..=total).step_by(usize::try_from(APART).unwrap());
            let bench = struck(positions.map(at)).await;
            assert_eq!(
                made(&bench).await,
                expected,
                "{fault:?} at every {APART}th call from number {first}, applied: {applied}"
            );
        }
    }
}

/// The fault at the first write of each object of a whole life, all in one.
async fn at_all_writes(fault: Fault) {
    let expected = life(&mut struck([]).await, WHOLE, |_, _| {}).await;
    for applied in [false, true] {
        let mut rules = Vec::new();
        for (verb, resource, times) in [
            ("create", "secrets", 13),
            ("patch", "secrets", 1),
            ("patch", "services", 2),
            ("patch", "configmaps", 2),
            ("patch", "statefulsets.apps", 1),
            ("patch", "deployments.apps", 3),
            ("patch", "poddisruptionbudgets.policy", 2),
            ("patch", "hostedcontrolplanes.controlplane.cluster.x-k8s.io", 3),
            (
                "patch",
                "hostedcontrolplanes.controlplane.cluster.x-k8s.io/status",
                8,
            ),
            ("delete", "deployments.apps", 3),
            ("delete", "statefulsets.apps", 1),
            ("delete", "poddisruptionbudgets.policy", 3),
            ("delete", "persistentvolumeclaims", 3),
            ("delete", "configmaps", 2),
            ("delete", "services", 2),
            ("delete", "secrets", 14),
        ] {
            // Every other call, so that each is struck and then goes through.
            for nth in 0..times {
                let rule = Rule::on(verb, resource, fault).nth(2 * nth + 1);
                rules.push(if applied { rule.after_it_is_applied() } else { rule });
            }
        }
        let mut bench = struck(rules).await;
        assert_eq!(
            life(&mut bench, WHOLE, |_, _| {}).await,
            expected,
            "{fault:?}, applied: {applied}"
        );
    }
}

macro_rules! faults {
    ($($name:ident: $fault:expr,)+) => {
        mod each_call {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                at_each_call($fault).await;
            })+
        }
        mod all_writes {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                at_all_writes($fault).await;
            })+
        }
    };
}

faults! {
    conflict: Fault::Conflict,
    too_many_requests: Fault::TooManyRequests(1),
    internal: Fault::Internal,
    unavailable: Fault::Unavailable,
    cut: Fault::Cut,
    // Longer than a reconcile may take.
    latency: Fault::Latency(Duration::from_secs(90)),
}

/// How long a watch says nothing: longer than a creation takes.
const BEHIND: Duration = Duration::from_secs(20);

/// From nothing to where nothing changes any more. Ready may come before: it is said of Deployments, and the versions
/// are those of pods, whose watch may be the one that is behind.
async fn settled(bench: &Bench) -> (BTreeSet<String>, Value) {
    let mut state = made(bench).await;
    loop {
        tokio::time::sleep(BEHIND * 2).await;
        let next = end_state(bench).await;
        if next == state {
            return state;
        }
        state = next;
    }
}

/// The fault at the watch of each kind in turn, and at the two that take its place where it broke. By kind, because
/// the order in which the watches begin is left to chance.
async fn at_each_watch(fault: Fault) {
    let server = server();
    server.record().start();
    let expected = settled(&started(&server, []).await).await;
    let calls = server.record().take();
    let is_counted = |call: &&Call| call.user == CONTROLLER && call.verb == "watch";
    let watched: BTreeSet<String> = calls.iter().filter(is_counted).map(resource).collect();
    assert!(watched.len() >= 10, "only {watched:?}");
    for resource in watched {
        let rule = Rule::on("watch", &resource, fault).times(3);
        let bench = struck([rule]).await;
        assert_eq!(settled(&bench).await, expected, "{fault:?} at {resource}");
    }
}

/// A call's resource as rules name it.
fn resource(call: &Call) -> String {
    let name = format!("{}.{}", call.resource, call.group);
    name.trim_end_matches('.').to_owned()
}

#[tokio::test(start_paused = true)]
async fn each_watch_that_breaks() {
    at_each_watch(Fault::DropWatch(Duration::from_millis(300))).await;
}

#[tokio::test(start_paused = true)]
async fn each_watch_that_falls_behind() {
    at_each_watch(Fault::StaleWatch(BEHIND)).await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_or_fall_behind_lead_to_the_same_end() {
    let expected = life(&mut struck([]).await, WHOLE, |_, _| {}).await;
    for fault in [
        Fault::DropWatch(Duration::from_millis(300)),
        Fault::StaleWatch(Duration::from_secs(2)),
    ] {
        let rules = [Rule::on("watch", "*", fault).times(10)];
        assert_eq!(
            life(&mut struck(rules).await, WHOLE, |_, _| {}).await,
            expected,
            "{fault:?}"
        );
    }
}

/// The controller's process ends at each of its calls in a part of its life, and a new one takes its place.
async fn ends_at_each_call(part: &'static str, end: End) {
    let expected = life(&mut struck([]).await, part, |_, _| {}).await;
    let mut last = 1;
    loop {
        let server = server();
        let mut bench = bench(&server).await;
        let crash = Crash::at(server.client(), last, end);
        let mut running: Option<CancellationToken> = None;
        let states = life(&mut bench, part, |begun, bench| {
            if begun != part {
                if running.is_none() {
                    running = Some(bench.start());
                }
                return;
            }
            // The one before hands over; this one ends at its n-th call.
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
                    () = run(client, common::IMAGE, clock, None, shutdown.clone()) => return,
                }
                run(next, common::IMAGE, clock, None, shutdown).await;
            });
        })
        .await;
        assert_eq!(states, expected, "{part}: {end:?} at call {last}");
        if crash.calls() < last {
            break;
        }
        last += 1;
    }
    // A watch for each kind, and then writes.
    assert!(last > 20, "{part}: only {last} calls were seen");
}

macro_rules! ends {
    ($($name:ident: $part:literal, $end:expr;)+) => {
        mod ends {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                ends_at_each_call($part, $end).await;
            })+
        }
    };
}

ends! {
    creating_before_sent: "create", End::BeforeSent;
    creating_after_applied: "create", End::AfterApplied;
    updating_before_sent: "update", End::BeforeSent;
    updating_after_applied: "update", End::AfterApplied;
    deleting_before_sent: "delete", End::BeforeSent;
    deleting_after_applied: "delete", End::AfterApplied;
}
