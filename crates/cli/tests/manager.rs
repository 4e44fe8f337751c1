//! `install` and `manager`, as a user runs them against a cluster.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod common;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use clusterwright_api::{Cluster, HostedControlPlane, cluster_crd};
use clusterwright_apiserver::companions::{Companions, Stages};
use clusterwright_apiserver::{ApiServer, Serving};
use clusterwright_testkit::process::free_port;
use clusterwright_testkit::{ControlPlane, KubeconfigUser, require, tools};
use common::{PATIENCE, Running, clusterwright};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::params::PatchParams;
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A cluster: the API server, and what makes pods live.
struct World {
    server: ApiServer,
    _serving: Serving,
    folder: TempDir,
    _stop: DropGuard,
}

impl World {
    async fn new() -> Self {
        let server = ApiServer::new();
        let serving = server.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kubeconfig"), serving.kubeconfig().unwrap()).unwrap();
        let stop = CancellationToken::new();
        let companions = Companions::new(server.client(), server.clock()).stages(Some(Stages::default()));
        tokio::spawn(companions.run(stop.clone()));
        Self {
            server,
            _serving: serving,
            folder,
            _stop: stop.drop_guard(),
        }
    }

    fn kubeconfig(&self) -> String {
        self.folder.path().join("kubeconfig").display().to_string()
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.server.client(), namespace)
    }

    /// Runs the binary to its end.
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = clusterwright(args);
        command.args(["--kubeconfig", &self.kubeconfig()]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Where Cluster API's core provider is installed.
    async fn with_clusters(self) -> Self {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.server.client());
        definitions
            .create(&PostParams::default(), &cluster_crd())
            .await
            .unwrap();
        self
    }

    async fn control_plane(&self, namespace: &str, name: &str, labels: Value) {
        let object: HostedControlPlane = serde_json::from_value(json!({
            "apiVersion": "controlplane.cluster.x-k8s.io/v1alpha1", "kind": "HostedControlPlane",
            "metadata": {"name": name, "labels": labels}, "spec": {"version": "v1.33.0", "replicas": 1},
        }))
        .unwrap();
        let object = self
            .api::<HostedControlPlane>(namespace)
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        let mut cluster: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io",
                "kind": "HostedControlPlane", "name": name}},
        }))
        .unwrap();
        cluster.metadata.labels = Some([("own".to_owned(), "label".to_owned())].into());
        let kind = kube::api::ApiResource::erase::<Cluster>(&());
        let cluster = Api::<DynamicObject>::namespaced_with(self.server.client(), namespace, &kind)
            .create(&PostParams::default(), &cluster)
            .await
            .unwrap();
        // What Cluster API's core manager does.
        let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2",
            "kind": "Cluster", "name": name, "uid": cluster.metadata.uid, "controller": true}],
            "labels": {"cluster.x-k8s.io/cluster-name": name}}});
        self.api::<HostedControlPlane>(namespace)
            .patch(
                &object.metadata.name.unwrap(),
                &PatchParams::default(),
                &kube::api::Patch::Merge(owner),
            )
            .await
            .unwrap();
    }

    async fn is_available(&self, namespace: &str, name: &str) -> bool {
        let object = self.api::<HostedControlPlane>(namespace).get(name).await.unwrap();
        serde_json::to_value(object).unwrap()["status"]["conditions"]
            .as_array()
            .is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|condition| condition["type"] == "Available" && condition["status"] == "True")
            })
    }
}

async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} does not come"));
}

