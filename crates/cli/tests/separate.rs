//! API server, manager and podlet as processes of their own, each of which, and each pod's process, may be killed at any
//! time: the hosted cluster comes back with all that it acknowledged.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clusterwright_testkit::{require, tools};
use common::Running;
use common::control_plane::condition;
use common::hosted::{PROGRAMS, Writer};
use common::processes::{Processes, control_plane, hosted, until, until_available};

/// The process of a pod's that was started with this argument.
fn process(argument: &str) -> String {
    let found = Command::new("pgrep")
        .args(["-f", "--", argument])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    found
        .lines()
        .next()
        .unwrap_or_else(|| panic!("no process has {argument}"))
        .to_owned()
}

fn signal(name: &str, process: &str) {
    let sent = Command::new("kill").args(["-s", name, process]).status();
    assert!(sent.unwrap().success());
}

fn killed(mut running: Running) {
    running.signal("KILL");
    while !running.has_ended() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A name that no other cluster on this machine has: processes are found by it.
fn unique(folder: &Path) -> String {
    let end = folder.file_name().unwrap().to_str().unwrap().to_lowercase();
    let end: String = end.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("c{end}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_the_hosted_cluster_comes_back_with_what_it_acknowledged() {
    for name in PROGRAMS {
        require!(tools::find(name));
    }
    let folder = tempfile::tempdir().unwrap();
    let processes = Processes::new(folder.path());
    let name = unique(folder.path());
    let mut api_server = processes.api_server();
    let management = processes.install().await;
    let mut podlet = processes.podlet();
    let mut manager = processes.manager();
    control_plane(&management, &name).await;
    until_available(&management, &name).await;

    let writer = Writer::start(hosted(&management, &name).await);
    writer.goes_on("nothing").await;
    // One that hangs is not waited for, is told of, and counts again when it goes on.
    let member = process(&format!("--name={name}-etcd-2"));
    signal("STOP", &member);
    writer.goes_on("a member of etcd hangs").await;
    let hangs = format!("pod {name}-etcd-2 runs but is not ready any more");
    until(&management, &name, |object| {
        let ready = condition(object, "Ready");
        ready["reason"] == "PodUnhealthy" && ready["message"].as_str().unwrap().contains(&hangs)
    })
    .await;
    until_available(&management, &name).await;
    writer.goes_on("that is told").await;
    signal("CONT", &member);
    until(&management, &name, |object| {
        condition(object, "Ready")["status"] == "True"
    })
    .await;
    for member in 0..2 {
        signal("KILL", &process(&format!("--name={name}-etcd-{member}")));
        writer.goes_on("a member of etcd").await;
    }
    signal("KILL", &process(&format!("kube-apiserver .*{name}-etcd")));
    writer.goes_on("the hosted API server").await;
    killed(manager);
    manager = processes.manager();
    writer.goes_on("the manager").await;
    killed(api_server);
    writer.goes_on("the API server").await;
    api_server = processes.api_server();
    writer.goes_on("the API server came back").await;
    killed(podlet);
    podlet = processes.podlet();
    writer.goes_on("the podlet").await;
    until_available(&management, &name).await;

    drop(writer);
    for running in [manager, podlet, api_server] {
        running.signal("TERM");
        let (status, said) = running.end();
        assert!(status.success(), "{said}");
    }
}
