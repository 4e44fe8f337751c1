//! The scenarios on the real kube-apiserver, with the controller as the ServiceAccount of `deploy/install.yaml`: what
//! that may not do fails here.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

mod common;

use std::time::Duration;

use clusterwright_clock::Clock;
use clusterwright_testkit::{ControlPlane, require, tools};
use common::account::Account;
use common::harness::{Bench, NAMESPACE, connect};
use common::scenarios;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;

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
    let account = Account::install(&control_plane).await;
    macro_rules! run {
        ($($name:ident),+ $(,)?) => {$({
            let client = connect(&control_plane.kubeconfig()).await;
            let mut bench = Bench::new(client, Clock::system(), Duration::from_millis(50)).await;
            bench.controller = Some(account.client().await);
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
        fields_not_supported,
        a_lost_root_is_not_made_anew,
        delete_leaves_nothing,
    );
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
