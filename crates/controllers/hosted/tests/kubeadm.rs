//! The flags are kubeadm's for that minor, but for those that docs/kubeadm-differences.md names.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::collections::BTreeMap;

use clusterwright_hosted::components::{self, Desired, Settings};
use clusterwright_hosted::inputs::Inputs;
use k8s_openapi::api::core::v1::{Container, Probe};
use serde_json::json;

/// What kubeadm gives kube-apiserver 1.33 to 1.36, for a cluster with its default networks.
const API_SERVER: &str = "
--advertise-address=192.0.2.10
--allow-privileged=true
--authorization-mode=Node,RBAC
--client-ca-file=/etc/kubernetes/pki/ca.crt
--enable-admission-plugins=NodeRestriction
--enable-bootstrap-token-auth=true
--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt
--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt
--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key
--etcd-servers=https://127.0.0.1:2379
--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt
--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key
--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname
--proxy-client-cert-file=/etc/kubernetes/pki/front-proxy-client.crt
--proxy-client-key-file=/etc/kubernetes/pki/front-proxy-client.key
--requestheader-allowed-names=front-proxy-client
--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt
--requestheader-extra-headers-prefix=X-Remote-Extra-
--requestheader-group-headers=X-Remote-Group
--requestheader-username-headers=X-Remote-User
--secure-port=6443
--service-account-issuer=https://kubernetes.default.svc.cluster.local
--service-account-key-file=/etc/kubernetes/pki/sa.pub
--service-account-signing-key-file=/etc/kubernetes/pki/sa.key
--service-cluster-ip-range=10.96.0.0/12
--tls-cert-file=/etc/kubernetes/pki/apiserver.crt
--tls-private-key-file=/etc/kubernetes/pki/apiserver.key
";

/// The same for kube-controller-manager, with `--pod-network-cidr=10.244.0.0/16`.
const CONTROLLER_MANAGER: &str = "
--allocate-node-cidrs=true
--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf
--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf
--bind-address=127.0.0.1
--client-ca-file=/etc/kubernetes/pki/ca.crt
--cluster-cidr=10.244.0.0/16
--cluster-name=kubernetes
--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt
--cluster-signing-key-file=/etc/kubernetes/pki/ca.key
--controllers=*,bootstrapsigner,tokencleaner
--kubeconfig=/etc/kubernetes/controller-manager.conf
--leader-elect=true
--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt
--root-ca-file=/etc/kubernetes/pki/ca.crt
--service-account-private-key-file=/etc/kubernetes/pki/sa.key
--service-cluster-ip-range=10.96.0.0/12
--use-service-account-credentials=true
";

/// The same for kube-scheduler.
const SCHEDULER: &str = "
--authentication-kubeconfig=/etc/kubernetes/scheduler.conf
--authorization-kubeconfig=/etc/kubernetes/scheduler.conf
--bind-address=127.0.0.1
--kubeconfig=/etc/kubernetes/scheduler.conf
--leader-elect=true
";

fn by_name<'a>(args: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    args.filter_map(|arg| arg.split_once('=')).collect()
}

fn container(desired: &Desired) -> Container {
    let template = desired.deployment.spec.clone().unwrap().template;
    template.spec.unwrap().containers.remove(0)
}

/// The flags that are not kubeadm's, each with kubeadm's value and ours; a path differs where its file has another name.
fn differences(kubeadm: &str, container: &Container) -> Vec<String> {
    let args = container.args.clone().unwrap();
    let (theirs, ours) = (by_name(kubeadm.lines()), by_name(args.iter().map(String::as_str)));
    let names = theirs
        .keys()
        .chain(ours.keys().filter(|name| !theirs.contains_key(*name)));
    names
        .filter(|name| theirs.get(*name) != ours.get(*name))
        .map(|name| format!("{name} {:?} {:?}", theirs.get(name), ours.get(name)))
        .collect()
}

