//! Hosted clusters as their users see them: a client, and a writer that knows what was acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, ResourceExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The programs of a control plane.
pub const PROGRAMS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];
/// How long the cluster may take to come back: connections to a member of etcd that hangs end after 40 s, and it is out
/// of the way when three of its probes have waited for 15 s.
pub const COMES_BACK: Duration = Duration::from_secs(240);
/// How long to wait between two looks.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A client that gives up soon and tries nothing again by itself.
pub async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    config.default_retry = false;
    config.read_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).unwrap()
}

/// Writes without pause, and remembers what was acknowledged.
pub struct Writer {
    maps: Api<ConfigMap>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Writer {
    pub fn start(client: Client) -> Self {
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let task = tokio::spawn(write(maps.clone(), acknowledged.clone()));
        Self {
            maps,
            acknowledged,
            task,
        }
    }

    /// Waits until more is written, and fails if anything that was acknowledged is not there.
    pub async fn goes_on(&self, after: &str) {
        let (before, start) = (self.acknowledged.lock().len(), tokio::time::Instant::now());
        while self.acknowledged.lock().len() < before + 20 {
            assert!(start.elapsed() < COMES_BACK, "nothing is written after {after}");
            sleep(PAUSE).await;
        }
        let known: BTreeSet<String> = self.acknowledged.lock().clone();
        let there = timeout(COMES_BACK, async {
            loop {
                match self.maps.list(&ListParams::default()).await {
                    Ok(there) => return there,
                    Err(_) => sleep(PAUSE).await,
                }
            }
        });
        let there: BTreeSet<String> = there.await.unwrap().iter().map(ResourceExt::name_any).collect();
        let lost: Vec<_> = known.difference(&there).collect();
        assert!(lost.is_empty(), "lost after {after}: {lost:?}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(api: Api<ConfigMap>, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    for number in 0.. {
        let name = format!("n{number:06}");
        let map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        match api.create(&PostParams::default(), &map).await {
            Ok(_) => {
                acknowledged.lock().insert(name);
            }
            // It was not acknowledged, whether it was done or not.
            Err(_) => sleep(PAUSE).await,
        }
    }
}
