//! Elections among candidates on one paused clock, through links that fail.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clusterwright_clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::lease_server::{LeaseServer, Link, Switch};
use super::{Elector, LeaderElection, LeaderElectionArgs, LeaderElectionError, LeadershipLost};
use crate::fence::Fence;
use crate::metrics::Metrics;

const SECOND: Duration = Duration::from_secs(1);

/// A candidate that runs for leadership once, and what became of it.
struct Candidate {
    link: Switch,
    fence: Fence,
    metrics: Metrics,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<LeadershipLost>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Log {
    won: Option<Instant>,
    lost: Option<Instant>,
}

fn election(identity: &str) -> LeaderElection {
    LeaderElection {
        identity: identity.to_owned(),
        ..LeaderElection::new("operator", "default")
    }
}

fn elector(server: &LeaseServer, identity: &str) -> (Elector, Switch, Fence, Metrics) {
    let (client, link) = server.client();
    let (fence, metrics) = (Fence::closed(), Metrics::new());
    let clock = Clock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let elector = Elector::new(client, election(identity), clock, &metrics, fence.clone()).unwrap();
    (elector, link, fence, metrics)
}

impl Candidate {
    fn start(server: &LeaseServer, identity: &str) -> Self {
        let (mut elector, link, fence, metrics) = elector(server, identity);
        let log = Arc::<Mutex<Log>>::default();
        let task = tokio::spawn({
            let log = log.clone();
            async move {
                elector.acquire().await;
                log.lock().won = Some(Instant::now());
                let lost = elector.hold().await;
                log.lock().lost = Some(Instant::now());
                lost
            }
        });
        Self {
            link,
            fence,
            metrics,
            log,
            task,
        }
    }

    fn leads(&self) -> bool {
        let log = self.log.lock();
        log.won.is_some() && log.lost.is_none()
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|shown| shown == line)
    }
}