/// The body of an answer to a plain GET; empty while nobody listens.
async fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
        return String::new();
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn manager(kubeconfig: &str, args: &[&str]) -> (Running, u16, u16) {
    let (health, metrics) = (free_port().unwrap(), free_port().unwrap());
    let mut command = clusterwright(&["manager", "--kubeconfig", kubeconfig]);
    command.args(["--health-probe-bind-address", &format!("127.0.0.1:{health}")]);
    command.args(["--metrics-bind-address", &format!("127.0.0.1:{metrics}")]);
    command.args(args);
    (Running::start(command), health, metrics)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_can_be_installed_again() {
    let world = World::new().await;
    let manager = world.api::<Deployment>("clusterwright-system");
    let install = async || {
        let output = world.run(&["install", "--image", "example.com/mine:v1"]).await;
        assert!(output.status.success(), "{}", text(&output));
        assert!(
            text(&output).contains("Deployment/clusterwright is installed"),
            "{}",
            text(&output)
        );
        // The deployment controller is done when the pod is there.
        eventually("the manager", async || {
            let manager = manager.get_status("clusterwright").await.unwrap();
            manager.status.and_then(|status| status.ready_replicas) == Some(1)
        })
        .await;
        serde_json::to_value(manager.get("clusterwright").await.unwrap()).unwrap()
    };
    let first = install().await;
    assert_eq!(
        first["spec"]["template"]["spec"]["containers"][0]["image"],
        "example.com/mine:v1"
    );
    let second = install().await;
    assert_eq!(second["spec"], first["spec"]);
    assert_eq!(second["metadata"]["generation"], first["metadata"]["generation"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_of_another_shape_is_named_and_taken_over_only_by_force() {
    let world = World::new().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.server.client());
    let mut other = clusterwright_api::crds().remove(0);
    other.spec.names.short_names = Some(vec!["other".to_owned()]);
    definitions.create(&PostParams::default(), &other).await.unwrap();
    let output = world.run(&["install", "--crds-only"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("spec.names.shortNames"),
        "{}",
        text(&output)
    );
    let output = world.run(&["install", "--crds-only", "--force"]).await;
    assert!(output.status.success(), "{}", text(&output));
    let names = definitions
        .get(&other.metadata.name.unwrap())
        .await
        .unwrap()
        .spec
        .names;
    assert_ne!(names.short_names, Some(vec!["other".to_owned()]));
    let namespaces: Api<Namespace> = Api::all(world.server.client());
    let namespaces = namespaces.list(&ListParams::default()).await.unwrap();
    assert!(
        namespaces
            .iter()
            .all(|namespace| namespace.metadata.name.as_deref() != Some("clusterwright-system"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_says_what_is_to_be_installed_first() {
    let world = World::new().await;
    let output = world.run(&["manager", "--leader-elect=false"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("with `clusterwright install`"),
        "{}",
        text(&output)
    );
    let output = world.run(&["install", "--crds-only"]).await;
    assert!(output.status.success(), "{}", text(&output));
    let output = world.run(&["manager", "--leader-elect=false"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output)
            .contains("the cluster has no clusters in cluster.x-k8s.io/v1beta2: install Cluster API"),
        "{}",
        text(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_works_on_what_it_is_told_to_and_gives_the_lease_back() {
    let world = World::new().await.with_clusters().await;
    let output = world.run(&["install", "--crds-only"]).await;
    assert!(output.status.success(), "{}", text(&output));
    let namespaces: Api<Namespace> = Api::all(world.server.client());
    let elsewhere = serde_json::from_value(json!({"metadata": {"name": "elsewhere"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &elsewhere)
        .await
        .unwrap();
    let mine = json!({"cluster.x-k8s.io/watch-filter": "mine"});
    world.control_plane("default", "mine", mine.clone()).await;
    world.control_plane("default", "filtered", json!({})).await;
    world.control_plane("elsewhere", "far", mine).await;

    let args = [
        "--watch-filter",
        "mine",
        "--namespace",
        "default",
        "--log-format",
        "json",
    ];
    let (manager, health, metrics) = manager(&world.kubeconfig(), &args);
    eventually("the control plane", async || {
        world.is_available("default", "mine").await
    })
    .await;
    assert!(
        get(health, "/readyz?verbose")
            .await
            .contains("readyz check passed")
    );
    assert!(get(health, "/healthz").await.contains("200 OK"));
    let figures = get(metrics, "/metrics").await;
    for line in [
        "controller_runtime_reconcile_total{controller=\"hostedcontrolplane\",result=\"success\"}",
        "leader_election_master_status{name=\"clusterwright\"} 1",
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
    for (namespace, name) in [("default", "filtered"), ("elsewhere", "far")] {
        let object = world
            .api::<HostedControlPlane>(namespace)
            .get(name)
            .await
            .unwrap();
        assert!(
            object.status.is_none() && object.metadata.finalizers.is_none(),
            "{name}"
        );
    }

    let lease = world.api::<Lease>("default");
    let holder = |lease: Lease| {
        lease
            .spec
            .and_then(|spec| spec.holder_identity)
            .unwrap_or_default()
    };
    assert_ne!(holder(lease.get("clusterwright").await.unwrap()), "");
    manager.signal("TERM");
    let (status, said) = tokio::task::spawn_blocking(|| manager.end()).await.unwrap();
    assert!(status.success(), "{said}");
    assert!(
        said.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{said}"
    );
    assert_eq!(holder(lease.get("clusterwright").await.unwrap()), "");
    assert!(Path::new(&world.kubeconfig()).exists());
}

#[test]
fn what_is_denied_is_named_with_the_way_out() {
    const TOKEN: &str = "powerless-token";
    for name in ["etcd", "kube-apiserver"] {
        require!(tools::find(name));
    }
    let control_plane = ControlPlane::builder()
        .user(TOKEN, "powerless", &["nobodies"])
        .start()
        .unwrap();
    let kubeconfig = control_plane
        .write_kubeconfig("powerless", &KubeconfigUser::Token(TOKEN))
        .unwrap();
    let said = |more: &[&str]| {
        let (manager, ..) = manager(&kubeconfig.display().to_string(), more);
        let (status, said) = manager.end();
        assert_eq!(status.code(), Some(1), "{said}");
        said
    };
    for (more, scope) in [
        (&[][..], "in all namespaces"),
        (&["--namespace", "team"][..], "in namespace team"),
    ] {
        let said = said(more);
        for part in [
            "the cluster does not allow what the controllers need",
            "list, watch, create, update, patch, delete secrets",
            "list, watch, patch hostedcontrolplanes.controlplane.cluster.x-k8s.io",
            scope,
            "deploy/install.yaml has the roles",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }

    // Who may do nearly all is told what is missing, and that alone.
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let admin = Kubeconfig::read_from(control_plane.kubeconfig()).unwrap();
        let admin = Config::from_custom_kubeconfig(admin, &KubeConfigOptions::default()).await;
        let admin = Client::try_from(admin.unwrap()).unwrap();
        let roles: Api<ClusterRole> = Api::all(admin.clone());
        let bindings: Api<ClusterRoleBinding> = Api::all(admin);
        let role = json!({"metadata": {"name": "nearly"}, "rules": [
            {"apiGroups": ["", "apps", "cluster.x-k8s.io", "controlplane.cluster.x-k8s.io"],
                "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": ["policy"], "resources": ["*"], "verbs": ["list", "create", "patch", "delete"]}]});
        let binding = json!({"metadata": {"name": "nearly"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nearly"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "powerless"}]});
        let (role, binding) = (serde_json::from_value(role), serde_json::from_value(binding));
        roles
            .create(&PostParams::default(), &role.unwrap())
            .await
            .unwrap();
        bindings
            .create(&PostParams::default(), &binding.unwrap())
            .await
            .unwrap();
        // The server learns of the role by a watch of its own.
        eventually("the role", async || {
            let said = tokio::task::block_in_place(|| said(&[]));
            said.contains("need in all namespaces: watch poddisruptionbudgets.policy; deploy/install.yaml")
        })
        .await;
    });
}
