//! Managers that compete for one Lease on an API server that fails them, on one paused clock.
//!
//! What must hold whatever happens: no write of a former leader is sent after its renew deadline, and so none after
//! the next leader began.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

use std::sync::Arc;
use std::time::Duration;

use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_clock::Clock;
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client;
use clusterwright_runtime::controller::{Controller, Environment};
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::fence::is_fenced;
use clusterwright_runtime::leader::LeaderElection;
use clusterwright_runtime::manager::{Manager, ManagerError, Options};
use clusterwright_runtime::reconcile::{Context, Outcome, ReconcileError, Reconciler, Request};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const LEASES: &str = "leases.coordination.k8s.io";

/// What a reconciler saw of its own writes.
#[derive(Default)]
struct Writes {
    /// When each write that succeeded was sent.
    sent: Vec<Instant>,
    /// When the first one was refused or cut.
    fenced: Option<Instant>,
}

/// Writes its name into the object every half second, for as long as it may: a reconcile that never ends by itself.
struct Stubborn {
    api: Api<ConfigMap>,
    name: &'static str,
    writes: Arc<Mutex<Writes>>,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to write")]
struct Failed(#[source] kube::Error);

impl ReconcileError for Failed {
    fn reason(&self) -> &'static str {
        "WriteFailed"
    }
}

impl Reconciler for Stubborn {
    type Object = ConfigMap;
    type Error = Failed;

    async fn reconcile(&self, _: &Context, request: Request<ConfigMap>) -> Result<Outcome, Failed> {
        for count in 0.. {
            let sent = Instant::now();
            let data = json!({"data": {"writer": self.name, "count": count.to_string()}});
            match self
                .api
                .patch(request.name(), &PatchParams::default(), &Patch::Merge(data))
                .await
            {
                Ok(_) => self.writes.lock().sent.push(sent),
                Err(error) => {
                    if is_fenced(&error) {
                        self.writes.lock().fenced.get_or_insert_with(Instant::now);
                    }
                    return Err(Failed(error));
                }
            }
            sleep(SECOND / 2).await;
        }
        Ok(Outcome::Done)
    }
}

struct Replica {
    writes: Arc<Mutex<Writes>>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
}

impl Replica {
    fn start(server: &ApiServer, name: &'static str) -> Self {
        let election = LeaderElection {
            identity: name.to_owned(),
            ..LeaderElection::new("operator", "default")
        };
        let options = Options {
            leader_election: Some(election),
            clock: server.clock(),
            ..Options::default()
        };
        let mut manager = Manager::new(server.client_as(name, ["system:masters"]), options).unwrap();
        let cache = Cache::new(manager.client(), CacheOptions::default());
        let (recorder, events) = Recorder::new(manager.client(), "operator", name, manager.clock());
        let environment = Environment {
            client: client::Client::new(manager.client(), cache.clone(), "operator"),
            clock: manager.clock(),
            metrics: manager.metrics().clone(),
            recorder,
        };
        let writes = Arc::<Mutex<Writes>>::default();
        let reconciler = Stubborn {
            api: Api::default_namespaced(manager.client()),
            name,
            writes: writes.clone(),
        };
        let controller = Controller::builder("stubborn", reconciler).timeout(Duration::from_hours(1));
        let controller = controller.build(&environment);
        manager.add(cache.runnable()).unwrap();
        manager.add(events).unwrap();
        manager.add(controller).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(manager.run(shutdown.clone()));
        Self {
            writes,
            shutdown,
            task,
        }
    }

    fn has_written(&self) -> bool {
        !self.writes.lock().sent.is_empty()
    }

    fn last_sent(&self) -> Instant {
        *self.writes.lock().sent.last().expect("a write")
    }

