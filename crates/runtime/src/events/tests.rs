//! What a recorder's Events look like on the wire, and what it does when the API server fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::*;
use crate::manager::{RunContext, RunError, Runnable as _};

const SECOND: Duration = Duration::from_secs(1);

type Calls = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A server that answers with these codes first and then with 200, and what it was sent.
fn server(codes: &[u16]) -> (Client, Calls) {
    let calls = Calls::default();
    let (log, codes) = (
        calls.clone(),
        Arc::new(Mutex::new(codes.iter().copied().collect::<VecDeque<_>>())),
    );
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, code) = (log.clone(), codes.lock().pop_front());
        async move {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            let body = request.into_body().collect().await?.to_bytes();
            let body: Value = serde_json::from_slice(&body)?;
            log.lock().push((method, path, body.clone()));
            let (code, body) = match code {
                None | Some(200) => (200, json!({"metadata": {}, "eventTime": null})),
                Some(0) => std::future::pending().await,
                Some(code) => {
                    let reason = if code == 409 { "AlreadyExists" } else { "" };
                    (
                        code,
                        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}),
                    )
                }
            };
            Ok::<_, BoxError>(
                Response::builder()
                    .status(code)
                    .body(Body::from(body.to_string().into_bytes()))?,
            )
        }
    });
    (Client::new(service, "default"), calls)
}

struct Fixture {
    recorder: Recorder,
    calls: Calls,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

fn start(codes: &[u16]) -> Fixture {
    let (client, calls) = server(codes);
    let clock = Clock::at("2026-01-01T00:00:00.25Z".parse().unwrap());
    let (recorder, worker) = Recorder::new(client, "hosted", "pod-1", clock);
    let shutdown = CancellationToken::new();
    let (cx, _) = RunContext::detached(shutdown.clone());
    Fixture {
        recorder,
        calls,
        shutdown,
        task: tokio::spawn(Box::new(worker).run(cx)),
    }
}

impl Fixture {
    fn calls(&self) -> Vec<(String, String, Value)> {
        self.calls.lock().clone()
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {
        "name": "web", "namespace": "a", "uid": "u-1", "resourceVersion": "7",
    }}))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_event_and_its_series() {
    let fixture = start(&[]);
    fixture
        .recorder
        .warning(&pod(), "NoQuota", "CreatePod", "no quota left");
    sleep(SECOND).await;
    fixture
        .recorder
        .warning(&pod(), "NoQuota", "CreatePod", "no quota left");
    sleep(SECOND).await;
    let calls = fixture.calls();
    let (method, path, mut event) = calls[0].clone();
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("POST", "/apis/events.k8s.io/v1/namespaces/a/events")
    );
    let name = event["metadata"]["name"].take().as_str().unwrap().to_owned();
    assert!(name.starts_with("web.") && name.len() == 20, "{name}");
    assert_eq!(
        event,
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": null, "namespace": "a"},
            "action": "CreatePod", "reason": "NoQuota", "note": "no quota left", "type": "Warning",
            "eventTime": "2026-01-01T00:00:00.250000Z",
            "regarding": {
                "apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": "a", "uid": "u-1",
                "resourceVersion": "7",
            },
            "reportingController": "hosted", "reportingInstance": "pod-1",
        })
    );
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.250000Z"}});
    let path = format!("/apis/events.k8s.io/v1/namespaces/a/events/{name}");
    assert_eq!(calls[1..], [("PATCH".to_owned(), path, series)]);
}

#[tokio::test(start_paused = true)]
async fn events_of_cluster_wide_objects_are_in_default() {
    let fixture = start(&[]);
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "uid": "u"}})).unwrap();
    fixture
        .recorder
        .for_controller("drain")
        .normal(&node, "Drained", "Drain", "");
    sleep(SECOND).await;
    let (_, path, event) = fixture.calls().remove(0);
    assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/default/events");
    assert_eq!(
        (
            &event["reportingController"],
            &event["regarding"].get("namespace")
        ),
        (&json!("drain"), &None)
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_server_dropped_is_made_again() {
    let fixture = start(&[200, 404]);
    for _ in 0..3 {
        fixture.recorder.normal(&pod(), "Created", "Create", "");
    }
    sleep(SECOND).await;
    let calls = fixture.calls();
    let methods: Vec<_> = calls.iter().map(|(method, ..)| method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST", "PATCH"]);
    assert_eq!(calls[2].2["series"]["count"], 2);
    assert_eq!(calls[3].2["series"]["count"], 3);
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_and_then_given_up() {
    for (codes, expected) in [
        (&[503, 429, 200][..], 3),
        (&[500, 500, 500, 200], 3),
        (&[403, 200], 1),
        // The answer was lost, and the second try finds the Event there.
        (&[0, 409, 200], 2),
    ] {
        let fixture = start(codes);
        fixture.recorder.normal(&pod(), "Created", "Create", "");
        sleep(60 * SECOND).await;
        assert_eq!(fixture.calls().len(), expected, "{codes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn never_blocks_although_the_server_hangs() {
    let fixture = start(&[0; 8]);
    let start = Instant::now();
    for number in 0..5000 {
        fixture
            .recorder
            .normal(&pod(), "Created", "Create", format!("number {number}"));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(fixture.calls().len() <= 1);
}

#[tokio::test(start_paused = true)]
async fn empties_the_queue_at_shutdown() {
    let fixture = start(&[]);
    for number in 0..10 {
        fixture
            .recorder
            .normal(&pod(), "Created", "Create", format!("number {number}"));
    }
    fixture.shutdown.cancel();
    fixture.task.await.unwrap().unwrap();
    assert_eq!(fixture.calls.lock().len(), 10);
    // Later ones go nowhere, quietly.
    fixture.recorder.normal(&pod(), "Created", "Create", "");
}

#[tokio::test(start_paused = true)]
async fn long_notes_are_cut() {
    let fixture = start(&[]);
    fixture
        .recorder
        .normal(&pod(), "Created", "Create", "ä".repeat(2000));
    sleep(SECOND).await;
    assert_eq!(fixture.calls()[0].2["note"].as_str().unwrap().len(), 1024);
}
