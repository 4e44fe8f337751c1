//! What has to be true of etcd's members on every server.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::harness::{Bench, NAME, condition};

/// The pods of etcd, with their uids.
async fn members(bench: &Bench) -> BTreeMap<String, String> {
    let list = ListParams::default().labels("app.kubernetes.io/component=etcd");
    let pods = bench.api::<Pod>().list(&list).await.unwrap().items;
    pods.into_iter()
        .map(|pod| (pod.name_any(), pod.uid().unwrap()))
        .collect()
}

/// The templates of etcd and of the API servers.
async fn templates(bench: &Bench) -> [Value; 2] {
    let set: StatefulSet = bench.api().get(&format!("{NAME}-etcd")).await.unwrap();
    let servers: Deployment = bench.api().get(&format!("{NAME}-api-server")).await.unwrap();
    [
        json!(set.spec.unwrap().template),
        json!(servers.spec.unwrap().template),
    ]
}

async fn until_members(bench: &Bench, count: usize) {
    bench.until_ready().await;
    for _ in 0..2000 {
        let claims = bench.api::<PersistentVolumeClaim>();
        let claims = claims.list(&ListParams::default()).await.unwrap().items.len();
        if members(bench).await.len() == count && claims == count {
            return bench.until_ready().await;
        }
        tokio::time::sleep(bench.pause).await;
    }
    let object = json!(bench.get().await);
    panic!("there are {:?}: {object:#}", members(bench).await.keys());
}

/// From one to three and back; who stays is not restarted, and no template changes.
pub async fn etcd_grows_and_shrinks(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({"etcd": {"replicas": 1}})).await;
    until_members(bench, 1).await;
    let (alone, before) = (members(bench).await, templates(bench).await);
    bench
        .patch(json!({"spec": {"etcd": {"replicas": 3}}}))
        .await
        .unwrap();
    until_members(bench, 3).await;
    let three = members(bench).await;
    assert_eq!(three.get("demo-etcd-0"), alone.get("demo-etcd-0"));
    bench
        .patch(json!({"spec": {"etcd": {"replicas": 1}}}))
        .await
        .unwrap();
    until_members(bench, 1).await;
    assert_eq!(members(bench).await, alone);
    assert_eq!(templates(bench).await, before);
    for count in [0, 2, 4] {
        let refused = bench.patch(json!({"spec": {"etcd": {"replicas": count}}})).await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("spec.etcd.replicas: Unsupported value"),
            "{refused}"
        );
    }
}

/// A member whose data is gone comes back as a new one; the others stay.
pub async fn a_member_that_lost_its_data_is_replaced(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    for lost in ["demo-etcd-0", "demo-etcd-2"] {
        let mut before = members(bench).await;
        bench.replace_member(lost).await;
        until_members(bench, 3).await;
        let mut after = members(bench).await;
        assert_ne!(before.remove(lost), after.remove(lost));
        assert_eq!(before, after);
    }
}

/// With a majority gone nothing is touched; with it back, all goes on.
pub async fn a_lost_majority_is_told(bench: &mut Bench) {
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;
    let saved = tempfile::tempdir().unwrap();
    for lost in ["demo-etcd-0", "demo-etcd-1"] {
        let log = bench.world.volume(lost).join("data/member/wal/0.wal");
        std::fs::rename(&log, saved.path().join(lost)).unwrap();
        bench.lose_data(lost).await;
    }
    bench
        .until("the loss is told", |object| {
            object.is_some_and(|object| {
                condition(object, "EtcdClusterAvailable").is_some_and(|condition| {
                    condition.reason == "EtcdQuorumLost"
                        && condition.message.contains("2 of 3")
                        && condition.message.contains("demo-etcd-0, demo-etcd-1")
                })
            })
        })
        .await;
    let book = |bench: &Bench| {
        let maps = bench.api::<k8s_openapi::api::core::v1::ConfigMap>();
        async move { maps.get(&format!("{NAME}-etcd")).await.unwrap().data }
    };
    let before = book(bench).await;
    tokio::time::sleep(bench.pause * 50).await;
    assert_eq!(book(bench).await, before);
    for lost in ["demo-etcd-0", "demo-etcd-1"] {
        let folder = bench.world.volume(lost).join("data/member/wal");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::rename(saved.path().join(lost), folder.join("0.wal")).unwrap();
    }
    bench.until_ready().await;
}