    fn first_sent(&self) -> Instant {
        *self.writes.lock().sent.first().expect("a write")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server() -> ApiServer {
    let clock = Clock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::builder().clock(clock).build();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let object = serde_json::from_value(json!({"metadata": {"name": "prize"}})).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    server
}

async fn writer(server: &ApiServer) -> String {
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let data = api.get("prize").await.unwrap().data.unwrap_or_default();
    data.get("writer").cloned().unwrap_or_default()
}

async fn lease(server: &ApiServer) -> Lease {
    let api: Api<Lease> = Api::default_namespaced(server.client());
    api.get("operator").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn leadership_lost_in_mid_reconcile() {
    let server = server().await;
    let mut first = Replica::start(&server, "a");
    sleep(SECOND).await;
    let second = Replica::start(&server, "b");
    sleep(20 * SECOND).await;
    assert!(first.has_written() && !second.has_written());

    // The Lease alone is out of reach: writes of the reconcile would get through. Renewals are sent every 2 s from
    // the start, so the last one went out at 20 s.
    let partition = Instant::now();
    let last_renewal = partition - SECOND;
    server.faults().add(
        Rule::on("*", LEASES, Fault::Latency(Duration::from_hours(1)))
            .user("a")
            .always(),
    );

    let error = (&mut first.task).await.unwrap().unwrap_err();
    let lost = Instant::now();
    assert!(matches!(error, ManagerError::LeadershipLost(_)), "{error:?}");
    assert!(
        lost <= last_renewal + 10 * SECOND + SECOND / 100,
        "{:?}",
        lost - last_renewal
    );
    let last_of_first = first.writes.lock().sent.last().copied().unwrap();
    assert!(last_of_first <= last_renewal + 10 * SECOND);
    // It wrote up to then, so that this proves something.
    assert!(last_of_first >= last_renewal + 9 * SECOND);

    while !second.has_written() {
        sleep(SECOND / 10).await;
        assert_eq!(first.last_sent(), last_of_first);
    }
    // At most 4.4 s from the renewal to the look that sees it, and as much from its end to the look that sees that.
    let first_of_second = second.first_sent();
    assert!(
        first_of_second >= last_renewal + 15 * SECOND,
        "{:?}",
        first_of_second - last_renewal
    );
    assert!(
        first_of_second <= last_renewal + 24 * SECOND,
        "{:?}",
        first_of_second - last_renewal
    );
    sleep(60 * SECOND).await;
    assert_eq!(writer(&server).await, "b");
    assert_eq!(lease(&server).await.spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_cut() {
    let server = server().await;
    let first = Replica::start(&server, "a");
    sleep(SECOND).await;
    server.faults().add(
        Rule::on("patch", "configmaps", Fault::Latency(Duration::from_mins(1)))
            .user("a")
            .always(),
    );
    server
        .faults()
        .add(Rule::on("*", LEASES, Fault::Cut).user("a").always());
    let second = Replica::start(&server, "b");
    sleep(SECOND * 95 / 10).await;
    let before = writer(&server).await;
    assert_eq!(before, "a");
    let sent = first.writes.lock().sent.len();
    // The call in flight would be acted on after the other has begun.
    sleep(120 * SECOND).await;
    assert_eq!(first.writes.lock().sent.len(), sent);
    assert!(first.task.is_finished());
    assert!(second.has_written());
    assert_eq!(writer(&server).await, "b");
}

#[tokio::test(start_paused = true)]
async fn handing_over_takes_no_lease_duration() {
    let server = server().await;
    let mut first = Replica::start(&server, "a");
    sleep(SECOND).await;
    let mut second = Replica::start(&server, "b");
    sleep(10 * SECOND).await;
    first.shutdown.cancel();
    // The reconcile in progress does not end: it is dropped at the deadline, and then the Lease runs out.
    let error = (&mut first.task).await.unwrap().unwrap_err();
    assert!(matches!(error, ManagerError::ShutdownTimeout { .. }), "{error:?}");
    let ended = Instant::now();
    while !second.has_written() {
        sleep(SECOND / 10).await;
    }
    let handed_over = ended.elapsed();
    assert!(
        (12 * SECOND..25 * SECOND).contains(&handed_over),
        "{handed_over:?}"
    );

    // One that stops in time gives the Lease back.
    let third = Replica::start(&server, "c");
    sleep(10 * SECOND).await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    server.faults().add(
        Rule::on("patch", "configmaps", Fault::Internal)
            .user("b")
            .always(),
    );
    sleep(SECOND).await;
    second.shutdown.cancel();
    (&mut second.task).await.unwrap().unwrap();
    let ended = Instant::now();
    while !third.has_written() {
        sleep(SECOND / 10).await;
    }
    assert!(ended.elapsed() <= 5 * SECOND, "{:?}", ended.elapsed());
    drop(api);
}

/// Each kind of fault, at each call that leading takes: never two leaders, and one in the end.
#[tokio::test(start_paused = true)]
async fn one_leader_under_any_fault() {
    for fault in [
        Fault::Latency(3 * SECOND),
        Fault::Latency(30 * SECOND),
        Fault::Conflict,
        Fault::TooManyRequests(1),
        Fault::Internal,
        Fault::Unavailable,
        Fault::Cut,
    ] {
        for (nth, applied) in (1..=5).flat_map(|nth| [(nth, false), (nth, true)]) {
            let server = server().await;
            let rule = Rule::on("*", LEASES, fault).nth(nth);
            server
                .faults()
                .add(if applied { rule.after_it_is_applied() } else { rule });
            let replicas = ["a", "b", "c"].map(|name| Replica::start(&server, name));
            sleep(60 * SECOND).await;
            let mut spans: Vec<_> = replicas
                .iter()
                .filter(|replica| replica.has_written())
                .map(|replica| (replica.first_sent(), replica.last_sent()))
                .collect();
            spans.sort_unstable();
            let apart = spans.windows(2).all(|pair| pair[0].1 < pair[1].0);
            let leads = spans.last().is_some_and(|(_, last)| last.elapsed() <= SECOND);
            assert!(
                apart && leads,
                "{fault:?} at call {nth}, applied: {applied}: {spans:?}"
            );
        }
    }
}
