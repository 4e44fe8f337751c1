//! One hosted control plane of real programs, as `up` brings it, and the cluster that it is in.

use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clusterwright_api::HostedControlPlane;
use clusterwright_testkit::tools;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::{Client, Resource};
use serde_json::Value;
use tokio::time::sleep;

use super::hosted::{COMES_BACK, PAUSE, client};
use super::{Running, clusterwright};

/// A Cluster and its control plane.
pub fn manifest(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {{name: {name}}}
spec:
  controlPlaneRef: {{apiGroup: controlplane.cluster.x-k8s.io, kind: HostedControlPlane, name: {name}}}
---
apiVersion: controlplane.cluster.x-k8s.io/v1alpha1
kind: HostedControlPlane
metadata: {{name: {name}}}
spec: {spec}
"
    )
}

/// What kubectl says.
pub fn kubectl(kubeconfig: &str, args: &[&str]) -> String {
    let program = tools::find("kubectl").unwrap();
    let output = Command::new(program)
        .args(["--kubeconfig", kubeconfig, "--cache-dir", "/dev/null"])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A condition of an object; null where it has none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// The management cluster.
pub struct Management {
    name: &'static str,
    kubeconfig: String,
    client: Client,
}

impl Management {
    /// Starts `up` with one control plane, and waits until it is ready; gives the process, the management cluster and a
    /// client of the hosted one.
    pub async fn up(folder: &Path, name: &'static str, spec: &str) -> (Running, Self, Client) {
        let file = folder.join("manifest.yaml");
        std::fs::write(&file, manifest(name, spec)).unwrap();
        let mut command = clusterwright(&["up", "--pods", "process", "-f", file.to_str().unwrap()]);
        command.env("TMPDIR", folder);
        let mut running = Running::start(command);
        let kubeconfig = running.line("export KUBECONFIG=");
        let hosted = running.line("export KUBECONFIG=");
        let hosted = Kubeconfig::read_from(hosted.split_once("  # ").unwrap().0).unwrap();
        let management = Self {
            name,
            client: client(Kubeconfig::read_from(&kubeconfig).unwrap()).await,
            kubeconfig,
        };
        (running, management, client(hosted).await)
    }

    /// The objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::default_namespaced(self.client.clone())
    }

    /// Changes the control plane.
    pub async fn patch(&self, patch: Value) {
        let patch = Patch::Merge(patch);
        let objects = self.api::<HostedControlPlane>();
        objects
            .patch(self.name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits until this holds of the control plane; does the other meanwhile.
    pub async fn until(
        &self,
        what: impl Debug,
        holds: impl Fn(&Value) -> bool,
        mut meanwhile: impl AsyncFnMut(),
    ) -> Value {
        let start = Instant::now();
        loop {
            meanwhile().await;
            let object = self.api::<HostedControlPlane>().get(self.name).await.unwrap();
            let object = serde_json::to_value(object).unwrap();
            if holds(&object) {
                return object;
            }
            let in_time = start.elapsed() < COMES_BACK;
            assert!(in_time, "{what:?} did not come about: {:#}", object["status"]);
            sleep(PAUSE).await;
        }
    }

    /// Waits until all is as the spec wants it.
    pub async fn until_ready(&self, what: impl Debug, meanwhile: impl AsyncFnMut()) -> Value {
        let ready = |object: &Value| {
            let ready = condition(object, "Ready");
            ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"]
        };
        self.until(what, ready, meanwhile).await
    }

    /// The control plane as a user reads it.
    pub fn described(&self) -> String {
        kubectl(&self.kubeconfig, &["describe", "hostedcontrolplane", self.name])
    }
}
