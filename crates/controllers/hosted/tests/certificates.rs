//! What becomes of Secrets that are deleted, spoilt or too old, and of clocks that are wrong: the leaves come back by
//! themselves and no pod is touched, for what is lost with a root the way out is told.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use clusterwright_apiserver::ApiServer;
use clusterwright_clock::Clock;
use clusterwright_hosted::Options;
use clusterwright_hosted::pki::{Facts, Leaf, SHORTEST_LEAF_VALIDITY};
use common::harness::{Bench, NAME, condition, holds, run_with};
use common::scenarios::quiet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_millis(250);

/// The time as everyone else has it.
fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

async fn bench() -> Bench {
    let server = ApiServer::builder().clock(Clock::at(now())).build();
    let mut bench = Bench::new(server.client(), Clock::at(now()), PAUSE).await;
    bench.patience = Duration::from_hours(6);
    bench
}

/// A control plane that is ready, and the manager that made it so.
async fn ready() -> (Bench, CancellationToken) {
    let mut bench = bench().await;
    let manager = bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    quiet(&bench).await;
    (bench, manager)
}

/// What must not change when a certificate does: workloads and pods, with uid and version.
async fn workloads(bench: &Bench) -> BTreeMap<String, String> {
    let mut all = bench.contents().await;
    all.retain(|name, _| {
        ["Pod ", "Deployment ", "StatefulSet ", "ConfigMap "]
            .iter()
            .any(|kind| name.starts_with(kind))
    });
    assert!(all.len() > 10, "{all:?}");
    all
}

async fn patch_secret(bench: &Bench, name: &str, data: Value) {
    bench
        .api::<Secret>()
        .patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"data": data})),
        )
        .await
        .unwrap();
}

/// Waits until the Secret holds something other than this.
async fn until_other(bench: &Bench, name: &str, than: &Value) {
    for _ in 0..400 {
        if bench.keys().await.get(name).is_some_and(|data| data != than) {
            return;
        }
        tokio::time::sleep(bench.pause).await;
    }
    panic!("{name} is not made anew");
}

/// The notes of all Events with this reason.
async fn told(bench: &Bench, reason: &str) -> Vec<String> {
    let events = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    let of_reason = events
        .items
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason));
    of_reason.filter_map(|event| event.note).collect()
}

fn leaves() -> Vec<String> {
    Leaf::ALL
        .iter()
        .map(|leaf| format!("{NAME}-{}-tls", leaf.name()))
        .collect()
}

/// What each leaf says.
async fn facts(bench: &Bench) -> BTreeMap<String, Facts> {
    let mut facts = BTreeMap::new();
    for name in leaves() {
        let secret: Secret = bench.api().get(&name).await.unwrap();
        let pem = String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap();
        facts.insert(name, Facts::read(&pem).unwrap());
    }
    facts
}

#[tokio::test(start_paused = true)]
async fn what_can_be_made_anew_is_and_no_pod_is_touched() {
    let (bench, _manager) = ready().await;
    let before = workloads(&bench).await;
    for name in leaves().into_iter().chain([format!("{NAME}-kubeconfig")]) {
        let had = bench.keys().await[&name].clone();
        let secrets = bench.api::<Secret>();
        let uid = secrets.get(&name).await.unwrap().uid();
        secrets.delete(&name, &DeleteParams::default()).await.unwrap();
        let mut found = None;
        for _ in 0..400 {
            found = secrets.get_opt(&name).await.unwrap();
            if found.is_some() {
                break;
            }
            tokio::time::sleep(bench.pause).await;
        }
        assert_ne!(found.unwrap().uid(), uid, "{name}");
        // Whatever is written into it does not stay.
        let garbage = json!({"tls.crt": "Z2FyYmFnZQ==", "value": "Z2FyYmFnZQ=="});
        let only = if name.ends_with("-tls") {
            "tls.crt"
        } else {
            "value"
        };
        patch_secret(&bench, &name, json!({only: garbage[only]})).await;
        let mut spoilt = bench.keys().await[&name].clone();
        spoilt[only] = garbage[only].clone();
        until_other(&bench, &name, &spoilt).await;
        if name.ends_with("-tls") {
            assert_ne!(bench.keys().await[&name], had, "{name}: another key");
        }
    }
    bench.until_ready().await;
    quiet(&bench).await;
    assert_eq!(workloads(&bench).await, before);
    let notes = told(&bench, "CertificateRenewed").await;
    for cause in ["it was gone", "it could not be read"] {
        assert!(notes.iter().any(|note| note.contains(cause)), "{notes:?}");
    }
    // The administrator's kubeconfig holds the certificate that is there.
    let keys = bench.keys().await;
    let decode = |value: &Value| {
        let bytes: k8s_openapi::ByteString = serde_json::from_value(value.clone()).unwrap();
        bytes.0
    };
    let kubeconfig = decode(&keys[&format!("{NAME}-kubeconfig")]["value"]);
    let kubeconfig: Value = serde_json::from_slice(&kubeconfig).unwrap();
    let certificate = &kubeconfig["users"][0]["user"]["client-certificate-data"];
    assert_eq!(certificate, &keys[&format!("{NAME}-admin-tls")]["tls.crt"]);
}

