//! `apiserver`, as a process of its own that may be killed at any time.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clusterwright_testkit::process::free_port;
use common::{PATIENCE, Running, clusterwright};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, ResourceExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

fn start(folder: &Path, port: u16, more: &[&str]) -> (Running, String) {
    let (folder, listen) = (folder.to_str().unwrap(), format!("127.0.0.1:{port}"));
    let args = ["apiserver", "--data-dir", folder, "--listen", &listen];
    let mut server = Running::start(clusterwright(&[&args[..], more].concat()));
    let kubeconfig = server.line("export KUBECONFIG=");
    (server, kubeconfig)
}

async fn client(kubeconfig: &str, change: impl FnOnce(&mut Kubeconfig)) -> Client {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    change(&mut kubeconfig);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// What a writer was told of its objects, by name: the value, or none where it was deleted.
type Told = BTreeMap<String, Option<u32>>;

/// Creates, changes and deletes objects until a call fails; returns what was acknowledged, and the object that the
/// failed call was about, which may or may not have been written.
async fn write(
    api: Api<ConfigMap>,
    writer: usize,
    stop: Arc<AtomicBool>,
    mut told: Told,
) -> (Told, Option<String>) {
    let first = told.values().flatten().max().map_or(0, |value| value + 1);
    for value in first.. {
        if stop.load(Ordering::Relaxed) {
            return (told, None);
        }
        let name = format!("w{writer}-{}", value % 7);
        let done = match (told.get(&name), value % 5) {
            (Some(Some(_)), 0) => {
                let deleted = api.delete(&name, &DeleteParams::default()).await;
                deleted.map(|_| None)
            }
            (Some(Some(_)), _) => {
                let patch = Patch::Merge(json!({"data": {"value": value.to_string()}}));
                let patched = api.patch(&name, &PatchParams::default(), &patch).await;
                patched.map(|_| Some(value))
            }
            _ => {
                let map = json!({"metadata": {"name": name}, "data": {"value": value.to_string()}});
                let map = serde_json::from_value(map).unwrap();
                let created = api.create(&PostParams::default(), &map).await;
                created.map(|_| Some(value))
            }
        };
        match done {
            Ok(value) => told.insert(name, value),
            Err(_) => return (told, Some(name)),
        };
    }
    (told, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let mut told = vec![Told::new(); 4];
    let mut uids = BTreeMap::new();
    for round in 0..4 {
        let (mut server, kubeconfig) = start(folder.path(), port, &[]);
        let api: Api<ConfigMap> = Api::default_namespaced(client(&kubeconfig, |_| {}).await);
        let there = api.list(&ListParams::default()).await.unwrap();
        let mut values = BTreeMap::new();
        // The server's certificate is published in one of its own.
        for map in there
            .into_iter()
            .filter(|map| map.name_any() != "kube-root-ca.crt")
        {
            values.insert(map.name_any(), map.data.unwrap()["value"].parse::<u32>().unwrap());
            uids.insert(map.metadata.uid, map.metadata.name);
        }
        for (name, value) in told.iter().flatten() {
            assert_eq!(values.get(name), value.as_ref(), "{name} in round {round}");
        }
        assert_eq!(
            values.len(),
            told.iter().flatten().filter(|(_, value)| value.is_some()).count()
        );

        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = std::mem::take(&mut told)
            .into_iter()
            .enumerate()
            .map(|(writer, told)| tokio::spawn(write(api.clone(), writer, stop.clone(), told)))
            .collect();
        tokio::time::sleep(Duration::from_millis(300 + 100 * round)).await;
        server.signal("KILL");
        let mut unsure = Vec::new();
        for writer in writers {
            let (acknowledged, failed) = writer.await.unwrap();
            assert!(acknowledged.len() > 3, "the writers had no time");
            told.push(acknowledged);
            unsure.push(failed);
        }
        while !server.has_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The call that was cut off may have been written: what it left is what is there from now on.
        let (server, kubeconfig) = start(folder.path(), port, &[]);
        let api: Api<ConfigMap> = Api::default_namespaced(client(&kubeconfig, |_| {}).await);
        for (told, name) in told.iter_mut().zip(unsure) {
            let Some(name) = name else { continue };
            let there = api.get_opt(&name).await.unwrap();
            let there = there.map(|map| map.data.unwrap()["value"].parse::<u32>().unwrap());
            let before = told.get(&name).copied().flatten();
            assert!(
                there.is_none() || there >= before,
                "{name}: {there:?} after {before:?}"
            );
            told.insert(name, there);
        }
        server.signal("TERM");
        let (status, said) = server.end();
        assert!(status.success(), "{said}");
    }
    assert!(uids.len() > 7, "objects were made in every round: {}", uids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_those_without_roles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, kubeconfig) = start(folder.path(), 0, &[]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&kubeconfig).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let stranger = client(&kubeconfig, |config| {
        for user in config
            .auth_infos
            .iter_mut()
            .filter_map(|user| user.auth_info.as_mut())
        {
            user.client_certificate_data = None;
            user.client_key_data = None;
        }
    })
    .await;
    let refused = stranger.apiserver_version().await;
    assert!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 401),
        "{refused:?}"
    );
    let nobody = client(&kubeconfig, |config| {
        for user in config
            .auth_infos
            .iter_mut()
            .filter_map(|user| user.auth_info.as_mut())
        {
            user.impersonate = Some("nobody".to_owned());
        }
    })
    .await;
    let refused = Api::<Namespace>::all(nobody).list(&ListParams::default()).await;
    assert!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
        "{refused:?}"
    );
}

#[test]
fn what_it_cannot_use_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (server, _) = start(folder.path(), 0, &[]);
    let said = |args: &[&str]| {
        let output = clusterwright(&[&["apiserver"], args].concat()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let in_use = said(&["--data-dir", path, "--listen", "127.0.0.1:0"]);
    assert!(
        in_use.contains(path) && in_use.contains("choose another folder"),
        "{in_use}"
    );
    drop(server);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let start = Instant::now();
    let taken = said(&["--data-dir", path, "--listen", &address]);
    assert!(taken.contains(&address) && taken.contains("--listen"), "{taken}");
    assert!(start.elapsed() < PATIENCE);
    let neither = said(&[]);
    assert!(neither.contains("--write-kubeconfig <FILE>"), "{neither}");
    let file = said(&["--data-dir", "/dev/null/x", "--listen", "127.0.0.1:0"]);
    assert!(file.contains("failed to make /dev/null/x"), "{file}");
}
