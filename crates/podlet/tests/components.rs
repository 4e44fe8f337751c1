//! Real etcd and kube-apiserver as pods of a podlet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use clusterwright_podlet::image::Catalogue;
use clusterwright_testkit::tools::Places;
use clusterwright_testkit::{Authority, require, skip, tools};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use cluster::{Cluster, is_ready};

const ETCD: &str = "
    metadata: {name: etcd}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000}
      volumes: [{name: data, persistentVolumeClaim: {claimName: etcd}}]
      containers:
      - name: etcd
        image: registry.k8s.io/etcd:3.6.8-0
        command:
        - etcd
        - --data-dir=/var/lib/etcd/data
        - --listen-client-urls=http://0.0.0.0:2379
        - --advertise-client-urls=http://$(POD_IP):2379
        - --listen-metrics-urls=http://0.0.0.0:2381
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        volumeMounts: [{name: data, mountPath: /var/lib/etcd}]
        readinessProbe: {httpGet: {path: /readyz, port: 2381}, periodSeconds: 1}
";

const API_SERVER: &str = "
    metadata: {name: api}
    spec:
      automountServiceAccountToken: false
      volumes: [{name: keys, secret: {secretName: keys}}]
      containers:
      - name: kube-apiserver
        image: registry.k8s.io/kube-apiserver:v1.36.3
        command:
        - kube-apiserver
        - --etcd-servers=http://$(ETCD):2379
        - --cert-dir=/tmp/certificates
        - --service-account-issuer=https://kubernetes.default.svc
        - --service-account-key-file=/keys/sa.crt
        - --service-account-signing-key-file=/keys/sa.key
        - --authorization-mode=RBAC
        volumeMounts: [{name: keys, mountPath: /keys}]
        readinessProbe: {httpGet: {path: /readyz, port: 6443, scheme: HTTPS}, periodSeconds: 1}
";

#[tokio::test(flavor = "multi_thread")]
async fn etcd_and_an_api_server_get_ready_and_etcd_keeps_its_data() {
    require!(tools::find_version("etcd", "3.6.8"));
    require!(tools::find_version("kube-apiserver", "1.36.3"));
    let cluster = Cluster::new();
    let mut config = cluster.config();
    config.images = Catalogue::new(Places::from_env().cache);
    let podlet = match Cluster::run(config.clone()).await {
        Ok(podlet) => podlet,
        Err(error) if cluster::refused(&error) => skip!("{error}"),
        Err(error) => panic!("{error}"),
    };
    let claim = "
        metadata: {name: etcd}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
    ";
    // It gets the podlet's class, which is the default once it is there.
    let classes = kube::Api::<k8s_openapi::api::storage::v1::StorageClass>::all(cluster.client.clone());
    common::until_async(async || {
        classes
            .get_opt(clusterwright_podlet::CLASS)
            .await
            .unwrap()
            .is_some()
    })
    .await;
    cluster.create::<PersistentVolumeClaim>(claim).await;
    cluster.create::<Pod>(ETCD).await;
    let etcd = cluster.until::<Pod>("etcd", is_ready).await;

    let pair = Authority::new().unwrap().serving().unwrap();
    let keys = json!({
        "metadata": {"name": "keys"},
        "stringData": {"sa.crt": pair.certificate, "sa.key": pair.key},
    });
    let keys: Secret = serde_json::from_value(keys).unwrap();
    let secrets = cluster.api::<Secret>();
    secrets.create(&PostParams::default(), &keys).await.unwrap();
    let address = etcd.status.unwrap().pod_ip.unwrap();
    let api_server = API_SERVER.replace("$(ETCD)", &address);
    cluster.create::<Pod>(&api_server).await;
    cluster.until::<Pod>("api", is_ready).await;
    let pods = cluster.api::<Pod>();
    pods.delete("api", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Pod>("api").await;

    // Another podlet starts etcd again, with the data that it had.
    podlet.stop().await;
    let podlet = Cluster::run(config).await.unwrap();
    let again = |pod: &Pod| is_ready(pod) && cluster::container(pod)["restartCount"] == 1;
    cluster.until::<Pod>("etcd", again).await;
    let entry = podlet.registry.find("default", "etcd", None).unwrap();
    let log = std::fs::read_to_string(entry.logs.join("etcd/0.log")).unwrap();
    assert!(log.contains("restarting local member"), "{log}");
    podlet.stop().await;
}