#[tokio::test(start_paused = true)]
async fn a_spoilt_root_is_told_of_with_the_way_out_and_nothing_is_touched() {
    let (bench, _manager) = ready().await;
    let before = workloads(&bench).await;
    for (purpose, key) in [
        ("ca", "tls.crt"),
        ("etcd", "tls.key"),
        ("proxy", "tls.crt"),
        ("sa", "tls.key"),
    ] {
        let name = format!("{NAME}-{purpose}");
        let had = bench.keys().await;
        patch_secret(&bench, &name, json!({key: "Z2FyYmFnZQ=="})).await;
        bench
            .until("the root is named", |object| {
                object.is_some_and(|object| {
                    let said = condition(object, "CertificatesAvailable").unwrap();
                    said.reason == "CertificateInvalid"
                        && said.message.contains(&name)
                        && said.message.contains("restore the Secret from a backup")
                        && holds(object, "Available")
                })
            })
            .await;
        let notes = told(&bench, "CertificateInvalid").await;
        assert!(notes.iter().any(|note| note.contains(&name)), "{name}: {notes:?}");
        patch_secret(&bench, &name, had[&name].clone()).await;
        bench.until_ready().await;
        assert_eq!(bench.keys().await, had, "nothing was signed by what is no root");
    }
    assert_eq!(workloads(&bench).await, before);
    bench
        .api::<Secret>()
        .delete(&format!("{NAME}-ca"), &DeleteParams::default())
        .await
        .unwrap();
    bench
        .until("the loss is told", |object| {
            object.is_some_and(|object| {
                let said = condition(object, "CertificatesAvailable").unwrap();
                said.reason == "CertificateAuthorityMissing" && said.message.contains("from a backup")
            })
        })
        .await;
    let notes = told(&bench, "CertificateAuthorityMissing").await;
    assert!(
        notes.iter().any(|note| note.contains("from a backup")),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_no_manager_ran_is_renewed_at_once() {
    let (mut bench, manager) = ready().await;
    let (before, keys) = (workloads(&bench).await, bench.keys().await);
    manager.cancel();
    tokio::time::sleep(bench.pause * 10).await;
    bench.clock = Clock::at(now() + SignedDuration::from_hours(24 * 400));
    bench.start();
    for name in leaves() {
        until_other(&bench, &name, &keys[&name]).await;
    }
    bench.until_ready().await;
    quiet(&bench).await;
    assert_eq!(workloads(&bench).await, before);
    let renewed = bench.keys().await;
    for purpose in ["ca", "etcd", "proxy", "sa"] {
        let name = format!("{NAME}-{purpose}");
        assert_eq!(renewed[&name], keys[&name]);
    }
    assert_ne!(
        renewed[&format!("{NAME}-kubeconfig")],
        keys[&format!("{NAME}-kubeconfig")]
    );
    let notes = told(&bench, "CertificateRenewed").await;
    assert_eq!(notes.len(), leaves().len(), "{notes:?}");
    assert!(
        notes.iter().all(|note| note.contains("its life was over")),
        "{notes:?}"
    );
}

/// A life short enough that an hour is a part of it.
const LIFE: Duration = Duration::from_hours(4);

/// A manager whose clock is so far ahead, and that makes certificates for so long.
fn manager(bench: &mut Bench, ahead: SignedDuration, leaf_life: Duration) -> CancellationToken {
    let (client, shutdown) = (bench.client.clone(), CancellationToken::new());
    let clock = Clock::at(bench.clock.now() + ahead);
    let token = shutdown.clone();
    bench.spawn(async move {
        run_with(client, clock, None, token, |client, environment| {
            let options = Options {
                leaf_life,
                ..Options::simulated(common::IMAGE, client.kube().clone())
            };
            clusterwright_hosted::controller(client, options).build(environment)
        })
        .await;
    });
    shutdown
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_an_hour_off_makes_certificates_that_hold_and_no_storm() {
    let hour = SignedDuration::from_hours(1);
    for first in [hour, -hour] {
        let mut bench = bench().await;
        let wrong = manager(&mut bench, first, LIFE);
        bench.create(&json!({})).await;
        bench.until_ready().await;
        quiet(&bench).await;
        wrong.cancel();
        tokio::time::sleep(bench.pause * 10).await;
        let (keys, workloads_before) = (bench.keys().await, workloads(&bench).await);
        // For programs whose own clocks are right, and for those an hour behind.
        let right = bench.clock.now().as_second();
        let third = i64::try_from(LIFE.as_secs() / 3).unwrap();
        for (name, facts) in facts(&bench).await {
            assert!(facts.not_before <= right - 3600, "{name}: {facts:?}");
            assert!(facts.not_after > right + third, "{name}: {facts:?}");
        }
        // The clock is put right, and goes wrong the other way: what is there is good.
        for next in [SignedDuration::ZERO, -first] {
            let next = manager(&mut bench, next, LIFE);
            quiet(&bench).await;
            next.cancel();
            tokio::time::sleep(bench.pause * 10).await;
        }
        assert_eq!(bench.keys().await, keys);
        assert_eq!(workloads(&bench).await, workloads_before);
        assert!(told(&bench, "CertificateRenewed").await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_are_renewed_in_their_last_third_and_no_pod_is_touched() {
    let mut bench = bench().await;
    manager(&mut bench, SignedDuration::ZERO, SHORTEST_LEAF_VALIDITY);
    bench.create(&json!({})).await;
    bench.until_ready().await;
    quiet(&bench).await;
    let before = workloads(&bench).await;
    let made = facts(&bench).await;
    // Two lives: no leaf is ever over.
    for _ in 0..8 {
        tokio::time::sleep(SHORTEST_LEAF_VALIDITY / 4).await;
        let right = bench.clock.now().as_second();
        for (name, facts) in facts(&bench).await {
            assert!(facts.not_after > right, "{name}: {facts:?}");
        }
    }
    for (name, facts) in facts(&bench).await {
        assert!(facts.not_after > made[&name].not_after, "{name}");
    }
    assert_eq!(workloads(&bench).await, before);
    let notes = told(&bench, "CertificateRenewed").await;
    assert!(
        notes
            .iter()
            .all(|note| note.contains("a third of its life was left")),
        "{notes:?}"
    );
}
