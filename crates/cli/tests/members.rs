//! The members of a hosted cluster's etcd, of real programs: added, removed and replaced while the cluster's users
//! write, and lost for good.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clusterwright_api::{HostedControlPlane, meta};
use clusterwright_testkit::{require, tools};
use common::hosted::{COMES_BACK, PAUSE, Writer, client};
use common::{Running, clusterwright};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, ResourceExt};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::time::sleep;

const NAME: &str = "alone";

const MANIFEST: &str = "
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: alone}
spec:
  controlPlaneRef: {apiGroup: controlplane.cluster.x-k8s.io, kind: HostedControlPlane, name: alone}
---
apiVersion: controlplane.cluster.x-k8s.io/v1alpha1
kind: HostedControlPlane
metadata: {name: alone}
spec: {version: v1.36.3, replicas: 1, etcd: {replicas: 1}}
";

/// The management cluster.
struct Management {
    kubeconfig: String,
    folder: PathBuf,
    objects: Api<HostedControlPlane>,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    sets: Api<StatefulSet>,
}

impl Management {
    async fn members(&self, count: i32) {
        let patch = Patch::Merge(json!({"spec": {"etcd": {"replicas": count}}}));
        let patched = self.objects.patch(NAME, &PatchParams::default(), &patch).await;
        patched.unwrap();
        self.until_ready(&format!("{count} members")).await;
        let start = Instant::now();
        while self.restarts().await.len() != usize::try_from(count).unwrap()
            || self
                .claims
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .len()
                != usize::try_from(count).unwrap()
        {
            assert!(start.elapsed() < COMES_BACK, "{:?}", self.restarts().await);
            sleep(PAUSE).await;
        }
    }

    /// How often each member of etcd was restarted, with the uid of its pod.
    async fn restarts(&self) -> BTreeMap<String, (String, i32)> {
        let of_etcd = ListParams::default().labels(&format!("{}=etcd", meta::COMPONENT_LABEL));
        let pods = self.pods.list(&of_etcd).await.unwrap().items;
        let restarts = |pod: &Pod| {
            let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
            Some(statuses.first()?.restart_count)
        };
        pods.into_iter()
            .map(|pod| {
                let restarts = restarts(&pod).unwrap_or_default();
                (pod.name_any(), (pod.uid().unwrap(), restarts))
            })
            .collect()
    }

    async fn template(&self) -> Value {
        let set = self.sets.get(&format!("{NAME}-etcd")).await.unwrap();
        json!(set.spec.unwrap().template)
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let object = serde_json::to_value(self.objects.get(NAME).await.unwrap()).unwrap();
            if holds(&object) {
                return;
            }
            let in_time = start.elapsed() < COMES_BACK;
            assert!(in_time, "{what} did not come about: {:#}", object["status"]);
            sleep(PAUSE).await;
        }
    }

    async fn until_ready(&self, what: &str) {
        self.until(what, |object| {
            let ready = condition(object, "Ready");
            ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"]
        })
        .await;
    }

    /// Takes a member's data away, and restarts it.
    async fn lose_data(&self, member: &str) {
        std::fs::remove_dir_all(self.volume(member).await.join("data")).unwrap();
        let gone = self.pods.delete(member, &DeleteParams::default()).await;
        gone.unwrap();
    }

    /// The folder of a member's volume.
    async fn volume(&self, member: &str) -> PathBuf {
        let claim = self.claims.get(&format!("etcd-data-{member}")).await.unwrap();
        find(&self.folder, &claim.spec.unwrap().volume_name.unwrap()).unwrap()
    }

    /// As a user reads it.
    fn described(&self) -> String {
        let program = tools::find("kubectl").unwrap();
        let output = Command::new(program)
            .args(["--kubeconfig", &self.kubeconfig, "--cache-dir", "/dev/null"])
            .args(["describe", "hostedcontrolplane", NAME])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// The folder of this name in this one, however deep, that holds data of etcd.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(folder).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.path())
    });
    folders.into_iter().find_map(|path| {
        let is_it = path.file_name()?.to_str() == Some(name) && path.join("data").is_dir();
        if is_it { Some(path) } else { find(&path, name) }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_nothing_that_was_acknowledged_is_lost() {
    for name in [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubectl",
    ] {
        require!(tools::find(name));
    }
    let temporary = tempfile::tempdir().unwrap();
    let manifest = temporary.path().join("manifest.yaml");
    std::fs::write(&manifest, MANIFEST).unwrap();
    let mut command = clusterwright(&["up", "--pods", "process", "-f", manifest.to_str().unwrap()]);
    command.env("TMPDIR", temporary.path());
    let mut running = Running::start(command);
    let kubeconfig = running.line("export KUBECONFIG=");
    let hosted = running.line("export KUBECONFIG=");
    let hosted = Kubeconfig::read_from(hosted.split_once("  # ").unwrap().0).unwrap();
    let as_user = client(Kubeconfig::read_from(&kubeconfig).unwrap()).await;
    let management = Management {
        kubeconfig,
        folder: temporary.path().to_owned(),
        objects: Api::default_namespaced(as_user.clone()),
        pods: Api::default_namespaced(as_user.clone()),
        claims: Api::default_namespaced(as_user.clone()),
        sets: Api::default_namespaced(as_user),
    };
    let writer = Writer::start(client(hosted).await);
    writer.goes_on("the start").await;
    let (alone, template) = (management.restarts().await, management.template().await);
    assert_eq!(alone.len(), 1);

    management.members(3).await;
    writer.goes_on("there are three members").await;
    let three = management.restarts().await;
    assert_eq!(three.get("alone-etcd-0"), alone.get("alone-etcd-0"));
    assert!(three.values().all(|(_, restarts)| *restarts == 0), "{three:?}");

    // The first member has led since the start.
    for lost in ["alone-etcd-0", "alone-etcd-2"] {
        let mut before = management.restarts().await;
        management.lose_data(lost).await;
        let added = format!("added {lost} as a learner");
        let start = Instant::now();
        while !management.described().contains(&added) {
            assert!(start.elapsed() < COMES_BACK, "{}", management.described());
            sleep(PAUSE).await;
        }
        management.until_ready("a new member").await;
        let mut after = management.restarts().await;
        assert_ne!(before.remove(lost), after.remove(lost));
        assert_eq!(before, after, "the others are left alone");
        writer.goes_on(&format!("{lost} lost its data")).await;
        let described = management.described();
        assert!(
            described.contains(&format!("added {lost} as a learner")),
            "{described}"
        );
    }

    management.members(1).await;
    writer.goes_on("there is one member").await;
    management.members(3).await;
    writer.goes_on("there are three again").await;
    assert_eq!(management.template().await, template);

    drop(writer);
    for lost in ["alone-etcd-0", "alone-etcd-1"] {
        management.lose_data(lost).await;
    }
    let is_told = |object: &Value| condition(object, "EtcdClusterAvailable")["reason"] == "EtcdQuorumLost";
    management.until("the loss of quorum", is_told).await;
    let described = management.described();
    for words in ["quorum is lost", "alone-etcd-0, alone-etcd-1", "restore a backup"] {
        assert!(described.contains(words), "{words:?} is not in {described}");
    }
    let kept = management.volume("alone-etcd-2").await;
    assert!(kept.join("data/member/wal").is_dir());

    running.signal("TERM");
    let (status, said) = running.end();
    assert!(status.success(), "{said}");
}