fn holder(server: &LeaseServer) -> String {
    server.holder().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_first_creates_the_lease_and_renews_it() {
    let server = LeaseServer::default();
    let candidate = Candidate::start(&server, "a");
    sleep(SECOND).await;
    assert!(candidate.leads() && candidate.fence.allows_writes());
    assert_eq!(
        server.spec().unwrap(),
        json!({
            "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z",
        })
    );
    assert!(candidate.shows(r#"leader_election_master_status{name="operator"} 1"#));
    sleep(60 * SECOND).await;
    assert!(candidate.leads());
    let spec = server.spec().unwrap();
    assert_eq!(spec["renewTime"], "2026-01-01T00:01:00.000000Z");
    assert_eq!(spec["acquireTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(server.writes(), 31);
    assert!(candidate.shows(r#"leader_election_slowpath_total{name="operator"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn the_others_wait() {
    let server = LeaseServer::default();
    let candidates = ["a", "b", "c"].map(|identity| Candidate::start(&server, identity));
    for _ in 0..300 {
        sleep(SECOND).await;
        assert_eq!(candidates.iter().filter(|candidate| candidate.leads()).count(), 1);
        assert_eq!(
            candidates
                .iter()
                .filter(|candidate| candidate.fence.allows_writes())
                .count(),
            1
        );
    }
    assert_eq!(server.spec().unwrap()["leaseTransitions"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaders_lease_is_taken_after_its_duration_and_not_before() {
    let server = LeaseServer::default();
    let first = Candidate::start(&server, "a");
    sleep(SECOND).await;
    let second = Candidate::start(&server, "b");
    sleep(60 * SECOND).await;
    first.task.abort();
    let died = Instant::now();
    while holder(&server) == "a" {
        sleep(SECOND / 10).await;
    }
    let waited = died.elapsed();
    // The last renewal is up to a retry period older than the death; it was seen up to 4.4 s later, and so is its end.
    assert!((13 * SECOND..24 * SECOND).contains(&waited), "{waited:?}");
    assert!(second.leads());
    assert_eq!(server.spec().unwrap()["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_lease_is_judged_by_observed_time_not_by_its_own() {
    let server = LeaseServer::default();
    let (mut elector, ..) = elector(&server, "a");
    elector.acquire().await;
    // A holder whose clock is years behind, or ahead, is alive as long as the record changes.
    for year in ["1999", "2099", "1999"] {
        server.edit(|lease| {
            lease["spec"]["holderIdentity"] = json!("z");
            lease["spec"]["renewTime"] = json!(format!("{year}-01-01T00:00:00.000000Z"));
        });
        let candidate = Candidate::start(&server, "b");
        sleep(14 * SECOND).await;
        assert!(!candidate.leads(), "{year}");
        candidate.task.abort();
    }
    let candidate = Candidate::start(&server, "b");
    // Metadata alone is no sign of life.
    sleep(10 * SECOND).await;
    server.edit(|lease| lease["metadata"]["labels"] = json!({"seen": "true"}));
    sleep(10 * SECOND).await;
    assert!(candidate.leads());
}

#[tokio::test(start_paused = true)]
async fn a_partitioned_leader_stops_before_another_starts() {
    let server = LeaseServer::default();
    let first = Candidate::start(&server, "a");
    sleep(SECOND).await;
    let (second, third) = (Candidate::start(&server, "b"), Candidate::start(&server, "c"));
    sleep(29 * SECOND).await;
    // The last renewal was sent at 30 s.
    sleep(SECOND / 2).await;
    first.link.set(Link::Cut);
    let mut takeover = None;
    for _ in 0..2500 {
        sleep(SECOND / 100).await;
        let others = [&second, &third].map(|candidate| candidate.fence.allows_writes());
        assert!(!(first.fence.allows_writes() && others.contains(&true)));
        assert!(others != [true, true]);
        if takeover.is_none() && others.contains(&true) {
            takeover = Some(Instant::now());
        }
    }
    let lost = first.log.lock().lost.unwrap();
    assert!(takeover.unwrap() >= lost + 5 * SECOND);
    assert_eq!(
        first.task.await.unwrap().to_string(),
        "failed to renew the Lease operator within 10s"
    );
    assert!(
        first
            .metrics
            .encode()
            .unwrap()
            .contains(r#"leader_election_master_status{name="operator"} 0"#)
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_only_hears_nothing_stops_in_time_too() {
    let server = LeaseServer::default();
    let first = Candidate::start(&server, "a");
    sleep(SECOND).await;
    let second = Candidate::start(&server, "b");
    sleep(29 * SECOND + SECOND / 2).await;
    // Its renewals still arrive, and so prolong the lease for the others, but it can't know.
    first.link.set(Link::Deaf);
    sleep(9 * SECOND).await;
    assert!(first.fence.allows_writes());
    sleep(SECOND).await;
    assert!(!first.fence.allows_writes() && !first.leads());
    sleep(SECOND).await;
    assert!(!second.leads());
    sleep(25 * SECOND).await;
    assert!(second.leads());
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let server = LeaseServer::default();
    let candidate = Candidate::start(&server, "a");
    for outage in [Link::Broken, Link::Cut, Link::Deaf] {
        sleep(10 * SECOND).await;
        candidate.link.set(outage);
        sleep(3 * SECOND).await;
        candidate.link.set(Link::Up);
        sleep(10 * SECOND).await;
        assert!(candidate.leads(), "{outage:?}");
    }
    // The lost answer made the next renewal read the Lease first.
    assert!(!candidate.shows(r#"leader_election_slowpath_total{name="operator"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_is_borne_up_to_the_deadline() {
    let server = LeaseServer::default();
    let candidate = Candidate::start(&server, "a");
    sleep(SECOND).await;
    candidate.link.set(Link::Slow(4 * SECOND));
    sleep(120 * SECOND).await;
    assert!(candidate.leads());
    candidate.link.set(Link::Slow(6 * SECOND));
    sleep(20 * SECOND).await;
    assert!(!candidate.leads());
}

/// The server may have applied a renewal right after it was sent: from then on, not from the answer, others wait.
#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_sending() {
    let server = LeaseServer::default();
    let (mut elector, link, fence, _) = elector(&server, "a");
    link.set(Link::Slow(2 * SECOND));
    let start = Instant::now();
    elector.acquire().await;
    link.set(Link::Cut);
    // The first try read for 2 s and then sent the creation.
    assert_eq!(start.elapsed(), 4 * SECOND);
    tokio::select! {
        _ = elector.hold() => {}
        () = fence.shut() => {}
    }
    assert_eq!(start.elapsed(), 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_another_is_noticed_at_the_next_renewal() {
    let server = LeaseServer::default();
    let candidate = Candidate::start(&server, "a");
    sleep(SECOND).await;
    server.edit(|lease| lease["spec"]["holderIdentity"] = json!("thief"));
    sleep(2 * SECOND).await;
    assert!(!candidate.fence.allows_writes());
    assert_eq!(
        candidate.task.await.unwrap().to_string(),
        "failed to keep the Lease operator: its holder is now \"thief\""
    );
    assert_eq!(holder(&server), "thief");
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_away_is_lost() {
    let server = LeaseServer::default();
    let candidate = Candidate::start(&server, "a");
    sleep(SECOND).await;
    server.edit(|lease| lease["spec"]["holderIdentity"] = Value::Null);
    sleep(2 * SECOND).await;
    assert!(!candidate.leads());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again() {
    let server = LeaseServer::default();
    let candidate = Candidate::start(&server, "a");
    sleep(SECOND).await;
    server.delete();
    sleep(2 * SECOND).await;
    assert!(candidate.leads());
    assert_eq!(holder(&server), "a");
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_the_next_look() {
    let server = LeaseServer::default();
    let (mut elector, _, fence, metrics) = elector(&server, "a");
    elector.acquire().await;
    let second = Candidate::start(&server, "b");
    sleep(SECOND).await;
    elector.release().await;
    assert!(!fence.allows_writes());
    assert!(
        metrics
            .encode()
            .unwrap()
            .contains(r#"leader_election_master_status{name="operator"} 0"#)
    );
    let spec = server.spec().unwrap();
    assert_eq!(
        (spec.get("holderIdentity"), &spec["leaseDurationSeconds"]),
        (None, &json!(1))
    );
    sleep(SECOND * 45 / 10).await;
    assert!(second.leads());
    assert_eq!(server.spec().unwrap()["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_never_takes_the_lease_from_another() {
    let server = LeaseServer::default();
    let (mut elector, ..) = elector(&server, "a");
    elector.acquire().await;
    server.edit(|lease| lease["spec"]["holderIdentity"] = json!("b"));
    elector.release().await;
    assert_eq!(holder(&server), "b");
}

/// A renewal that was cut off at shutdown may still have been applied.
#[tokio::test(start_paused = true)]
async fn a_release_gets_by_an_unheard_renewal() {
    let server = LeaseServer::default();
    let (mut elector, ..) = elector(&server, "a");
    elector.acquire().await;
    server.edit(|lease| lease["spec"]["renewTime"] = json!("2026-01-01T00:00:02.000000Z"));
    elector.release().await;
    assert_eq!(server.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_release_does_not_hang() {
    let server = LeaseServer::default();
    let (mut elector, link, ..) = elector(&server, "a");
    elector.acquire().await;
    link.set(Link::Cut);
    let start = Instant::now();
    elector.release().await;
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[test]
fn durations_must_keep_leaders_apart() {
    let default = election("a");
    assert_eq!(default.validate(), Ok(()));
    let seconds = Duration::from_secs;
    let cases = [
        (
            LeaderElection {
                lease_duration: seconds(10),
                ..default.clone()
            },
            "the lease duration 10s must be longer than the renew deadline 10s",
        ),
        (
            LeaderElection {
                renew_deadline: Duration::from_millis(2400),
                ..default.clone()
            },
            "the renew deadline 2.4s must be longer than 1.2 times the retry period, 2.4s",
        ),
        (
            LeaderElection {
                lease_duration: Duration::from_millis(15_500),
                ..default.clone()
            },
            "the lease duration 15.5s is not a number of seconds",
        ),
        (
            LeaderElection {
                retry_period: Duration::ZERO,
                ..default.clone()
            },
            "the retry period must be longer than 0 s",
        ),
        (
            LeaderElection {
                name: String::new(),
                ..default.clone()
            },
            "the Lease needs a name",
        ),
        (
            LeaderElection {
                identity: String::new(),
                ..default.clone()
            },
            "the candidate needs an identity",
        ),
    ];
    for (election, message) in cases {
        let error = election.validate().unwrap_err().to_string();
        assert_eq!(error, format!("failed to set up leader election: {message}"));
    }
}

#[test]
fn identities_differ() {
    assert_ne!(super::identity(), super::identity());
    assert!(super::identity().contains('_'));
}

#[test]
fn reads_flags() {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        election: LeaderElectionArgs,
    }
    let parse = |flags: &[&str]| Cli::try_parse_from([&["x"], flags].concat()).map(|cli| cli.election);

    let election = parse(&[])
        .unwrap()
        .election("operator", Some("system"))
        .unwrap()
        .unwrap();
    let expected = LeaderElection {
        identity: election.identity.clone(),
        ..LeaderElection::new("operator", "system")
    };
    assert_eq!(election, expected);
    for off in ["--leader-elect=false", "--leader-elect=0"] {
        assert_eq!(parse(&[off]).unwrap().election("operator", None), Ok(None));
    }
    assert_eq!(
        parse(&["--leader-elect"]).unwrap().election("operator", None),
        Err(LeaderElectionError::NoNamespace)
    );
    let flags = [
        "--leader-elect-lease-duration=1m",
        "--leader-elect-resource-name=other",
    ];
    let election = parse(&flags)
        .unwrap()
        .election("operator", Some("system"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (election.name.as_str(), election.lease_duration),
        ("other", Duration::from_mins(1))
    );
    let error = parse(&["--leader-elect-retry-period=often"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(r#"failed to read the duration "often""#),
        "{error}"
    );
    let error = parse(&["--leader-elect=perhaps"]).unwrap_err().to_string();
    assert!(error.contains("perhaps"), "{error}");
    assert!(
        parse(&["--leader-elect-renew-deadline=20s"])
            .unwrap()
            .election("operator", Some("system"))
            .is_err()
    );
}

/// The wall clock is for people: two candidates whose clocks are an hour apart agree on who leads.
#[tokio::test(start_paused = true)]
async fn skew_does_no_harm() {
    let server = LeaseServer::default();
    let mut fences = Vec::new();
    for (identity, wall) in [("a", "2026-01-01T00:00:00Z"), ("b", "2026-01-01T01:00:00Z")] {
        let (client, _) = server.client();
        let fence = Fence::closed();
        let clock = Clock::at(wall.parse::<Timestamp>().unwrap());
        let mut elector =
            Elector::new(client, election(identity), clock, &Metrics::new(), fence.clone()).unwrap();
        tokio::spawn(async move {
            elector.acquire().await;
            elector.hold().await
        });
        fences.push(fence);
        sleep(SECOND).await;
    }
    for _ in 0..120 {
        sleep(SECOND).await;
        assert_eq!(
            [fences[0].allows_writes(), fences[1].allows_writes()],
            [true, false]
        );
    }
}
