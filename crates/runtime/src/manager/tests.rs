//! Order of start and stop, deadlines, failures, and what a manager without the lease may do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_clock::Clock;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fence::is_fenced;
use crate::leader::lease_server::{LeaseServer, Link};

const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down when it starts and ends.
struct Probe {
    name: &'static str,
    group: Group,
    warm_up: Duration,
    wind_down: Duration,
    end: End,
    log: Log,
}

#[derive(Clone, Copy)]
enum End {
    Shutdown,
    Done,
    Error,
    Panic,
    Never,
}

impl Probe {
    fn new(name: &'static str, group: Group, log: &Log) -> Self {
        Self {
            name,
            group,
            warm_up: Duration::ZERO,
            wind_down: Duration::ZERO,
            end: End::Shutdown,
            log: log.clone(),
        }
    }
}

impl Runnable for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn group(&self) -> Group {
        self.group
    }

    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(async move {
            self.log.lock().push(format!("+{}", self.name));
            sleep(self.warm_up).await;
            cx.ready.set();
            match self.end {
                End::Shutdown => cx.shutdown.cancelled().await,
                End::Done => return Ok(()),
                End::Error => return Err("the disk is full".into()),
                End::Panic => panic!("index out of bounds"),
                End::Never => std::future::pending().await,
            }
            sleep(self.wind_down).await;
            self.log.lock().push(format!("-{}", self.name));
            Ok(())
        })
    }
}

fn client() -> Client {
    LeaseServer::default().client().0
}

fn manager(client: Client) -> Manager {
    Manager::new(client, options()).unwrap()
}

