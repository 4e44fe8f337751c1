//! The harness with the real components.

use clusterwright_testkit::{ClusterApi, ControlPlane, KubeconfigUser, require, tools};
use std::process::Command;

#[test]
fn two_control_planes_at_once_answer_their_users_and_leave_nothing() {
    let kubectl = require!(tools::find("kubectl"));
    require!(tools::find("etcd"));
    require!(tools::find("kube-apiserver"));
    let start = || {
        ControlPlane::builder()
            .user("ann-token", "ann", &["team"])
            .start()
            .unwrap()
    };
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(start);
        let two = scope.spawn(start);
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_ne!(one.url(), two.url());

    let pair = one.authority().client("bob", &["team"]).unwrap();
    let (certificate, key) = (one.folder().join("bob.crt"), one.folder().join("bob.key"));
    std::fs::write(&certificate, pair.certificate).unwrap();
    std::fs::write(&key, pair.key).unwrap();
    let bob = KubeconfigUser::Certificate(&certificate, &key);
    for (user, name) in [
        (KubeconfigUser::Token(one.token()), "admin"),
        (KubeconfigUser::Token("ann-token"), "ann"),
        (bob, "bob"),
    ] {
        let kubeconfig = one.write_kubeconfig(name, &user).unwrap();
        let answer = Command::new(&kubectl)
            .args([
                "auth",
                "whoami",
                "-o",
                "jsonpath={.status.userInfo.username}",
                "--kubeconfig",
            ])
            .arg(kubeconfig)
            .env("HOME", one.folder())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&answer.stdout),
            name,
            "{}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }

    let folder = two.folder().to_owned();
    drop(two);
    assert!(!folder.exists());
    assert_eq!(one.client().send("GET", "/readyz", "", "").unwrap().body, "ok");
}

#[test]
fn the_controller_manager_works_on_it() {
    for name in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        require!(tools::find(name));
    }
    let mut control_plane = ControlPlane::builder().start().unwrap();
    control_plane
        .start_controller_manager(&["serviceaccount-controller"])
        .unwrap();
    let start = std::time::Instant::now();
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    while control_plane.client().send("GET", path, "", "").unwrap().status != 200 {
        assert!(
            start.elapsed().as_secs() < 60,
            "the default service account was not made"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_flag_that_is_not_one_is_told_with_the_log() {
    require!(tools::find("etcd"));
    require!(tools::find("kube-apiserver"));
    let result = ControlPlane::builder().api_server_flag("--no-such-flag").start();
    let error = result.map(drop).unwrap_err().to_string();
    assert!(error.contains("no-such-flag"), "{error}");
}

#[test]
fn the_cluster_api_core_manager_works_on_it() {
    for name in ["etcd", "kube-apiserver", "cluster-api-core", "cluster-api-crds"] {
        require!(tools::find(name));
    }
    let mut control_plane = ControlPlane::builder().start().unwrap();
    ClusterApi::start(&mut control_plane).unwrap();
    let path = "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/clusters";
    let cluster = r#"{"apiVersion":"cluster.x-k8s.io/v1beta2","kind":"Cluster","metadata":{"name":"a"},
        "spec":{"controlPlaneEndpoint":{"host":"127.0.0.1","port":6443},
        "infrastructureRef":{"apiGroup":"infrastructure.cluster.x-k8s.io","kind":"None","name":"a"}}}"#;
    control_plane
        .client()
        .expect("POST", path, "application/json", cluster)
        .unwrap();
    let start = std::time::Instant::now();
    let read = || {
        control_plane
            .client()
            .send("GET", &format!("{path}/a"), "", "")
            .unwrap()
            .body
    };
    while !read().contains("cluster.cluster.x-k8s.io") {
        assert!(
            start.elapsed().as_secs() < 60,
            "the manager did not look at the Cluster: {}",
            read()
        );
        std::thread::yield_now();
    }
}
