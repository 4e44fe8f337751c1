//! The members of a hosted cluster's etcd, of real programs: added, removed and replaced while the cluster's users
//! write, and lost for good.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clusterwright_api::meta;
use clusterwright_testkit::{require, tools};
use common::control_plane::{Management, condition};
use common::hosted::{COMES_BACK, PAUSE, PROGRAMS, Writer};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

const NAME: &str = "alone";

/// The control plane, and where its volumes are.
struct Members {
    management: Management,
    folder: PathBuf,
}

impl Members {
    async fn set(&self, count: usize) {
        self.management
            .patch(json!({"spec": {"etcd": {"replicas": count}}}))
            .await;
        self.until_ready(&format!("{count} members")).await;
        let start = Instant::now();
        while [self.restarts().await.len(), self.claims().await] != [count; 2] {
            assert!(start.elapsed() < COMES_BACK, "{:?}", self.restarts().await);
            sleep(PAUSE).await;
        }
    }

    /// How many volumes are claimed.
    async fn claims(&self) -> usize {
        let claims = self.management.api::<PersistentVolumeClaim>();
        claims.list(&ListParams::default()).await.unwrap().items.len()
    }

    /// How often each member of etcd was restarted, with the uid of its pod.
    async fn restarts(&self) -> BTreeMap<String, (String, i32)> {
        let of_etcd = ListParams::default().labels(&format!("{}=etcd", meta::COMPONENT_LABEL));
        let pods = self.management.api::<Pod>().list(&of_etcd).await.unwrap().items;
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
        let sets = self.management.api::<StatefulSet>();
        let set = sets.get(&format!("{NAME}-etcd")).await.unwrap();
        json!(set.spec.unwrap().template)
    }

    async fn until_ready(&self, what: &str) {
        self.management.until_ready(what, async || {}).await;
    }

    /// Takes a member's data away, and restarts it.
    async fn lose_data(&self, member: &str) {
        std::fs::remove_dir_all(self.volume(member).await.join("data")).unwrap();
        let pods = self.management.api::<Pod>();
        pods.delete(member, &DeleteParams::default()).await.unwrap();
    }

    /// The folder of a member's volume.
    async fn volume(&self, member: &str) -> PathBuf {
        let claims = self.management.api::<PersistentVolumeClaim>();
        let claim = claims.get(&format!("etcd-data-{member}")).await.unwrap();
        find(&self.folder, &claim.spec.unwrap().volume_name.unwrap()).unwrap()
    }
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
    for name in PROGRAMS.iter().chain(&["kubectl"]) {
        require!(tools::find(name));
    }
    let temporary = tempfile::tempdir().unwrap();
    let spec = "{version: v1.36.3, replicas: 1, etcd: {replicas: 1}}";
    let (running, management, hosted) = Management::up(temporary.path(), NAME, spec).await;
    let members = Members {
        management,
        folder: temporary.path().to_owned(),
    };
    let writer = Writer::start(hosted);
    writer.goes_on("the start").await;
    let (alone, template) = (members.restarts().await, members.template().await);
    assert_eq!(alone.len(), 1);

    members.set(3).await;
    writer.goes_on("there are three members").await;
    let three = members.restarts().await;
    assert_eq!(three.get("alone-etcd-0"), alone.get("alone-etcd-0"));
    assert!(three.values().all(|(_, restarts)| *restarts == 0), "{three:?}");

    // The first member has led since the start.
    for lost in ["alone-etcd-0", "alone-etcd-2"] {
        let mut before = members.restarts().await;
        members.lose_data(lost).await;
        let added = format!("added {lost} as a learner");
        let start = Instant::now();
        while !members.management.described().contains(&added) {
            assert!(start.elapsed() < COMES_BACK, "{}", members.management.described());
            sleep(PAUSE).await;
        }
        members.until_ready("a new member").await;
        let mut after = members.restarts().await;
        assert_ne!(before.remove(lost), after.remove(lost));
        assert_eq!(before, after, "the others are left alone");
        writer.goes_on(&format!("{lost} lost its data")).await;
        let described = members.management.described();
        assert!(
            described.contains(&format!("added {lost} as a learner")),
            "{described}"
        );
    }

    members.set(1).await;
    writer.goes_on("there is one member").await;
    members.set(3).await;
    writer.goes_on("there are three again").await;
    assert_eq!(members.template().await, template);

    drop(writer);
    for lost in ["alone-etcd-0", "alone-etcd-1"] {
        members.lose_data(lost).await;
    }
    let is_told = |object: &Value| condition(object, "EtcdClusterAvailable")["reason"] == "EtcdQuorumLost";
    members
        .management
        .until("the loss of quorum", is_told, async || {})
        .await;
    let described = members.management.described();
    for words in ["quorum is lost", "alone-etcd-0, alone-etcd-1", "restore a backup"] {
        assert!(described.contains(words), "{words:?} is not in {described}");
    }
    let kept = members.volume("alone-etcd-2").await;
    assert!(kept.join("data/member/wal").is_dir());

    running.signal("TERM");
    let (status, said) = running.end();
    assert!(status.success(), "{said}");
}