fn options() -> Options {
    Options {
        clock: Clock::at("2026-01-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    }
}

fn elected(identity: &str) -> Options {
    let election = LeaderElection {
        identity: identity.to_owned(),
        ..LeaderElection::new("operator", "default")
    };
    Options {
        leader_election: Some(election),
        ..options()
    }
}

/// A running manager.
struct Run {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
}

impl Run {
    fn start(manager: Manager) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(manager.run(shutdown.clone()));
        Self { shutdown, task }
    }

    async fn stop(self) -> Result<(), ManagerError> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

fn entries(log: &Log) -> Vec<String> {
    log.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn starts_in_order_and_stops_in_reverse() {
    let log = Log::default();
    let mut manager = manager(client());
    let health = manager.health().clone();
    // Added in another order than they start in.
    for (name, group) in [
        ("controller", Group::Leader),
        ("warm-up", Group::Warmup),
        ("informer", Group::Caches),
        ("janitor", Group::Always),
        ("http", Group::Servers),
    ] {
        let probe = Probe::new(name, group, &log);
        manager
            .add(Probe {
                warm_up: SECOND,
                wind_down: SECOND,
                ..probe
            })
            .unwrap();
    }
    let run = Run::start(manager);
    sleep(SECOND / 2).await;
    assert_eq!(entries(&log), ["+http"]);
    assert!(!health.is_ready());
    sleep(SECOND).await;
    assert_eq!(entries(&log), ["+http", "+informer"]);
    sleep(4 * SECOND).await;
    assert_eq!(
        entries(&log),
        ["+http", "+informer", "+janitor", "+warm-up", "+controller"]
    );
    assert!(health.is_ready());
    log.lock().clear();
    let start = Instant::now();
    run.stop().await.unwrap();
    assert_eq!(
        entries(&log),
        ["-controller", "-warm-up", "-janitor", "-informer", "-http"]
    );
    assert_eq!(start.elapsed(), 5 * SECOND);
    assert!(!health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn shutdown_has_one_deadline_for_all() {
    let log = Log::default();
    let mut manager = manager(client());
    let endless = Probe {
        end: End::Never,
        ..Probe::new("endless", Group::Leader, &log)
    };
    manager.add(endless).unwrap();
    let slow = Probe {
        wind_down: 40 * SECOND,
        ..Probe::new("slow", Group::Caches, &log)
    };
    manager.add(slow).unwrap();
    let run = Run::start(manager);
    sleep(SECOND).await;
    let start = Instant::now();
    let error = run.stop().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to stop within 30s: endless did not end"
    );
    assert_eq!(start.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_all() {
    for (end, message) in [
        (End::Error, "failed to run broken: the disk is full"),
        (
            End::Panic,
            "failed to run broken: it panicked: index out of bounds",
        ),
    ] {
        let log = Log::default();
        let mut manager = manager(client());
        manager.add(Probe::new("http", Group::Servers, &log)).unwrap();
        manager
            .add(Probe {
                end,
                warm_up: SECOND,
                ..Probe::new("broken", Group::Caches, &log)
            })
            .unwrap();
        manager
            .add(Probe::new("controller", Group::Leader, &log))
            .unwrap();
        let error = Run::start(manager).task.await.unwrap().unwrap_err();
        assert_eq!(Chain(&error).to_string(), message);
        assert_eq!(entries(&log).last().map(String::as_str), Some("-http"));
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_is_no_failure() {
    let log = Log::default();
    let mut manager = manager(client());
    manager
        .add(Probe {
            end: End::Done,
            ..Probe::new("migration", Group::Warmup, &log)
        })
        .unwrap();
    manager
        .add(Probe::new("controller", Group::Leader, &log))
        .unwrap();
    let run = Run::start(manager);
    sleep(60 * SECOND).await;
    assert_eq!(entries(&log), ["+migration", "+controller"]);
    run.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_who_is_not_ready() {
    let log = Log::default();
    let mut manager = manager(client());
    for (name, warm_up) in [("pods", 3600), ("secrets", 1), ("nodes", 3600)] {
        let probe = Probe::new(name, Group::Caches, &log);
        manager
            .add(Probe {
                warm_up: warm_up * SECOND,
                ..probe
            })
            .unwrap();
    }
    let error = Run::start(manager).task.await.unwrap().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to start within 120s: nodes, pods not ready"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn can_be_stopped_while_it_starts() {
    let log = Log::default();
    let mut manager = manager(client());
    manager
        .add(Probe {
            warm_up: 3600 * SECOND,
            ..Probe::new("pods", Group::Caches, &log)
        })
        .unwrap();
    let run = Run::start(manager);
    sleep(SECOND).await;
    assert!(run.stop().await.is_err());
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    self::manager(client()).run(shutdown).await.unwrap();
}

#[tokio::test]
async fn names_are_unique() {
    let log = Log::default();
    let mut manager = manager(client());
    manager.add(Probe::new("pods", Group::Caches, &log)).unwrap();
    let error = manager.add(Probe::new("pods", Group::Leader, &log)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to add pods: there is a runnable of that name already"
    );
}

#[tokio::test]
async fn a_bad_election_is_refused() {
    let mut options = elected("a");
    options.leader_election.as_mut().unwrap().lease_duration = SECOND;
    let error = Manager::new(client(), options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("must be longer than the renew deadline"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn leads_before_controllers_start_and_releases_after_they_ended() {
    let server = LeaseServer::default();
    let (first_log, second_log) = (Log::default(), Log::default());
    let mut runs = Vec::new();
    for (identity, log) in [("a", &first_log), ("b", &second_log)] {
        let mut manager = Manager::new(server.client().0, elected(identity)).unwrap();
        manager.add(Probe::new("informer", Group::Caches, log)).unwrap();
        let probe = Probe::new("controller", Group::Leader, log);
        manager
            .add(Probe {
                wind_down: 20 * SECOND,
                ..probe
            })
            .unwrap();
        runs.push((manager.client(), Run::start(manager)));
        sleep(SECOND).await;
    }
    assert_eq!(entries(&first_log), ["+informer", "+controller"]);
    // The second is warm and waits.
    assert_eq!(entries(&second_log), ["+informer"]);
    let lease = Lease::default();
    let write = async |client: &Client| {
        let api: Api<Lease> = Api::default_namespaced(client.clone());
        api.create(&PostParams::default(), &lease).await
    };
    assert!(is_fenced(&write(&runs[1].0).await.unwrap_err()));
    assert!(!is_fenced(&write(&runs[0].0).await.unwrap_err()));

    // It renews until its controllers have ended, although that takes longer than the lease.
    let (_, first) = runs.remove(0);
    first.shutdown.cancel();
    sleep(19 * SECOND).await;
    assert_eq!(server.holder().as_deref(), Some("a"));
    first.task.await.unwrap().unwrap();
    assert_eq!(
        entries(&first_log),
        ["+informer", "+controller", "-controller", "-informer"]
    );
    sleep(SECOND * 45 / 10).await;
    assert_eq!(server.holder().as_deref(), Some("b"));
    assert_eq!(entries(&second_log), ["+informer", "+controller"]);
}

#[tokio::test(start_paused = true)]
async fn losing_the_lease_ends_it_at_once() {
    let server = LeaseServer::default();
    let log = Log::default();
    let (client, link) = server.client();
    let mut manager = Manager::new(client, elected("a")).unwrap();
    manager
        .add(Probe {
            wind_down: 20 * SECOND,
            ..Probe::new("controller", Group::Leader, &log)
        })
        .unwrap();
    let fence = manager.fence().clone();
    let run = Run::start(manager);
    sleep(SECOND).await;
    link.set(Link::Cut);
    let start = Instant::now();
    let error = run.task.await.unwrap().unwrap_err();
    assert_eq!(start.elapsed(), 9 * SECOND);
    assert_eq!(
        Chain(&error).to_string(),
        "failed to stay the leader: failed to renew the Lease operator within 10s"
    );
    assert!(!fence.allows_writes());
    assert_eq!(entries(&log), ["+controller"]);
    // The Lease is left to run out.
    assert_eq!(server.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn work_that_was_dropped_keeps_the_lease() {
    let server = LeaseServer::default();
    let log = Log::default();
    let mut manager = Manager::new(server.client().0, elected("a")).unwrap();
    manager
        .add(Probe {
            end: End::Never,
            ..Probe::new("controller", Group::Leader, &log)
        })
        .unwrap();
    let run = Run::start(manager);
    sleep(SECOND).await;
    assert!(matches!(
        run.stop().await,
        Err(ManagerError::ShutdownTimeout { .. })
    ));
    assert_eq!(server.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_stops_without_the_lease() {
    let server = LeaseServer::default();
    let leader = Run::start(Manager::new(server.client().0, elected("a")).unwrap());
    sleep(SECOND).await;
    let candidate = Run::start(Manager::new(server.client().0, elected("b")).unwrap());
    sleep(20 * SECOND).await;
    candidate.stop().await.unwrap();
    assert_eq!(server.holder().as_deref(), Some("a"));
    leader.stop().await.unwrap();
    assert_eq!(server.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_manager_is_gone() {
    let server = LeaseServer::default();
    let log = Log::default();
    let mut manager = Manager::new(server.client().0, elected("a")).unwrap();
    manager
        .add(Probe::new("controller", Group::Leader, &log))
        .unwrap();
    let run = Run::start(manager);
    sleep(SECOND).await;
    run.task.abort();
    sleep(SECOND).await;
    let writes = server.writes();
    sleep(60 * SECOND).await;
    assert_eq!(server.writes(), writes);
    assert_eq!(entries(&log), ["+controller"]);
}

#[tokio::test]
async fn serves_http_until_the_end() {
    let mut manager = manager(client());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind("metrics", any, manager.metrics().router())
        .await
        .unwrap();
    let address = server.address().unwrap();
    let error = HttpServer::bind("health", address, manager.health().router())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to listen on {address} for health")
    );
    manager.add(server).unwrap();
    let run = Run::start(manager);
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let client = Client::try_from(config).unwrap();
    let text = client
        .request_text(http::Request::get("/metrics").body(vec![]).unwrap())
        .await
        .unwrap();
    assert!(text.contains("process_start_time_seconds"), "{text}");
    run.stop().await.unwrap();
}
