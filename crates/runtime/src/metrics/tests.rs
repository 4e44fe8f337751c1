//! The text that Prometheus reads.

use std::time::Duration;

use http::{Request, Response};
use kube::client::Body;
use tower::{BoxError, Layer as _, ServiceExt as _};

use super::{Metrics, ReconcileEnd};

/// The text without figures that differ from run to run, and with the series of a family in order.
fn stable(metrics: &Metrics) -> String {
    let text = metrics.encode().unwrap();
    let mut families: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("# HELP") || line == "# EOF" {
            families.push(Vec::new());
        }
        families.last_mut().unwrap().push(line);
    }
    families.retain(|family| !family[0].contains(" process_") && !family[0].contains(" tokio_"));
    for family in &mut families {
        family.sort_by_key(|line| (!line.starts_with('#'), series(line)));
    }
    families.concat().join("\n")
}

/// A line's name and labels. Those of a series' buckets are the same, so that a stable sort leaves them in order.
fn series(line: &str) -> String {
    let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
    match name
        .split_once("le=\"")
        .and_then(|(head, tail)| Some((head, tail.split_once('"')?.1)))
    {
        Some((head, tail)) => format!("{head}{}", tail.trim_start_matches(',')),
        None => name.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn zero_from_the_start() {
    let metrics = Metrics::new();
    let _controller = metrics.controller("hosted", 10);
    let _queue = metrics.queue("hosted");
    let _leader = metrics.leader("clusterwright");
    let _client = metrics.client_layer("10.0.0.1:443");
    insta::assert_snapshot!(stable(&metrics));
}

#[tokio::test(start_paused = true)]
async fn counts_reconciles() {
    let metrics = Metrics::new();
    let controller = metrics.controller("hosted", 5);
    let ends = [
        ReconcileEnd::Success,
        ReconcileEnd::RequeueAfter,
        ReconcileEnd::Error,
        ReconcileEnd::TerminalError,
        ReconcileEnd::Timeout,
        ReconcileEnd::Panic,
    ];
    let active = controller.started();
    for end in ends {
        controller.finished(end, Duration::from_millis(20));
    }
    let text = stable(&metrics);
    for line in [
        r#"controller_runtime_reconcile_total{controller="hosted",result="success"} 1"#,
        r#"controller_runtime_reconcile_total{controller="hosted",result="requeue_after"} 1"#,
        r#"controller_runtime_reconcile_total{controller="hosted",result="requeue"} 0"#,
        r#"controller_runtime_reconcile_total{controller="hosted",result="error"} 4"#,
        r#"controller_reconciliations_total{controller="hosted",result="error"} 4"#,
        r#"controller_runtime_reconcile_errors_total{controller="hosted"} 4"#,
        r#"controller_runtime_terminal_reconcile_errors_total{controller="hosted"} 1"#,
        r#"controller_runtime_reconcile_timeouts_total{controller="hosted"} 1"#,
        r#"controller_runtime_reconcile_panics_total{controller="hosted"} 1"#,
        r#"controller_runtime_active_workers{controller="hosted"} 1"#,
        r#"controller_reconciliation_duration_seconds_count{controller="hosted"} 6"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    drop(active);
    assert!(stable(&metrics).contains(r#"controller_runtime_active_workers{controller="hosted"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn shows_work_in_progress_as_of_the_scrape() {
    let metrics = Metrics::new();
    let queue = metrics.queue("hosted");
    queue.added();
    queue.depth_changed(-100, 1);
    queue.depth_changed(10, 2);
    let first = queue.working();
    tokio::time::advance(Duration::from_secs(2)).await;
    let second = queue.working();
    tokio::time::advance(Duration::from_secs(1)).await;
    let text = stable(&metrics);
    for line in [
        r#"workqueue_unfinished_work_seconds{name="hosted",controller="hosted"} 4.0"#,
        r#"workqueue_longest_running_processor_seconds{name="hosted",controller="hosted"} 3.0"#,
        r#"workqueue_depth{name="hosted",controller="hosted",priority="-100"} 1"#,
        r#"workqueue_depth{name="hosted",controller="hosted",priority="10"} 2"#,
        r#"workqueue_adds_total{name="hosted",controller="hosted"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    drop((first, second));
    let text = stable(&metrics);
    for line in [
        r#"workqueue_unfinished_work_seconds{name="hosted",controller="hosted"} 0.0"#,
        r#"workqueue_work_duration_seconds_sum{name="hosted",controller="hosted"} 4.0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn bounds_the_priorities() {
    let metrics = Metrics::new();
    let queue = metrics.queue("hosted");
    for priority in 0..100 {
        queue.depth_changed(priority, 1);
    }
    let text = stable(&metrics);
    assert_eq!(text.matches("\nworkqueue_depth{").count(), 26);
    assert!(
        text.contains(r#"priority="exceeded_cardinality_limit"} 76"#),
        "{text}"
    );
}

#[tokio::test]
async fn describes_the_process() {
    let text = Metrics::new().encode().unwrap();
    let mut names = vec![
        "tokio_workers ",
        "tokio_alive_tasks ",
        "tokio_busy_seconds_total ",
    ];
    if cfg!(target_os = "linux") {
        names.extend([
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ]);
    }
    for name in names {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name} is not in\n{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn counts_requests() {
    let metrics = Metrics::new();
    let service = metrics
        .client_layer("test")
        .layer(tower::service_fn(async |request: Request<Body>| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if request.method() == http::Method::DELETE {
                return Err(BoxError::from("refused"));
            }
            Ok(Response::builder()
                .status(404)
                .body(Body::from(vec![b'x'; 100]))?)
        }));
    let request = |method: &str| {
        Request::builder()
            .method(method)
            .body(Body::from(vec![b'x'; 300]))
            .unwrap()
    };
    service.clone().oneshot(request("POST")).await.unwrap();
    service.oneshot(request("DELETE")).await.unwrap_err();
    let text = stable(&metrics);
    for line in [
        r#"rest_client_requests_total{code="404",method="POST",host="test"} 1"#,
        r#"rest_client_requests_total{code="<error>",method="DELETE",host="test"} 1"#,
        r#"rest_client_request_duration_seconds_sum{verb="POST",host="test"} 0.05"#,
        r#"rest_client_request_size_bytes_sum{verb="POST",host="test"} 300.0"#,
        r#"rest_client_response_size_bytes_sum{verb="POST",host="test"} 100.0"#,
        r#"rest_client_response_size_bytes_count{verb="DELETE",host="test"} 0"#,
        r#"rest_client_request_duration_seconds_count{verb="GET",host="test"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
