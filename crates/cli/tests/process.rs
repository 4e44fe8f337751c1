//! `up` with pods that are processes: a hosted cluster that answers.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clusterwright_hosted::access::{self, Identity};
use clusterwright_testkit::{require, tools};
use common::control_plane::{self, kubectl};
use common::hosted::PROGRAMS;
use common::{PATIENCE, Running, clusterwright};
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

fn up(temporary: &Path, more: &[&str]) -> Running {
    let manifest = temporary.with_extension("yaml");
    std::fs::write(
        &manifest,
        control_plane::manifest("small", "{version: v1.36.3, replicas: 1}"),
    )
    .unwrap();
    let manifest = manifest.to_str().unwrap().to_owned();
    let mut command = clusterwright(&[&["up", "--pods", "process", "-f", &manifest], more].concat());
    command.env("TMPDIR", temporary);
    Running::start(command)
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn kubectl_is_answered_by_both_clusters_and_nothing_is_left_behind() {
    for name in PROGRAMS.iter().chain(&["kubectl"]) {
        require!(tools::find(name));
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("tmp");
    std::fs::create_dir(&folder).unwrap();
    let mut running = up(&folder, &[]);
    let management = running.line("export KUBECONFIG=");
    let hosted = running.line("export KUBECONFIG=");
    let (hosted, comment) = hosted.split_once("  # ").unwrap();
    assert_eq!(comment, "cluster small");
    running.line("All was ready");

    let namespaces = kubectl(hosted, &["get", "ns", "-o", "name"]);
    assert!(namespaces.contains("namespace/kube-system"), "{namespaces}");
    assert!(kubectl(&management, &["get", "ns"]).contains("default"));
    let pods = kubectl(&management, &["get", "pods", "-o", "wide"]);
    assert!(
        pods.contains("small-etcd-0") && pods.contains("this-machine"),
        "{pods}"
    );
    // What the programs say is read as on a cluster, and they are entered.
    let log = kubectl(&management, &["logs", "small-etcd-0"]);
    assert!(log.contains("ready to serve client requests"), "{log}");
    let version = kubectl(&management, &["exec", "small-etcd-0", "--", "etcd", "--version"]);
    assert!(version.contains("etcd Version: 3.6.8"), "{version}");
    // Its controllers work: a namespace gets its service account, and goes again.
    kubectl(hosted, &["create", "namespace", "there"]);
    let start = Instant::now();
    while !kubectl(hosted, &["get", "serviceaccounts", "-n", "there", "-o", "name"]).contains("default") {
        assert!(start.elapsed() < PATIENCE, "no service account");
        std::thread::sleep(Duration::from_millis(100));
    }
    kubectl(hosted, &["delete", "namespace", "there", "--timeout=60s"]);

    // A kubeconfig of one's own is as good, until it ends.
    let mine = folder.join("mine").to_str().unwrap().to_owned();
    let get = [
        "get",
        "kubeconfig",
        "small",
        "--ttl",
        "5m",
        "--kubeconfig",
        &management,
        "-o",
        &mine,
    ];
    let made = clusterwright(&get).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(kubectl(&mine, &["get", "nodes", "-o", "name"]).is_empty());
    assert_eq!(kubectl(&mine, &["auth", "can-i", "*", "*"]), "yes\n");
    std::fs::write(&mine, ended(&management, &mine)).unwrap();
    let program = tools::find("kubectl").unwrap();
    let refused = Command::new(program)
        .args(["--kubeconfig", &mine, "--cache-dir", "/dev/null", "get", "nodes"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("provide credentials"),
        "{said}"
    );
    std::fs::remove_file(mine).unwrap();

    assert_eq!(anonymous(&management), 401);

    running.signal("INT");
    let (status, said) = running.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(entries(&folder), 0);
}

/// As that kubeconfig of cluster `small`, but one that ended a minute ago.
fn ended(management: &str, like: &str) -> String {
    let like = Kubeconfig::read_from(like).unwrap();
    let url = like.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
    let root = kubectl(management, &["get", "secret", "small-ca", "-o", "json"]);
    let (root, minute) = (serde_json::from_str(&root).unwrap(), Duration::from_mins(1));
    let then = Timestamp::now() - 2 * minute;
    let made = access::kubeconfig("small", &url, &root, &Identity::default(), then, minute);
    made.unwrap().text
}

/// How the server answers who shows nothing.
fn anonymous(kubeconfig: &str) -> u16 {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    for user in kubeconfig
        .auth_infos
        .iter_mut()
        .filter_map(|user| user.auth_info.as_mut())
    {
        user.client_certificate_data = None;
        user.client_key_data = None;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        match client.apiserver_version().await {
            Err(kube::Error::Api(status)) => status.code,
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn what_a_killed_one_left_is_removed_by_the_next() {
    for name in PROGRAMS {
        require!(tools::find(name));
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("tmp");
    std::fs::create_dir(&folder).unwrap();
    let mut killed = up(&folder, &[]);
    killed.line("export KUBECONFIG=");
    killed.signal("KILL");
    drop(killed.end());
    assert_eq!(entries(&folder), 1);
    // While another one runs, its own folder stays.
    let mut next = up(&folder, &[]);
    next.line("export KUBECONFIG=");
    assert_eq!(entries(&folder), 1);
    let mut third = up(&folder, &[]);
    third.line("export KUBECONFIG=");
    assert_eq!(entries(&folder), 2);
    for running in [next, third] {
        running.signal("TERM");
        running.end();
    }
    assert_eq!(entries(&folder), 0);
}

#[test]
fn auto_simulates_where_programs_are_missing_and_says_how_they_come() {
    let tools = tempfile::tempdir().unwrap();
    let mut command = clusterwright(&["up", "--once"]);
    command.env("CLUSTERWRIGHT_TOOLS", tools.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("simulated") && said.contains("cargo xtask tools etcd kube-apiserver"),
        "{said}"
    );

    let mut command = clusterwright(&["up", "--once", "--pods", "process", "--timeout", "5s"]);
    command.env("CLUSTERWRIGHT_TOOLS", tools.path());
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("cargo xtask tools etcd"), "{told}");
}
