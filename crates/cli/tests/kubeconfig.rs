//! `get kubeconfig`, as a user runs it against a management cluster.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use base64::Engine as _;
use clusterwright_api::HostedControlPlane;
use clusterwright_apiserver::{ApiServer, Serving, User};
use clusterwright_hosted::pki::{Facts, Material, Root, signed_by};
use common::clusterwright;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A management cluster with the control plane `demo-cp` of Cluster `demo` in namespace `team`.
struct World {
    server: ApiServer,
    serving: Serving,
    folder: TempDir,
    root: Material,
}

impl World {
    async fn new() -> Self {
        let server = ApiServer::builder().rbac().build();
        let serving = server.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            root: Material::make_root(Root::Cluster, Timestamp::now()).unwrap(),
            server,
            serving,
        };
        std::fs::write(world.path("admin"), world.serving.kubeconfig().unwrap()).unwrap();
        let install = clusterwright(&["install", "--crds-only", "--kubeconfig", &world.path("admin")]);
        assert!(world.end(install).await.status.success());
        let namespace = json!({"metadata": {"name": "team"}});
        Api::<Namespace>::all(world.server.client())
            .create(&PostParams::default(), &object(namespace))
            .await
            .unwrap();
        let control_plane = json!({
            "metadata": {"name": "demo-cp", "labels": {"cluster.x-k8s.io/cluster-name": "demo"}},
            "spec": {"version": "v1.36.3", "replicas": 1, "controlPlaneEndpoint": {"host": "fd00::1", "port": 6443}},
        });
        world.create::<HostedControlPlane>(control_plane).await;
        let service = json!({"metadata": {"name": "s-demo"}, "spec": {"ports": [{"port": 8443}]}});
        world.create::<Service>(service).await;
        let metadata = serde_json::from_value(json!({"name": "demo-ca"})).unwrap();
        let secret = serde_json::to_value(world.root.root_secret(metadata)).unwrap();
        world.create::<Secret>(secret).await;
        world
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.server.client(), "team")
    }

    async fn create<K>(&self, value: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = object(value);
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    /// Says how the control plane stands.
    async fn status(&self, status: Value) {
        self.api::<HostedControlPlane>()
            .patch_status(
                "demo-cp",
                &PatchParams::default(),
                &Patch::Merge(json!({"status": status})),
            )
            .await
            .unwrap();
    }

    async fn end(&self, mut command: std::process::Command) -> Output {
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Runs `get kubeconfig` as that user.
    async fn get_as(&self, user: &str, args: &[&str]) -> Output {
        let user = self.path(user);
        let common = ["get", "kubeconfig", "--kubeconfig", &user, "-n", "team"];
        self.end(clusterwright(&[&common[..], args].concat())).await
    }

    async fn get(&self, args: &[&str]) -> Output {
        self.get_as("admin", args).await
    }

    /// What it refuses with.
    async fn refused(&self, args: &[&str]) -> String {
        told(&self.get(args).await)
    }
}

fn told(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "nothing is printed beside an error");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

const INITIALIZED: &str = r#"{"initialization": {"controlPlaneInitialized": true}}"#;

/// A kubeconfig's cluster and user.
fn read(text: &str) -> (Cluster, AuthInfo) {
    let config = Kubeconfig::from_yaml(text).unwrap();
    assert!(config.current_context.is_some());
    let cluster = config.clusters[0].cluster.clone().unwrap();
    (cluster, config.auth_infos[0].auth_info.clone().unwrap())
}

fn certificate(user: &AuthInfo) -> String {
    let data = user.client_certificate_data.as_ref().unwrap();
    let pem = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    String::from_utf8(pem).unwrap()
}

/// The certificate's facts; it ends between these two times.
fn facts(world: &World, user: &AuthInfo, ends: [Timestamp; 2]) -> Facts {
    let certificate = certificate(user);
    assert!(signed_by(&certificate, world.root.certificate()).unwrap());
    let facts = Facts::read(&certificate).unwrap();
    let [from, to] = ends.map(Timestamp::as_second);
    assert!((from..=to).contains(&facts.not_after), "{facts:?}");
    assert!(facts.client && !facts.server && !facts.is_authority);
    facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_an_administrators_for_an_hour_unless_another_is_named() {
    let world = World::new().await;
    world.status(serde_json::from_str(INITIALIZED).unwrap()).await;
    let in_an_hour = || Timestamp::now() + SignedDuration::from_hours(1);

    let before = in_an_hour();
    // By the Cluster's name, and by its own.
    for name in ["demo", "demo-cp"] {
        let output = world.get(&[name]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let (cluster, user) = read(&text);
        assert_eq!(cluster.server.as_deref(), Some("https://[fd00::1]:6443"));
        let facts = facts(&world, &user, [before, in_an_hour()]);
        assert_eq!(facts.common_name, "kubernetes-admin");
        assert_eq!(facts.organizations, ["system:masters".to_owned()].into());
    }

    let path = world.path("jane.kubeconfig");
    let jane = [
        "demo", "--user", "jane", "--group", "a", "--ttl", "1m", "-o", &path,
    ];
    let in_a_minute = || Timestamp::now() + SignedDuration::from_mins(1);
    let before = in_a_minute();
    let output = world.get(&[&jane[..], &["--internal"]].concat()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("jane of demo at https://s-demo.team.svc:8443 until"),
        "{said}"
    );
    assert!(!said.contains("PRIVATE"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (cluster, user) = read(&text);
    assert_eq!(cluster.server.as_deref(), Some("https://s-demo.team.svc:8443"));
    let facts = facts(&world, &user, [before, in_a_minute()]);
    assert_eq!(facts.common_name, "jane");
    assert_eq!(facts.organizations, ["a".to_owned()].into());
    // A user without a group is in none.
    let output = world
        .get(&["demo", "--user", "joe", "--server", "https://127.0.0.1:1"])
        .await;
    let (cluster, user) = read(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:1"));
    assert!(Facts::read(&certificate(&user)).unwrap().organizations.is_empty());

    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    // A file that is there is left alone, unless it is to be replaced; then its mode is not kept.
    let said = world.refused(&jane).await;
    assert!(said.contains("--force"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = world.get(&[&jane[..], &["--force"]].concat()).await;
    assert!(output.status.success());
    assert_ne!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(mode(&path), 0o600);
    let said = world
        .refused(&["demo", "-o", &world.path("no/such/folder")])
        .await;
    assert!(said.contains("failed to write"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_can_not_do_it_says_with_the_way_out() {
    let world = World::new().await;
    let said = world.refused(&["other"]).await;
    assert!(
        said.contains("no HostedControlPlane and no hosted Cluster other in namespace team"),
        "{said}"
    );
    let ready = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "WaitingForEtcdMembers",
        "message": "etcd: 0 of 3 members are ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    world.status(ready).await;
    let said = world.refused(&["demo"]).await;
    assert!(
        said.contains("has not answered yet (etcd: 0 of 3 members are ready)")
            && said.contains("kubectl wait"),
        "{said}"
    );
    world.status(serde_json::from_str(INITIALIZED).unwrap()).await;

    // Who may see the control plane may not therefore sign for it.
    let viewer = User::new("viewer", ["system:authenticated"]);
    std::fs::write(
        world.path("viewer"),
        world.serving.kubeconfig_for(&viewer).unwrap(),
    )
    .unwrap();
    let role = json!({"metadata": {"name": "viewer"}, "rules": [
        {"apiGroups": ["controlplane.cluster.x-k8s.io"], "resources": ["*"], "verbs": ["get", "list"]},
    ]});
    let binding = json!({"metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "viewer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}]});
    Api::<ClusterRole>::all(world.server.client())
        .create(&PostParams::default(), &object(role))
        .await
        .unwrap();
    Api::<ClusterRoleBinding>::all(world.server.client())
        .create(&PostParams::default(), &object(binding))
        .await
        .unwrap();
    let said = told(&world.get_as("viewer", &["demo"]).await);
    assert!(
        said.contains("needs the verb get on it") && said.contains("forbidden"),
        "{said}"
    );

    let secrets = world.api::<Secret>();
    let garbage = json!({"data": {"tls.crt": "Z2FyYmFnZQ=="}});
    secrets
        .patch("demo-ca", &PatchParams::default(), &Patch::Merge(garbage))
        .await
        .unwrap();
    let said = world.refused(&["demo"]).await;
    assert!(
        said.contains("team/demo-ca") && said.contains("certificate"),
        "{said}"
    );
    secrets.delete("demo-ca", &DeleteParams::default()).await.unwrap();
    let said = world.refused(&["demo"]).await;
    assert!(said.contains("restore it from a backup"), "{said}");

    for (ttl, word) in [
        ("30s", "shorter than a minute"),
        ("-1h", ""),
        ("0s", "shorter"),
        ("169h", "longer than 168h"),
        ("an hour", "failed to read the duration"),
    ] {
        let output = world.get(&["demo", "--ttl", ttl]).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{ttl}: {said}");
        assert!(said.contains("--ttl") && said.contains(word), "{ttl}: {said}");
    }
}