/// A path and a probe as `(path, first after, every, failures)`.
fn probe(probe: Option<&Probe>) -> Option<(String, i32, i32, i32)> {
    let probe = probe?;
    assert_eq!(probe.timeout_seconds, Some(15));
    Some((
        probe.http_get.as_ref().unwrap().path.clone().unwrap(),
        probe.initial_delay_seconds.unwrap_or(0),
        probe.period_seconds.unwrap(),
        probe.failure_threshold.unwrap(),
    ))
}

fn check(
    kubeadm: &str,
    make: impl Fn(&Inputs, &Settings) -> Desired,
    expected: &[&str],
    [alive, ready]: [&str; 2],
) {
    let network = json!({"clusterNetwork": {"pods": {"cidrBlocks": ["10.244.0.0/16"]}}});
    for version in ["v1.33.13", "v1.34.4", "v1.35.4", "v1.36.3"] {
        let inputs = common::inputs(&json!({"version": version}), &network);
        let settings = Settings {
            version: inputs.version.clone(),
            rollout: None,
        };
        let container = container(&make(&inputs, &settings));
        assert_eq!(differences(kubeadm, &container), expected, "{version}");
        let probes = [
            &container.startup_probe,
            &container.liveness_probe,
            &container.readiness_probe,
        ]
        .map(|of| probe(of.as_ref()));
        let expected = [(alive, 0, 1, 240), (alive, 10, 10, 8), (ready, 0, 1, 3)]
            .map(|(path, first, every, failures)| Some((path.to_owned(), first, every, failures)));
        assert_eq!(probes, expected, "{version}");
    }
}

#[test]
fn kube_apiserver() {
    let make = |inputs: &Inputs, settings: &Settings| {
        let mut desired = components::api_server(inputs, settings, Some([192, 0, 2, 10].into()));
        // Where etcd is depends on its members.
        let template = &mut desired.deployment.spec.as_mut().unwrap().template;
        let args = &mut template.spec.as_mut().unwrap().containers[0].args;
        for arg in args.as_mut().unwrap() {
            if arg.starts_with("--etcd-servers=https://") {
                "--etcd-servers=etcd".clone_into(arg);
            }
        }
        desired
    };
    let expected = [
        r#"--etcd-cafile Some("/etc/kubernetes/pki/etcd/ca.crt") Some("/etc/kubernetes/pki/etcd-ca.crt")"#,
        r#"--etcd-servers Some("https://127.0.0.1:2379") Some("etcd")"#,
        r#"--shutdown-delay-duration None Some("10s")"#,
        r#"--shutdown-watch-termination-grace-period None Some("5s")"#,
    ];
    check(API_SERVER, make, &expected, ["/livez", "/readyz"]);
}

#[test]
fn kube_controller_manager() {
    let path =
        r#"Some("/etc/kubernetes/controller-manager.conf") Some("/etc/kubernetes/kubeconfig/kubeconfig")"#;
    let expected = [
        &format!("--authentication-kubeconfig {path}"),
        &format!("--authorization-kubeconfig {path}"),
        r#"--bind-address Some("127.0.0.1") Some("0.0.0.0")"#,
        r#"--cluster-name Some("kubernetes") Some("demo")"#,
        &format!("--kubeconfig {path}"),
    ];
    check(
        CONTROLLER_MANAGER,
        components::controller_manager,
        &expected,
        ["/healthz", "/healthz"],
    );
}

#[test]
fn kube_scheduler() {
    let path = r#"Some("/etc/kubernetes/scheduler.conf") Some("/etc/kubernetes/kubeconfig/kubeconfig")"#;
    let expected = [
        &format!("--authentication-kubeconfig {path}"),
        &format!("--authorization-kubeconfig {path}"),
        r#"--bind-address Some("127.0.0.1") Some("0.0.0.0")"#,
        &format!("--kubeconfig {path}"),
    ];
    check(SCHEDULER, components::scheduler, &expected, ["/livez", "/readyz"]);
}
