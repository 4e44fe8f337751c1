//! `podlet` beside `apiserver`, as processes of their own that may be killed at any time.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use clusterwright_podlet::isolation::{self, Isolation};
use clusterwright_testkit::skip;
use common::{PATIENCE, Running, clusterwright};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn podlet(kubeconfig: &str, folder: &Path) -> Running {
    let state = folder.join("podlet");
    let tools = folder.join("tools");
    let args = ["podlet", "--kubeconfig", kubeconfig, "--node-name", "machine"];
    let folders = [
        "--state-dir",
        state.to_str().unwrap(),
        "--tools-dir",
        tools.to_str().unwrap(),
    ];
    let mut podlet = Running::start(clusterwright(&[&args[..], &folders].concat()));
    podlet.line("# node machine ");
    podlet
}

/// Waits until the pod is ready and has been restarted so often.
async fn until_ready(api: &Api<Pod>, restarts: i32) {
    let waiting = async {
        loop {
            let pod = api.get("server").await.unwrap();
            let status = pod.status.clone().unwrap_or_default();
            let container = status.container_statuses.iter().flatten().next();
            if container.is_some_and(|one| one.ready && one.restart_count == restarts) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ready = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
    let status = api.get("server").await.unwrap().status;
    assert!(ready, "the pod is not ready: {status:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_podlet_that_is_killed_takes_its_pods_along_and_the_next_one_starts_them() {
    let folder = tempfile::tempdir().unwrap();
    let volatile = folder.path().join("try");
    std::fs::create_dir(&volatile).unwrap();
    let mut settings = isolation::Config::new(&volatile);
    settings.helper = env!("CARGO_BIN_EXE_clusterwright").into();
    match Isolation::start(&settings).await {
        Err(error @ isolation::Error::Unavailable(_)) => skip!("{error}"),
        tried => drop(tried.unwrap()),
    }

    let data = folder.path().join("data");
    let args = [
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--bind-to",
        "machine",
    ];
    let mut server = Running::start(clusterwright(&[&["apiserver"][..], &args].concat()));
    let kubeconfig = server.line("export KUBECONFIG=");
    let api: Api<Pod> = Api::default_namespaced(client(&kubeconfig).await);
    let mut first = podlet(&kubeconfig, folder.path());
    // Our own image is the program that runs.
    let pod = json!({
        "metadata": {"name": "server"},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main",
                "image": "ghcr.io/clusterwright/clusterwright:v1",
                "args": ["apiserver", "--write-kubeconfig", "/tmp/kubeconfig", "--listen", "0.0.0.0:6443"],
                "readinessProbe": {"tcpSocket": {"port": 6443}, "periodSeconds": 1},
            }],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    // Accounts are made by a controller, which may not have come to it.
    while let Err(error) = api.create(&PostParams::default(), &pod).await {
        assert!(error.to_string().contains("serviceaccount"), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_ready(&api, 0).await;
    // The kubelet's endpoints know the API server by the kubeconfig's authority.
    let log = api.logs("server", &LogParams::default()).await.unwrap();
    assert!(log.contains("export KUBECONFIG=/tmp/kubeconfig"), "{log}");

    first.signal("KILL");
    while !first.has_ended() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut second = podlet(&kubeconfig, folder.path());
    until_ready(&api, 1).await;
    second.signal("TERM");
    while !second.has_ended() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = std::fs::read_dir(folder.path().join("podlet")).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["claims", "lock"]);
    server.signal("KILL");
}
