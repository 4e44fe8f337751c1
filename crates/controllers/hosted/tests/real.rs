//! The scenarios on the real kube-apiserver, with the controller as the ServiceAccount of `deploy/install.yaml`: what
//! that may not do fails here.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::time::Duration;

use clusterwright_apiserver::companions::{Companions, Stages};
use clusterwright_clock::Clock;
use clusterwright_testkit::{ControlPlane, KubeconfigUser, require, tools};
use common::account::Account;
use common::harness::{Bench, NAMESPACE, connect};
use common::scenarios;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The ServiceAccount on a real server.
async fn install(control_plane: &ControlPlane) -> Account {
    let admin = connect(&control_plane.kubeconfig()).await;
    let user = async |token: &str| {
        let user = KubeconfigUser::Token(token);
        connect(&control_plane.write_kubeconfig("account", &user).unwrap()).await
    };
    Account::install(admin, user).await
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_on_the_real_server() {
    require!(tools::find("etcd"));
    require!(tools::find("kube-apiserver"));
    let start = || {
        ControlPlane::builder()
            .api_server_flag("--disable-admission-plugins=ServiceAccount")
            // Asks whether an owner that its dependents hold up may be held up.
            .api_server_flag("--enable-admission-plugins=OwnerReferencesPermissionEnforcement")
            .start()
    };
    let control_plane = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let account = install(&control_plane).await;
    macro_rules! run {
        ($($name:ident),+ $(,)?) => {$({
            let client = connect(&control_plane.kubeconfig()).await;
            let mut bench = Bench::new(client, Clock::system(), Duration::from_millis(50)).await;
            bench.controller = Some(account.client());
            bench.election = Some(account.election().await);
            println!("{}", stringify!($name));
            scenarios::$name(&mut bench).await;
            clear(&mut bench).await;
            assert_eq!(account.denied(), Vec::<String>::new(), "{}", stringify!($name));
        })+};
    }
    run!(
        create_to_ready,
        restart_changes_nothing,
        upgrade,
        versions_are_guarded,
        fields_are_validated,
        volumes_do_not_shrink,
        pause,
        a_move_is_blocked,
        fields_not_supported,
        a_lost_root_is_not_made_anew,
        etcd_grows_and_shrinks,
        a_member_that_lost_its_data_is_replaced,
        a_lost_majority_is_told,
        delete_leaves_nothing,
    );
    drop(control_plane);
}

/// Pods by the real controller manager, which beside it only kubelet and load balancer have to be played for.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_controller_manager_makes_the_pods() {
    for name in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        require!(tools::find(name));
    }
    let start = || {
        let mut control_plane = ControlPlane::builder()
            .api_server_flag("--disable-admission-plugins=ServiceAccount")
            .start()?;
        control_plane.start_controller_manager(&[
            "deployment-controller",
            "replicaset-controller",
            "statefulset-controller",
            "disruption-controller",
            "garbage-collector-controller",
            "persistentvolumeclaim-protection-controller",
        ])?;
        Ok::<_, clusterwright_testkit::Error>(control_plane)
    };
    let control_plane = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let account = install(&control_plane).await;
    let client = connect(&control_plane.kubeconfig()).await;
    let mut bench = Bench::without_world(client, Clock::system(), Duration::from_millis(100)).await;
    let stages = Companions::new(bench.client.clone(), Clock::system())
        .garbage_collection(false)
        .namespaces(false)
        .stages(Some(Stages::kubelet_only()));
    bench.spawn(stages.run(CancellationToken::new()));
    bench.controller = Some(account.client());
    bench.start();
    bench.create(&json!({})).await;
    bench.until_ready().await;

    let pods: Vec<Pod> = bench.world.list().await.unwrap();
    let mut made: Vec<String> = pods
        .iter()
        .map(|pod| {
            let owner = &pod.owner_references()[0];
            let ready = clusterwright_hosted::rollout::is_ready(pod);
            let name = owner.name.rsplit_once('-').filter(|_| owner.kind == "ReplicaSet");
            format!(
                "{} {} {ready}",
                owner.kind,
                name.map_or(owner.name.as_str(), |(name, _)| name)
            )
        })
        .collect();
    made.sort();
    assert_eq!(
        made,
        [
            "ReplicaSet demo-api-server true",
            "ReplicaSet demo-api-server true",
            "ReplicaSet demo-api-server true",
            "ReplicaSet demo-controller-manager true",
            "ReplicaSet demo-scheduler true",
            "StatefulSet demo-etcd true",
            "StatefulSet demo-etcd true",
            "StatefulSet demo-etcd true",
        ]
    );
    let services: Vec<Service> = bench.world.list().await.unwrap();
    let balanced = services
        .iter()
        .filter_map(|service| service.status.clone()?.load_balancer?.ingress);
    let endpoint = bench.get().await.unwrap().spec.control_plane_endpoint.unwrap();
    let addresses: Vec<_> = balanced.flatten().filter_map(|ingress| ingress.ip).collect();
    assert_eq!(addresses, [endpoint.host]);

    scenarios::delete(&bench).await;
    let left: Vec<String> = bench.contents().await.into_keys().collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(account.denied(), Vec::<String>::new());
    drop(control_plane);
}

/// Takes away what a scenario leaves, by the controller itself.
async fn clear(bench: &mut Bench) {
    bench.start();
    if bench.get().await.is_some() {
        scenarios::delete(bench).await;
    }
    let clusters = bench.api::<clusterwright_api::Cluster>();
    let _ = clusters
        .delete(common::harness::NAME, &DeleteParams::default())
        .await;
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    assert!(namespaces.get_opt(NAMESPACE).await.unwrap().is_some());
}
