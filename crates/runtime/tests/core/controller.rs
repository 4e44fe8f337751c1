//! Controllers: what wakes them, and how their calls are run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::controller::{Controller, Owner};
use clusterwright_runtime::predicate::{Predicate, on};
use clusterwright_runtime::queue::Backoff;
use clusterwright_runtime::rbac::Verb;
use clusterwright_runtime::reconcile::Outcome;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::harness::{Func, Log, TestError, World, config_map, eventually, key, mirror};

/// Logs every call with whether the object is there.
fn observer(log: &Log) -> Func {
    let log = log.clone();
    Func::new(move |cx, key| {
        let log = log.clone();
        async move {
            let there = cx.client().get::<ConfigMap>(&key)?.is_some();
            log.add(format!("{} {}", key.name(), if there { "there" } else { "gone" }));
            Ok(Outcome::Done)
        }
    })
}

/// Ends every call in the same way.
fn ending(log: &Log, result: impl Fn() -> Result<Outcome, TestError> + Send + Sync + 'static) -> Func {
    let log = log.clone();
    Func::new(move |_, key| {
        if key.name() == "a" {
            log.add("call");
            return std::future::ready(result());
        }
        std::future::ready(Ok(Outcome::Done))
    })
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_deleted_or_changed_is_put_right() {
    let mut world = World::new();
    let controller = Controller::builder("mirror", mirror()).owns::<Secret>(Owner::ControllerOnly);
    let controller = controller.build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    world.set("a", "k", "one").await;
    let secrets = world.other::<Secret>();
    let right = async || {
        let secret = secrets.get_opt("a").await.unwrap();
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        data.get("k").is_some_and(|value| value.0 == b"one")
    };
    eventually("made", right).await;
    world.delete::<Secret>("a").await;
    eventually("made again", right).await;
    let patch = Patch::Merge(json!({ "data": { "k": "dHdv" } }));
    secrets.patch("a", &PatchParams::default(), &patch).await.unwrap();
    eventually("set right", right).await;
}

#[tokio::test(start_paused = true)]
async fn the_reconciler_hears_of_objects_that_are_gone() {
    let mut world = World::new();
    let log = Log::new();
    let controller = Controller::builder("observer", observer(&log)).build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    log.until("a there", 1).await;
    world.delete::<ConfigMap>("a").await;
    log.until("a gone", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_is_added_first_and_removed_after_the_clean_up() {
    let mut world = World::new();
    let log = Log::new();
    let (seen, cleaned) = (log.clone(), log.clone());
    let tries = AtomicUsize::new(0);
    let reconciler = Func::new(move |cx, key| {
        let log = seen.clone();
        async move {
            let object = cx.client().get::<ConfigMap>(&key)?;
            let object = object.filter(|object| object.name_any() == "a");
            if let Some(object) = object {
                log.add(format!("reconcile {:?}", object.finalizers()));
            }
            Ok(Outcome::Done)
        }
    })
    .finalize(move |_, _| {
        cleaned.add("finalize");
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        let again = Outcome::RequeueAfter(Duration::from_secs(30));
        std::future::ready(Ok(if first { again } else { Outcome::Done }))
    });
    let controller = Controller::builder("finalizer", reconciler)
        .finalizer("example.com/test")
        .build(&world.environment);
    assert!(controller.grants().allows("", "configmaps", Verb::Patch));
    world.start([controller]).await;
    world.create("a").await;
    log.until(r#"reconcile ["example.com/test"]"#, 1).await;
    world.delete::<ConfigMap>("a").await;
    log.until("finalize", 1).await;
    assert!(world.other::<ConfigMap>().get_opt("a").await.unwrap().is_some());
    let start = tokio::time::Instant::now();
    log.until("finalize", 2).await;
    assert!(start.elapsed() >= Duration::from_secs(29));
    let configs = world.other::<ConfigMap>();
    eventually("gone", async || configs.get_opt("a").await.unwrap().is_none()).await;
    assert!(
        log.lines().iter().all(|line| line != "reconcile []"),
        "{:?}",
        log.lines()
    );
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_leaves_those_of_others_alone() {
    let mut world = World::new();
    let log = Log::new();
    let mut object = config_map("a");
    object.metadata.finalizers = Some(vec!["example.com/other".into()]);
    world
        .other()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let controller = Controller::builder("finalizer", observer(&log))
        .finalizer("example.com/test")
        .build(&world.environment);
    world.start([controller]).await;
    log.until("a there", 1).await;
    world.delete::<ConfigMap>("a").await;
    let configs = world.other::<ConfigMap>();
    let left = async || {
        let object = configs.get("a").await.unwrap();
        object.finalizers() == ["example.com/other"]
    };
    eventually("only the other's is left", left).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(left().await);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_success_forgets_them() {
    let mut world = World::new();
    let log = Log::new();
    let controller = Controller::builder("failing", ending(&log, || Err(TestError::Retry)))
        .backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(10)).without_jitter())
        .build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    log.until("call", 6).await;
    let times = log.times();
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert_eq!(waits, [1, 2, 4, 8, 10], "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn terminal_errors_wait_for_a_change() {
    let mut world = World::new();
    let log = Log::new();
    let controller =
        Controller::builder("terminal", ending(&log, || Err(TestError::Terminal))).build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(log.count("call"), 1);
    world.set("a", "k", "v").await;
    log.until("call", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_requeue_comes_when_it_was_asked_for() {
    let mut world = World::new();
    let log = Log::new();
    let after = Duration::from_secs(90);
    let controller = Controller::builder("again", ending(&log, move || Ok(Outcome::RequeueAfter(after))))
        .build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    log.until("call", 3).await;
    let times = log.times();
    assert!(
        times
            .windows(2)
            .all(|pair| (90_000..90_010).contains(&(pair[1] - pair[0]))),
        "{times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn panics_and_timeouts_are_survived_and_counted() {
    let mut world = World::new();
    let log = Log::new();
    let calls = log.clone();
    let reconciler = Func::new(move |_, key| {
        calls.add(key.name());
        async move {
            match key.name() {
                "panics" => panic!("on purpose"),
                "hangs" => std::future::pending().await,
                _ => Ok(Outcome::Done),
            }
        }
    });
    let controller = Controller::builder("unruly", reconciler)
        .timeout(Duration::from_secs(5))
        .build(&world.environment);
    world.start([controller]).await;
    world.create("panics").await;
    world.create("hangs").await;
    log.until("panics", 3).await;
    log.until("hangs", 3).await;
    world.create("good").await;
    log.until("good", 1).await;
    let metrics = world.environment.metrics.encode().unwrap();
    for family in ["panics", "timeouts"] {
        let zero = format!("controller_runtime_reconcile_{family}_total{{controller=\"unruly\"}} 0");
        assert!(!metrics.contains(&zero), "{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_at_once_and_one_per_object() {
    let mut world = World::new();
    let busy = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let log = Log::new();
    let (counted, peak, calls) = (busy.clone(), most.clone(), log.clone());
    let reconciler = Func::new(move |_, key| {
        let (busy, most, log) = (counted.clone(), peak.clone(), calls.clone());
        async move {
            log.add(format!("{} starts", key.name()));
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(10)).await;
            busy.fetch_sub(1, Ordering::SeqCst);
            log.add(format!("{} ends", key.name()));
            Ok(Outcome::Done)
        }
    });
    let controller = Controller::builder("slow", reconciler)
        .concurrency(3)
        .build(&world.environment);
    world.start([controller]).await;
    for number in 0..10 {
        world.create(&format!("c{number}")).await;
    }
    log.until("c0 starts", 1).await;
    world.set("c0", "k", "v").await;
    log.until("c9 ends", 1).await;
    log.until("c0 ends", 2).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let c0: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("c0"))
        .collect();
    assert_eq!(c0, ["c0 starts", "c0 ends", "c0 starts", "c0 ends"]);
}

#[tokio::test(start_paused = true)]
async fn what_changes_overtakes_what_was_there_at_the_start() {
    let mut world = World::new();
    for number in 0..20 {
        world.create(&format!("old{number}")).await;
    }
    let log = Log::new();
    let calls = log.clone();
    let reconciler = Func::new(move |_, key| {
        calls.add(key.name());
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Outcome::Done)
        }
    });
    let controller = Controller::builder("busy", reconciler)
        .concurrency(1)
        .build(&world.environment);
    world.start([controller]).await;
    world.create("new").await;
    world.delete::<ConfigMap>("old19").await;
    log.until("new", 1).await;
    let lines = log.lines();
    let place = |name: &str| lines.iter().position(|line| line == name).unwrap();
    assert!(place("new") < 5 && place("old19") < place("new"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn two_controllers_share_one_watch_per_kind() {
    let mut world = World::new();
    let (one, two) = (Log::new(), Log::new());
    let controllers = [("one", &one), ("two", &two)].map(|(name, log)| {
        Controller::builder(name, observer(log))
            .owns::<Secret>(Owner::Any)
            .build(&world.environment)
    });
    world.start(controllers).await;
    world.create("a").await;
    for log in [&one, &two] {
        log.until("a there", 1).await;
    }
    world.delete::<ConfigMap>("a").await;
    for log in [&one, &two] {
        log.until("a gone", 1).await;
    }
    assert_eq!(
        (
            world.calls("watch", "configmaps"),
            world.calls("list", "configmaps")
        ),
        (1, 0)
    );
    assert_eq!(
        (world.calls("watch", "secrets"), world.calls("list", "secrets")),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn predicates_keep_changes_away_and_maps_lead_elsewhere() {
    let mut world = World::new();
    let log = Log::new();
    world.cache.informer::<ConfigMap>().index("secret", |object| {
        object
            .data
            .iter()
            .flatten()
            .map(|(_, secret)| secret.clone())
            .collect()
    });
    let controller = Controller::builder("mapped", observer(&log))
        .predicate(
            on::labels().and(|change: &clusterwright_runtime::cache::Change<'_, ConfigMap>| {
                change.view().key().name() != "ignored"
            }),
        )
        .watches(|secret: &Secret, client: &Client| {
            client
                .list_keys_by::<ConfigMap>("secret", &secret.name_any())
                .unwrap()
        })
        .build(&world.environment);
    world.start([controller]).await;
    world.create("ignored").await;
    world.create("a").await;
    log.until("a there", 1).await;
    world.set("a", "ref", "s").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(log.lines(), ["a there"], "data is no label");
    let mut secret = Secret::default();
    secret.metadata.name = Some("s".into());
    world
        .other()
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    log.until("a there", 2).await;
    world.delete::<Secret>("s").await;
    log.until("a there", 3).await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_wish_to_wait_is_honoured() {
    let mut world = World::new();
    let controller = Controller::builder("mirror", mirror()).build(&world.environment);
    world.cache.informer::<Secret>();
    world
        .server
        .faults()
        .add(Rule::on("patch", "secrets", Fault::TooManyRequests(45)).times(1));
    world.start([controller]).await;
    world.create("a").await;
    let start = tokio::time::Instant::now();
    let cached = || async { world.client.get::<Secret>(&key("a")).unwrap().is_some() };
    eventually("mirrored", cached).await;
    assert!(
        (45..46).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(world.calls("patch", "secrets"), 2);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_calls_in_flight_and_starts_no_more() {
    let mut world = World::new();
    let log = Log::new();
    let calls = log.clone();
    let reconciler = Func::new(move |_, key| {
        let log = calls.clone();
        async move {
            log.add(format!("{} starts", key.name()));
            tokio::time::sleep(Duration::from_secs(10)).await;
            log.add(format!("{} ends", key.name()));
            Ok(Outcome::Done)
        }
    });
    let controller = Controller::builder("slow", reconciler)
        .concurrency(1)
        .build(&world.environment);
    world.start([controller]).await;
    world.create("a").await;
    world.create("b").await;
    log.until("a starts", 1).await;
    world.shutdown.cancel();
    while world.tasks.join_next().await.is_some() {}
    assert_eq!(log.lines(), ["a starts", "a ends"]);
}
