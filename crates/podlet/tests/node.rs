//! A node: a podlet that runs what an API server says, with the controllers of the same process beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use std::time::Duration;

use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_podlet::CLASS;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use cluster::{Cluster, IMAGE, NODE, condition, container, is_ready, phase};

/// A podlet of the cluster, or the test is skipped.
macro_rules! podlet {
    ($cluster:expr) => {
        match $cluster.podlet().await {
            Ok(podlet) => podlet,
            Err(error) if cluster::refused(&error) => clusterwright_testkit::skip!("{error}"),
            Err(error) => panic!("{error}"),
        }
    };
}

/// A pod of one container that runs a script.
fn pod(name: &str, script: &str, more: &str) -> String {
    format!(
        "
        metadata: {{name: {name}}}
        spec:
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 5
          containers:
          - {{name: main, image: '{IMAGE}', command: [sh, -c, {script:?}], {more}}}
        "
    )
}

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_runs_a_pod_and_says_so() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    cluster.create::<Pod>(&pod("web", SLEEP, "")).await;
    let web = cluster.until::<Pod>("web", is_ready).await;
    let status = web.status.clone().unwrap();
    assert_eq!(phase(&web), "Running");
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&web, kind), "True", "{kind}");
    }
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    let address = status.pod_ip.unwrap();
    assert!(address.starts_with("10.244.0."), "{address}");
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.observed_generation, web.metadata.generation);
    let main = container(&web);
    assert_eq!(main["ready"], true);
    assert_eq!(main["started"], true);
    assert_eq!(main["restartCount"], 0);
    assert!(main["containerID"].as_str().unwrap().starts_with("podlet://"));
    assert!(main["imageID"].as_str().unwrap().starts_with("file://"));
    assert!(main["state"]["running"]["startedAt"].is_string());
    for reason in ["Pulled: ", "Created: ", "Started: "] {
        cluster.until_told("web", reason).await;
    }
    let entry = podlet.registry.find("default", "web", None).unwrap();
    assert_eq!(entry.address.to_string(), address);

    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = nodes.get(NODE).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap()["kubernetes.io/hostname"], NODE);
    let status = node.status.unwrap();
    let ready = status
        .conditions
        .unwrap()
        .into_iter()
        .find(|one| one.type_ == "Ready");
    assert_eq!(ready.unwrap().status, "True");
    assert!(status.capacity.unwrap().contains_key("memory"));
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    let lease = leases.get(NODE).await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some(NODE));

    // Nothing changes: nothing is written.
    let before = cluster
        .api::<Pod>()
        .get("web")
        .await
        .unwrap()
        .metadata
        .resource_version;
    cluster.create::<Pod>(&pod("other", "exit 3", "")).await;
    cluster
        .until::<Pod>("other", |pod| container(pod)["restartCount"] == 1)
        .await;
    let after = cluster
        .api::<Pod>()
        .get("web")
        .await
        .unwrap()
        .metadata
        .resource_version;
    assert_eq!(before, after);

    // It is asked to end, and does; then it is gone.
    cluster
        .api::<Pod>()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    cluster.until_gone::<Pod>("web").await;
    cluster
        .until_told("web", "Killing: Stopping container main")
        .await;
    assert!(podlet.registry.find("default", "web", None).is_none());
    podlet.stop().await;
    assert!(!cluster.state_dir().join("volatile/pods").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_gets_ready() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    let text = format!(
        "
        metadata: {{name: web}}
        spec:
          replicas: 3
          selector: {{matchLabels: {{app: web}}}}
          template:
            metadata: {{labels: {{app: web}}}}
            spec:
              automountServiceAccountToken: false
              containers:
              - name: main
                image: '{IMAGE}'
                command: [/test-program, greet, '0.0.0.0:80']
                readinessProbe: {{tcpSocket: {{port: 80}}, periodSeconds: 1}}
        "
    );
    cluster.create::<Deployment>(&text).await;
    let ready = |deployment: &Deployment| {
        let status = deployment.status.as_ref();
        status.and_then(|status| status.ready_replicas) == Some(3)
    };
    cluster.until::<Deployment>("web", ready).await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap();
    let mut addresses: Vec<_> = pods
        .items
        .iter()
        .map(|pod| pod.status.as_ref().unwrap().pod_ip.clone().unwrap())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
    podlet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_named() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    cluster
        .create::<Pod>(&pod(
            "crash",
            "echo oh >&2; exit 7",
            "terminationMessagePolicy: FallbackToLogsOnError",
        ))
        .await;
    let crash = cluster
        .until::<Pod>("crash", |pod| {
            container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let main = container(&crash);
    assert_eq!(phase(&crash), "Running");
    assert_eq!(main["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(main["lastState"]["terminated"]["message"], "oh\n");
    assert_eq!(main["restartCount"], 1);
    cluster
        .until_told("crash", "BackOff: Back-off restarting failed container main")
        .await;

    let unknown = pod("unknown", "true", "").replace(IMAGE, "registry.k8s.io/kube-apiserver:v1.2.3");
    cluster.create::<Pod>(&unknown).await;
    let unknown = cluster
        .until::<Pod>("unknown", |pod| {
            container(pod)["state"]["waiting"]["reason"] == "ImagePullBackOff"
        })
        .await;
    let message = container(&unknown)["state"]["waiting"]["message"].to_string();
    assert!(
        message.contains("cargo xtask tools kube-apiserver-1.2.3"),
        "{message}"
    );
    assert_eq!(phase(&unknown), "Pending");
    cluster
        .until_told("unknown", "Failed: Failed to pull image")
        .await;

    let host = pod("host", "true", "").replace(
        "spec:",
        "spec:\n          volumes: [{name: etc, hostPath: {path: /etc}}]",
    );
    cluster.create::<Pod>(&host).await;
    let host = cluster
        .until::<Pod>("host", |pod| {
            container(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    let message = container(&host)["state"]["waiting"]["message"].to_string();
    assert!(message.contains("hostPath is refused"), "{message}");
    cluster
        .until_told(
            "host",
            "Failed: Error: spec.volumes[0] (etc): hostPath is refused",
        )
        .await;
    cluster
        .api::<Pod>()
        .delete("host", &DeleteParams::default())
        .await
        .unwrap();
    cluster.until_gone::<Pod>("host").await;

    let once = pod("once", "exit 0", "").replace("spec:", "spec:\n          restartPolicy: Never");
    cluster.create::<Pod>(&once).await;
    let once = cluster
        .until::<Pod>("once", |pod| phase(pod) == "Succeeded")
        .await;
    assert_eq!(container(&once)["state"]["terminated"]["reason"], "Completed");
    podlet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_follows_its_secret() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    let script = "while [ \"$(cat /keys/a)\" != two ]; do sleep 0.02; done; exit 0";
    let text = pod("web", script, "volumeMounts: [{name: keys, mountPath: /keys}]").replace(
        "spec:",
        "spec:\n          restartPolicy: Never\n          volumes: [{name: keys, secret: {secretName: keys}}]",
    );
    cluster.create::<Pod>(&text).await;
    cluster
        .until_told(
            "web",
            "FailedMount: MountVolume.SetUp failed for volume \"keys\" : secret \"keys\" not found",
        )
        .await;
    cluster
        .create::<Secret>("{metadata: {name: keys}, stringData: {a: one}}")
        .await;
    cluster.until::<Pod>("web", |pod| phase(pod) == "Running").await;
    let two = Patch::Merge(json!({"stringData": {"a": "two"}}));
    cluster
        .api::<Secret>()
        .patch("keys", &PatchParams::default(), &two)
        .await
        .unwrap();
    cluster.until::<Pod>("web", |pod| phase(pod) == "Succeeded").await;
    podlet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_come_together_are_one_version_of_a_volume() {
    const CHANGES: usize = 40;
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    cluster
        .create::<Secret>("{metadata: {name: keys}, stringData: {a: before}}")
        .await;
    let script = format!(
        "while [ \"$(cat /keys/a)\" != {CHANGES} ]; do sleep 0.02; done; readlink /keys/..data > /dev/termination-log"
    );
    let text = pod("web", &script, "volumeMounts: [{name: keys, mountPath: /keys}]").replace(
        "spec:",
        "spec:\n          restartPolicy: Never\n          volumes: [{name: keys, secret: {secretName: keys}}]",
    );
    cluster.create::<Pod>(&text).await;
    cluster.until::<Pod>("web", |pod| phase(pod) == "Running").await;
    for change in 1..=CHANGES {
        let next = Patch::Merge(json!({"stringData": {"a": change.to_string()}}));
        cluster
            .api::<Secret>()
            .patch("keys", &PatchParams::default(), &next)
            .await
            .unwrap();
    }
    let pod = cluster.until::<Pod>("web", |pod| phase(pod) == "Succeeded").await;
    let shown = container(&pod)["state"]["terminated"]["message"].clone();
    let version = shown.as_str().and_then(|shown| shown.trim().strip_prefix(".."));
    let versions: usize = version.unwrap().parse().unwrap();
    assert!(versions < CHANGES / 2, "{versions} versions were shown");
    podlet.stop().await;
}

const CLAIM: &str = "
    metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_there_before_the_class_gets_it() {
    let cluster = Cluster::new();
    let claim = cluster.create::<PersistentVolumeClaim>(CLAIM).await;
    assert_eq!(claim.spec.unwrap().storage_class_name, None);
    cluster.create::<Pod>(&counting("one")).await;
    let podlet = podlet!(cluster);
    cluster.until::<Pod>("one", is_ready).await;
    let claim = cluster.api::<PersistentVolumeClaim>().get("data").await.unwrap();
    assert_eq!(claim.spec.unwrap().storage_class_name.as_deref(), Some(CLASS));
    podlet.stop().await;
}

/// A pod that counts in its claim, and says how far it has come by its name for its last words.
fn counting(name: &str) -> String {
    let script = format!("echo {name} >> /data/names; cat /data/names > /dev/termination-log; {SLEEP}");
    pod(name, &script, "volumeMounts: [{name: data, mountPath: /data}]").replace(
        "spec:",
        "spec:\n          volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_outlives_pods_and_podlets() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    let classes: Api<k8s_openapi::api::storage::v1::StorageClass> = Api::all(cluster.client.clone());
    common::until_async(async || classes.get_opt(CLASS).await.unwrap().is_some()).await;
    cluster.create::<PersistentVolumeClaim>(CLAIM).await;
    cluster.create::<Pod>(&counting("one")).await;
    cluster.until::<Pod>("one", is_ready).await;
    let claim = cluster.api::<PersistentVolumeClaim>().get("data").await.unwrap();
    assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));
    let volume = claim.spec.unwrap().volume_name.unwrap();
    let names = cluster.state_dir().join("claims").join(&volume).join("names");
    let read = || std::fs::read_to_string(&names).unwrap_or_default();
    common::until(|| read() == "one\n").await;

    // The podlet ends, and the pod with it; the next one starts it again.
    podlet.stop().await;
    let still = cluster.api::<Pod>().get("one").await.unwrap();
    assert_eq!(phase(&still), "Running");
    let podlet = podlet!(cluster);
    common::until(|| read() == "one\none\n").await;
    let again = cluster
        .until::<Pod>("one", |pod| is_ready(pod) && container(pod)["restartCount"] == 1)
        .await;
    assert_eq!(
        container(&again)["lastState"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );

    let api = cluster.api::<Pod>();
    api.delete("one", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Pod>("one").await;
    cluster.create::<Pod>(&counting("two")).await;
    common::until(|| read() == "one\none\ntwo\n").await;

    // The claim is deleted: it stays as long as it is used, and then its folder goes.
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    assert!(names.exists());
    api.delete("two", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<PersistentVolumeClaim>("data").await;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    common::until_async(async || volumes.get_opt(&volume).await.unwrap().is_none()).await;
    assert!(!names.parent().unwrap().exists());
    podlet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ignores_its_end_has_its_grace() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    let deaf = pod("deaf", "trap '' TERM; while :; do sleep 0.05; done", "").replace(
        "terminationGracePeriodSeconds: 5",
        "terminationGracePeriodSeconds: 1",
    );
    cluster.create::<Pod>(&deaf).await;
    cluster.until::<Pod>("deaf", is_ready).await;
    let entry = podlet.registry.find("default", "deaf", None).unwrap();
    cluster
        .api::<Pod>()
        .delete("deaf", &DeleteParams::default())
        .await
        .unwrap();
    cluster.until_gone::<Pod>("deaf").await;
    let state = entry.state.borrow().containers[0].state.clone();
    assert!(
        matches!(&state, clusterwright_podlet::pod::State::Terminated(ended) if ended.code == 137),
        "{state:?}"
    );
    podlet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_for_the_pod() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    let accounts = cluster.api::<k8s_openapi::api::core::v1::ServiceAccount>();
    common::until_async(async || accounts.get_opt("default").await.unwrap().is_some()).await;
    let text = pod(
        "web",
        "tr -cd . < /token/token > /dev/termination-log",
        "volumeMounts: [{name: token, mountPath: /token}]",
    )
    .replace(
        "spec:",
        "spec:
          restartPolicy: Never
          volumes:
          - name: token
            projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}",
    );
    cluster.create::<Pod>(&text).await;
    let web = cluster.until::<Pod>("web", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(container(&web)["state"]["terminated"]["message"], "..");
    podlet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_podlet_waits_through_an_api_server_that_fails() {
    let cluster = Cluster::new();
    let podlet = podlet!(cluster);
    cluster.create::<Pod>(&pod("first", SLEEP, "")).await;
    cluster.until::<Pod>("first", is_ready).await;
    let faults = cluster.server.faults();
    for fault in [Fault::Cut, Fault::Unavailable, Fault::Conflict] {
        faults.add(Rule::on("patch", "pods/status", fault));
    }
    faults.add(Rule::on("watch", "pods", Fault::DropWatch(Duration::from_millis(100))).times(20));
    faults.add(Rule::on("delete", "pods", Fault::Cut).name("first").nth(2));
    cluster.create::<Pod>(&pod("second", SLEEP, "")).await;
    cluster.until::<Pod>("second", is_ready).await;
    cluster
        .api::<Pod>()
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    cluster.until_gone::<Pod>("first").await;
    podlet.stop().await;
}
