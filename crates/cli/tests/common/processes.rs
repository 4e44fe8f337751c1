//! API server, manager and podlet as processes of their own.

use std::path::{Path, PathBuf};

use clusterwright_api::{HostedControlPlane, cluster_crd};
use clusterwright_podlet::network::objects::host_ports;
use clusterwright_testkit::process::free_port;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::control_plane::condition;
use super::hosted::{COMES_BACK, PAUSE, client};
use super::{Running, clusterwright};

const NODE: &str = "machine";
/// The three processes.
pub struct Processes {
    folder: PathBuf,
    port: u16,
    pub kubeconfig: String,
}

impl Processes {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            port: free_port().unwrap(),
            kubeconfig: folder.join("data/kubeconfig").to_str().unwrap().to_owned(),
        }
    }

    /// Installs the definitions; gives a client of the API server, which has to run.
    pub async fn install(&self) -> Client {
        let mut installing = clusterwright(&["install", "--crds-only", "--kubeconfig", &self.kubeconfig]);
        assert!(installing.output().unwrap().status.success());
        let management = client(Kubeconfig::read_from(&self.kubeconfig).unwrap()).await;
        let definitions: Api<CustomResourceDefinition> = Api::all(management.clone());
        definitions
            .create(&PostParams::default(), &cluster_crd())
            .await
            .unwrap();
        management
    }

    pub fn api_server(&self) -> Running {
        let (data, listen) = (self.folder.join("data"), format!("127.0.0.1:{}", self.port));
        let args = ["apiserver", "--bind-to", NODE, "--listen", &listen, "--data-dir"];
        let mut server = Running::start(clusterwright(&[&args[..], &[data.to_str().unwrap()]].concat()));
        assert_eq!(server.line("export KUBECONFIG="), self.kubeconfig);
        server
    }

    pub fn podlet(&self) -> Running {
        let state = self.folder.join("podlet");
        let args = ["podlet", "--node-name", NODE, "--kubeconfig", &self.kubeconfig];
        let state = ["--state-dir", state.to_str().unwrap()];
        let mut podlet = Running::start(clusterwright(&[&args[..], &state].concat()));
        podlet.line("# node machine ");
        podlet
    }

    pub fn manager(&self) -> Running {
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
pub async fn control_plane(client: &Client, name: &str) {
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

pub async fn until_available(client: &Client, name: &str) {
    until(client, name, |object| {
        condition(object, "Available")["status"] == "True"
    })
    .await;
}

/// Waits until this holds of the control plane; a server that does not answer is waited for too.
pub async fn until(client: &Client, name: &str, holds: impl Fn(&Value) -> bool) {
    let objects = Api::<HostedControlPlane>::default_namespaced(client.clone());
    let held = async {
        loop {
            let object = objects.get(name).await;
            if object.is_ok_and(|object| holds(&serde_json::to_value(object).unwrap())) {
                return;
            }
            sleep(PAUSE).await;
        }
    };
    let in_time = timeout(COMES_BACK, held).await.is_ok();
    let object = objects.get(name).await.map(|object| object.status);
    assert!(in_time, "{object:#?}");
}

/// The hosted cluster's URL, as it is reached from this machine.
pub async fn url(client: &Client, name: &str) -> String {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    loop {
        let service = services.get(&format!("s-{name}")).await.unwrap();
        if let Some(port) = host_ports(&service).get(&6443) {
            return format!("https://127.0.0.1:{port}");
        }
        sleep(PAUSE).await;
    }
}

/// The hosted cluster, by its administrator's kubeconfig.
pub async fn hosted(management: &Client, name: &str) -> Client {
    let url = url(management, name).await;
    let secrets: Api<Secret> = Api::default_namespaced(management.clone());
    let secret = secrets.get(&format!("{name}-kubeconfig")).await.unwrap();
    let mut kubeconfig =
        Kubeconfig::from_yaml(std::str::from_utf8(&secret.data.unwrap()["value"].0).unwrap()).unwrap();
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        cluster.server = Some(url.clone());
    }
    client(kubeconfig).await
}
