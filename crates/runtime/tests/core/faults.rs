//! Whatever fails, and at whichever call: the end is the same.

use std::time::Duration;

use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_runtime::controller::{Controller, Owner};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::harness::{World, eventually, mirror};

/// Creates, changes and deletes a ConfigMap under a mirroring controller, and says how many writes that took.
async fn life_of_a_mirror(rule: Option<Rule>, what: &str) -> usize {
    let mut world = World::new();
    let controller = Controller::builder("mirror", mirror())
        .finalizer("example.com/mirror")
        .owns::<Secret>(Owner::ControllerOnly)
        .build(&world.environment);
    if let Some(rule) = rule {
        world.server.faults().add(rule.user("controller"));
    }
    world.start([controller]).await;
    let secrets = world.other::<Secret>();
    let value = async || {
        secrets
            .get_opt("a")
            .await
            .unwrap()?
            .data?
            .remove("k")
            .map(|value| value.0)
    };
    world.create("a").await;
    for state in ["one", "two"] {
        world.set("a", "k", state).await;
        eventually(what, async || {
            value().await.is_some_and(|value| value == state.as_bytes())
        })
        .await;
    }
    world.delete::<ConfigMap>("a").await;
    let configs = world.other::<ConfigMap>();
    let gone = async || {
        configs.get_opt("a").await.unwrap().is_none() && secrets.get_opt("a").await.unwrap().is_none()
    };
    eventually(what, gone).await;
    // And it stays so.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(gone().await, "{what}");
    world.calls("patch", "configmaps") + world.calls("patch", "secrets") + world.calls("delete", "secrets")
}

#[tokio::test(start_paused = true)]
async fn a_controller_converges_whatever_call_fails() {
    let writes = life_of_a_mirror(None, "without a fault").await;
    assert!((4..12).contains(&writes), "{writes} writes");
    let faults = [
        Fault::Conflict,
        Fault::TooManyRequests(2),
        Fault::Internal,
        Fault::Unavailable,
        Fault::Cut,
        Fault::Latency(Duration::from_secs(90)),
    ];
    for fault in faults {
        for n in 1..=u64::try_from(writes).unwrap() {
            for verb in ["patch", "delete"] {
                let rule = || Rule::on(verb, "*", fault).nth(n);
                life_of_a_mirror(Some(rule()), &format!("{fault:?} at {verb} {n}")).await;
                life_of_a_mirror(
                    Some(rule().after_it_is_applied()),
                    &format!("{fault:?} after {verb} {n}"),
                )
                .await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_converges_whatever_becomes_of_its_watches() {
    let second = Duration::from_secs(1);
    let faults = [
        Fault::DropWatch(second / 10),
        Fault::DropWatch(second * 7),
        Fault::StaleWatch(second * 5),
        Fault::Internal,
        Fault::TooManyRequests(2),
        Fault::Cut,
    ];
    for fault in faults {
        for resource in ["configmaps", "secrets"] {
            let rule = Rule::on("watch", resource, fault).times(5);
            life_of_a_mirror(Some(rule), &format!("{fault:?} on {resource}")).await;
        }
    }
}
