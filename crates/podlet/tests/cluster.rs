//! A whole cluster: an API server on TLS, controllers, a podlet; and what kubectl, pods and the machine find there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use cluster::{Cluster, IMAGE, is_ready};
use clusterwright_podlet::network::objects::host_ports;
use clusterwright_testkit::{require, tools};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};

/// What kubectl says when all is well.
async fn kubectl(program: &Path, kubeconfig: &Path, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .env("KUBECONFIG", kubeconfig)
        .args(args)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

const SERVICES: [&str; 3] = [
    "{metadata: {name: kubernetes}, spec: {ports: [{name: https, port: 443}]}}",
    "
    metadata: {name: web}
    spec:
      type: LoadBalancer
      selector: {app: web}
      ports: [{name: greet, port: 6443}]
    ",
    "
    metadata: {name: members}
    spec:
      clusterIP: None
      selector: {app: web}
      ports: [{name: greet, port: 6443}]
    ",
];

/// Two pods that greet.
fn set() -> String {
    format!(
        "
        metadata: {{name: web}}
        spec:
          replicas: 2
          serviceName: members
          selector: {{matchLabels: {{app: web}}}}
          template:
            metadata: {{labels: {{app: web}}}}
            spec:
              automountServiceAccountToken: false
              terminationGracePeriodSeconds: 0
              containers: [{{name: main, image: '{IMAGE}', command: [/test-program, greet, '0.0.0.0:6443']}}]
        "
    )
}

/// A pod to look around from.
fn client() -> String {
    format!(
        "
        metadata: {{name: client}}
        spec:
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 0
          containers: [{{name: main, image: '{IMAGE}', command: [sleep, '1000']}}]
        "
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn names_services_and_kubectl() {
    let program = require!(tools::find("kubectl"));
    let cluster = Cluster::new();
    let serving = cluster
        .server
        .serve("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let kubeconfig = cluster.folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, serving.kubeconfig().unwrap()).unwrap();
    let mut config = cluster.config();
    config.client_authority = Some(serving.ca_pem());
    config.api_server = Some(serving.address());
    let podlet = match Cluster::run(config).await {
        Ok(podlet) => podlet,
        Err(error) if cluster::refused(&error) => clusterwright_testkit::skip!("{error}"),
        Err(error) => panic!("{error}"),
    };
    for service in SERVICES {
        cluster.create::<Service>(service).await;
    }
    cluster.create::<StatefulSet>(&set()).await;
    cluster.create::<Pod>(&client()).await;
    for pod in ["web-0", "web-1", "client"] {
        cluster.until::<Pod>(pod, is_ready).await;
    }
    let address = |pod: Pod| pod.status.unwrap().pod_ip.unwrap();
    let first = address(cluster.api::<Pod>().get("web-0").await.unwrap());
    let own = address(cluster.api::<Pod>().get("client").await.unwrap());
    let web = cluster
        .until::<Service>("web", |service| !host_ports(service).is_empty())
        .await;

    // In a pod: names of StatefulSets, of Services, and through these to their pods.
    let in_client = async |script: &str| {
        kubectl(
            &program,
            &kubeconfig,
            &["exec", "client", "--", "bash", "-c", script],
        )
        .await
    };
    let wait = "until getent hosts web-0.members >/dev/null; do sleep 0.1; done; getent ahostsv4 web-0.members | head -1";
    assert_eq!(
        in_client(wait).await.split_whitespace().next(),
        Some(first.as_str())
    );
    let found = in_client("getent ahostsv4 web.default | head -1").await;
    assert_eq!(
        found.split_whitespace().next(),
        web.spec.as_ref().unwrap().cluster_ip.as_deref()
    );
    let ask = |name: &str| format!("exec 3<>/dev/tcp/{name}/6443; cat <&3");
    assert_eq!(in_client(&ask("web-0.members")).await, own);
    let through = "until (: </dev/tcp/web/6443) 2>/dev/null; do sleep 0.1; done; ";
    assert_eq!(in_client(&format!("{through}{}", ask("web"))).await, "10.244.0.1");
    // The API server, which is no pod.
    let open = "until (: </dev/tcp/kubernetes.default.svc/443) 2>/dev/null; do sleep 0.1; done; echo open";
    assert_eq!(in_client(open).await, "open\n");

    // On the machine: by the port that is noted at the Service.
    let port = host_ports(&web)[&6443];
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        let stream = std::net::TcpStream::connect(("127.0.0.1", port));
        stream.unwrap().read_to_string(&mut said).unwrap();
        said
    });
    assert_eq!(said.await.unwrap(), "10.244.0.1");
    let balancer = web
        .status
        .and_then(|status| status.load_balancer)
        .and_then(|balancer| balancer.ingress);
    let balancer = balancer.and_then(|ingress| ingress.into_iter().next()?.ip);
    if let Some(balancer) = balancer {
        assert_eq!(in_client(&ask(&balancer)).await, "10.244.0.1");
    }

    assert_eq!(
        kubectl(&program, &kubeconfig, &["logs", "web-0"]).await,
        "listening\n"
    );
    let both = kubectl(&program, &kubeconfig, &["logs", "-l", "app=web", "--prefix"]).await;
    assert_eq!(both.lines().count(), 2, "{both}");
    podlet.stop().await;
}
