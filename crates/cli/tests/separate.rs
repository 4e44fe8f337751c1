//! API server, manager and podlet as processes of their own, each of which, and each pod's process, may be killed at any
//! time: the hosted cluster comes back with all that it acknowledged.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clusterwright_api::{HostedControlPlane, cluster_crd};
use clusterwright_podlet::network::objects::host_ports;
use clusterwright_testkit::process::free_port;
use clusterwright_testkit::{require, tools};
use common::hosted::{COMES_BACK, PAUSE, Writer, client};
use common::{Running, clusterwright};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const NODE: &str = "machine";

/// The three processes.
struct Processes {
    folder: PathBuf,
    port: u16,
    kubeconfig: String,
}

impl Processes {
    fn api_server(&self) -> Running {
        let (data, listen) = (self.folder.join("data"), format!("127.0.0.1:{}", self.port));
        let args = ["apiserver", "--bind-to", NODE, "--listen", &listen, "--data-dir"];
        let mut server = Running::start(clusterwright(&[&args[..], &[data.to_str().unwrap()]].concat()));
        assert_eq!(server.line("export KUBECONFIG="), self.kubeconfig);
        server
    }

    fn podlet(&self) -> Running {
        let state = self.folder.join("podlet");
        let args = ["podlet", "--node-name", NODE, "--kubeconfig", &self.kubeconfig];
        let state = ["--state-dir", state.to_str().unwrap()];
        let mut podlet = Running::start(clusterwright(&[&args[..], &state].concat()));
        podlet.line("# node machine ");
        podlet
    }

    fn manager(&self) -> Running {
        let ports = [free_port().unwrap(), free_port().unwrap()].map(|port| format!("127.0.0.1:{port}"));
        let args = [
            "manager",
            "--leader-elect=false",
            "--kubeconfig",
            &self.kubeconfig,
        ];
        let more = [
            "--metrics-bind-address",
            &ports[0],
            "--health-probe-bind-address",
            &ports[1],
        ];
        Running::start(clusterwright(&[&args[..], &more].concat()))
    }
}

/// Makes a control plane of one API server, as Cluster API's core manager would see to it.
async fn control_plane(client: &Client, name: &str) {
    let objects = Api::<HostedControlPlane>::default_namespaced(client.clone());
    let object: HostedControlPlane = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"version": "v1.36.3", "replicas": 1},
    }))
    .unwrap();
    objects.create(&PostParams::default(), &object).await.unwrap();
    let kind = ApiResource::erase::<clusterwright_api::Cluster>(&());
    let clusters = Api::<DynamicObject>::default_namespaced_with(client.clone(), &kind);
    let cluster: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"name": name},
        "spec": {"controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io",
            "kind": "HostedControlPlane", "name": name}},
    }))
    .unwrap();
    let cluster = clusters.create(&PostParams::default(), &cluster).await.unwrap();
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster", "name": name, "uid": cluster.metadata.uid, "controller": true}],
        "labels": {"cluster.x-k8s.io/cluster-name": name}}});
    let owner = Patch::Merge(owner);
    objects
        .patch(name, &PatchParams::default(), &owner)
        .await
        .unwrap();
}

async fn until_available(client: &Client, name: &str) {
    let objects = Api::<HostedControlPlane>::default_namespaced(client.clone());
    let available = async {
        loop {
            let object = objects
                .get(name)
                .await
                .map(|object| serde_json::to_value(object).unwrap());
            let conditions = object
                .as_ref()
                .ok()
                .and_then(|object| object["status"]["conditions"].as_array());
            let holds = |condition: &Value| condition["type"] == "Available" && condition["status"] == "True";
            if conditions.is_some_and(|conditions| conditions.iter().any(holds)) {
                return;
            }
            sleep(PAUSE).await;
        }
    };
    let in_time = timeout(COMES_BACK, available).await.is_ok();
    let object = objects.get(name).await.map(|object| object.status);
    assert!(in_time, "{object:#?}");
}

/// The hosted cluster, as it is reached from this machine.
async fn hosted(management: &Client, name: &str) -> Client {
    let services: Api<Service> = Api::default_namespaced(management.clone());
    let port = loop {
        let service = services.get(&format!("s-{name}")).await.unwrap();
        if let Some(port) = host_ports(&service).get(&6443) {
            break *port;
        }
        sleep(PAUSE).await;
    };
    let secrets: Api<Secret> = Api::default_namespaced(management.clone());
    let secret = secrets.get(&format!("{name}-kubeconfig")).await.unwrap();
    let mut kubeconfig =
        Kubeconfig::from_yaml(std::str::from_utf8(&secret.data.unwrap()["value"].0).unwrap()).unwrap();
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        cluster.server = Some(format!("https://127.0.0.1:{port}"));
    }
    client(kubeconfig).await
}

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

fn kill(process: &str) {
    let killed = Command::new("kill")
        .args(["-s", "KILL", process])
        .status()
        .unwrap();
    assert!(killed.success());
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
    for name in [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ] {
        require!(tools::find(name));
    }
    let folder = tempfile::tempdir().unwrap();
    let processes = Processes {
        folder: folder.path().to_owned(),
        port: free_port().unwrap(),
        kubeconfig: folder.path().join("data/kubeconfig").to_str().unwrap().to_owned(),
    };
    let name = unique(folder.path());
    let mut api_server = processes.api_server();
    let installed =
        clusterwright(&["install", "--crds-only", "--kubeconfig", &processes.kubeconfig]).output();
    assert!(installed.unwrap().status.success());
    let management = client(Kubeconfig::read_from(&processes.kubeconfig).unwrap()).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(management.clone());
    definitions
        .create(&PostParams::default(), &cluster_crd())
        .await
        .unwrap();
    let mut podlet = processes.podlet();
    let mut manager = processes.manager();
    control_plane(&management, &name).await;
    until_available(&management, &name).await;

    let writer = Writer::start(hosted(&management, &name).await);
    writer.goes_on("nothing").await;
    for member in 0..2 {
        kill(&process(&format!("--name={name}-etcd-{member}")));
        writer.goes_on("a member of etcd").await;
    }
    kill(&process(&format!("kube-apiserver .*{name}-etcd-0")));
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
