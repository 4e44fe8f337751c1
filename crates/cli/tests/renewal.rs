//! Certificates that live for a minute, and programs that go on as they are renewed.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use clusterwright_clock::Clock;
use clusterwright_hosted::access::{self, Identity};
use clusterwright_hosted::pki::{Facts, Leaf};
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client::Client as Cached;
use clusterwright_runtime::controller::Environment;
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::manager::{Manager, Options};
use clusterwright_testkit::{require, tools};
use common::hosted::{COMES_BACK, PAUSE, PROGRAMS, client};
use common::processes::{Processes, control_plane, until_available, url};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, ListParams, PostParams, ResourceExt};
use kube::config::Kubeconfig;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Shorter than `manager` takes: the podlet brings a renewed file at once, a kubelet does not.
const LIFE: Duration = Duration::from_secs(45);
/// This program's, which the podlet knows.
const IMAGE: &str = concat!("ghcr.io/clusterwright/clusterwright:v", env!("CARGO_PKG_VERSION"));
/// Between two requests, at most.
const BETWEEN: Duration = Duration::from_millis(20);

/// The controllers, in this process.
async fn manage(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client, Options::default()).unwrap();
    let cache = Cache::new(manager.client(), CacheOptions::default());
    let client = Cached::new(manager.client(), cache.clone(), "clusterwright");
    let clock = Clock::system();
    let (recorder, events) = Recorder::new(manager.client(), "clusterwright", "test", clock);
    let environment = Environment {
        client: client.clone(),
        clock,
        metrics: manager.metrics().clone(),
        recorder,
    };
    let options = clusterwright_hosted::Options {
        leaf_life: LIFE,
        ..clusterwright_hosted::Options::new(IMAGE, manager.client())
    };
    let controller = clusterwright_hosted::controller(&client, options).build(&environment);
    manager.add(cache.runnable()).unwrap();
    manager.add(events).unwrap();
    manager.add(controller).unwrap();
    manager.run(shutdown).await.unwrap();
}

/// When each leaf ends.
async fn ends(client: &Client, name: &str) -> BTreeMap<&'static str, i64> {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let mut ends = BTreeMap::new();
    for leaf in Leaf::ALL {
        let secret = secrets.get(&format!("{name}-{}-tls", leaf.name())).await.unwrap();
        let pem = String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap();
        ends.insert(leaf.name(), Facts::read(&pem).unwrap().not_after);
    }
    ends
}

/// Every pod with how often its containers were started again.
async fn pods(client: &Client) -> BTreeMap<String, i32> {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let restarts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        containers.iter().map(|container| container.restart_count).sum()
    };
    let pods = pods.list(&ListParams::default()).await.unwrap();
    pods.iter()
        .map(|pod| (pod.uid().unwrap(), restarts(pod)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_while_requests_go_on_and_no_pod_restarts() {
    for name in PROGRAMS {
        require!(tools::find(name));
    }
    let folder = tempfile::tempdir().unwrap();
    let processes = Processes::new(folder.path());
    let api_server = processes.api_server();
    let management = processes.install().await;
    let podlet = processes.podlet();
    let stop = CancellationToken::new();
    let manager = tokio::spawn(manage(management.clone(), stop.clone()));
    let name = "brief";
    control_plane(&management, name).await;
    until_available(&management, name).await;

    let url = url(&management, name).await;
    let root: Secret = Api::default_namespaced(management.clone())
        .get(&format!("{name}-ca"))
        .await
        .unwrap();
    let hour = Duration::from_hours(1);
    let identity = Identity::default();
    let made = access::kubeconfig(name, &url, &root, &identity, Timestamp::now(), hour).unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&made.text).unwrap();
    let hosted = client(kubeconfig.clone()).await;
    let (before, first) = (pods(&management).await, ends(&management, name).await);
    assert!(before.len() >= 4, "{before:?}");

    // Until all that there is at first has ended, and what came after it has been replaced too.
    let maps: Api<ConfigMap> = Api::default_namespaced(hosted.clone());
    let last = *first.values().max().unwrap() + i64::try_from(LIFE.as_secs()).unwrap();
    let mut requests = 0;
    while Timestamp::now().as_second() < last {
        let start = Instant::now();
        let number = format!("n{requests}");
        let map = serde_json::from_value(json!({"metadata": {"name": number}})).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
        // Through a connection of its own, whose handshake shows what is served.
        if requests % 50 == 0 {
            let fresh = client(kubeconfig.clone()).await;
            Api::<ConfigMap>::default_namespaced(fresh)
                .get(&number)
                .await
                .unwrap();
        }
        requests += 1;
        sleep(BETWEEN.saturating_sub(start.elapsed())).await;
    }
    let now = ends(&management, name).await;
    for (leaf, end) in &first {
        assert!(now[leaf] > *end, "{leaf} was not renewed");
    }
    assert_eq!(pods(&management).await, before, "a pod was restarted or replaced");

    // Who is a client of the API server is known to it still: the controller manager works.
    let namespace = serde_json::from_value(json!({"metadata": {"name": "after"}})).unwrap();
    let namespaces = Api::<Namespace>::all(hosted.clone());
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let accounts = Api::<ServiceAccount>::namespaced(hosted, "after");
    let start = Instant::now();
    while accounts.get_opt("default").await.unwrap().is_none() {
        assert!(
            start.elapsed() < COMES_BACK,
            "the controller manager does nothing"
        );
        sleep(PAUSE).await;
    }
    until_available(&management, name).await;
    println!("{requests} requests, none failed");

    stop.cancel();
    manager.await.unwrap();
    for running in [podlet, api_server] {
        running.signal("TERM");
        let (status, said) = running.end();
        assert!(status.success(), "{said}");
    }
}
