//! The node as the cluster sees it: a Node, and a Lease that says that it lives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_runtime::client::Error;
use clusterwright_runtime::manager::{Group, RunContext, RunError, Runnable};
use clusterwright_runtime::object::ObjectKey;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use tokio::time::{Instant, sleep, timeout};

use super::machine::Machine;
use super::room;

/// The version of the kubelet that the podlet is taken for.
const KUBELET: &str = "v1.36.3+podlet";
/// What tells the API server that the endpoints take `WebSockets`.
const WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";
/// Where the nodes' leases are.
const LEASES: &str = "kube-node-lease";
/// How long a lease holds, and how often it is renewed: the kubelet's.
const LEASE: Duration = Duration::from_secs(40);
const RENEWAL: Duration = Duration::from_secs(10);
/// How soon it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How often the node reports its status if nothing has changed: the kubelet's.
const REPORT: Duration = Duration::from_secs(300);
/// How many pods kubelets run.
const PODS: &str = "110";

/// Keeps the Node and its Lease.
pub struct Registration {
    /// The node's parts.
    pub machine: Arc<Machine>,
    /// Labels besides those that every node has.
    pub labels: BTreeMap<String, String>,
    /// The port of the kubelet's endpoints.
    pub port: u16,
}

impl Runnable for Registration {
    fn name(&self) -> &'static str {
        "node"
    }

    fn group(&self) -> Group {
        Group::Always
    }

    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(async move {
            // Pods may run before the cluster has been told of the node.
            cx.ready.set();
            cx.shutdown.run_until_cancelled(Box::pin(self.keep())).await;
            Ok(())
        })
    }
}

impl Registration {
    async fn keep(&self) {
        let mut node: Option<Node> = None;
        let mut reported = Instant::now();
        let mut was_lacking = false;
        loop {
            let lacking = room::lacking(&self.machine.claims);
            let kept = async {
                let registered = match node.take() {
                    Some(node) if reported.elapsed() < REPORT && was_lacking == lacking.is_some() => node,
                    _ => {
                        reported = Instant::now();
                        let registered = self.register(lacking.as_deref()).await?;
                        was_lacking = lacking.is_some();
                        registered
                    }
                };
                // The lease is owned by the node, and gone if someone has deleted that.
                self.renew(&registered).await?;
                Ok::<_, Error>(registered)
            };
            let wait = match timeout(REQUEST, kept).await {
                Ok(Ok(registered)) => {
                    node = Some(registered);
                    RENEWAL
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "failed to tell the cluster that the node lives");
                    RETRY
                }
                Err(_) => {
                    tracing::warn!("failed to tell the cluster that the node lives: no answer");
                    RETRY
                }
            };
            sleep(wait).await;
        }
    }

    async fn register(&self, lacking: Option<&str>) -> Result<Node, Error> {
        let machine = &self.machine;
        let key = ObjectKey::cluster(machine.node.as_ref());
        let before = machine.client.get_live::<Node>(&key).await?;
        let applied = machine.client.apply(&self.node()).await?.object;
        let now = machine.clock.now();
        let old = before.and_then(|node| node.status).unwrap_or_default();
        let status = Node {
            status: Some(self.status(conditions(&old.conditions.unwrap_or_default(), lacking, now))),
            ..self.node()
        };
        machine.client.apply_status(&status).await?;
        Ok(applied)
    }

    fn node(&self) -> Node {
        let name = self.machine.node.to_string();
        let mut labels = BTreeMap::from([
            ("kubernetes.io/hostname".to_owned(), name.clone()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), architecture().to_owned()),
        ]);
        labels.extend(self.labels.clone());
        Node {
            metadata: ObjectMeta {
                name: Some(name),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Node::default()
        }
    }

    fn status(&self, conditions: Vec<NodeCondition>) -> NodeStatus {
        let machine = &self.machine;
        let resources: BTreeMap<String, Quantity> = machine
            .capacity
            .iter()
            .map(|(name, value)| (name.clone(), Quantity(value.clone())))
            .collect();
        let address = |kind: &str, address: String| NodeAddress {
            type_: kind.to_owned(),
            address,
        };
        NodeStatus {
            addresses: Some(vec![
                address("InternalIP", machine.host.to_string()),
                address("Hostname", machine.node.to_string()),
            ]),
            allocatable: Some(resources.clone()),
            capacity: Some(resources),
            conditions: Some(conditions),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint {
                    port: self.port.into(),
                }),
            }),
            declared_features: Some(vec![WEBSOCKETS.to_owned()]),
            node_info: Some(info()),
            ..NodeStatus::default()
        }
    }

    async fn renew(&self, node: &Node) -> Result<(), Error> {
        let name = self.machine.node.to_string();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASES.to_owned()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: name.clone(),
                    uid: node.metadata.uid.clone().unwrap_or_default(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name),
                lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
                renew_time: Some(MicroTime(self.machine.clock.now())),
                ..LeaseSpec::default()
            }),
        };
        self.machine.client.apply(&lease).await.map(drop)
    }
}

/// The kubelet's conditions; their times of transition stay with their status.
fn conditions(old: &[NodeCondition], lacking: Option<&str>, now: Timestamp) -> Vec<NodeCondition> {
    let disk = match lacking {
        Some(lacking) => ("DiskPressure", "True", "KubeletHasDiskPressure", lacking),
        None => (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
    };
    let all = [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        disk,
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        (
            "Ready",
            "True",
            "KubeletReady",
            "the podlet runs pods as processes of its machine",
        ),
    ];
    let condition = |(kind, status, reason, message): (&str, &str, &str, &str)| {
        let before = old
            .iter()
            .find(|before| before.type_ == kind && before.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: before
                .and_then(|before| before.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    };
    all.map(condition).into()
}

/// What the machine has: that of all its pods together, for nothing is kept back.
pub fn capacity(folder: &Path) -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").ok();
    let memory = memory
        .as_deref()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("MemTotal:")))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .map(|kilobytes| format!("{}Ki", kilobytes.trim()));
    let disk = rustix::fs::statvfs(folder).ok();
    let disk = disk.map(|disk| format!("{}Ki", disk.f_frsize * disk.f_blocks / 1024));
    let all = [
        ("cpu", Some(cpus.to_string())),
        ("memory", memory),
        ("ephemeral-storage", disk),
        ("pods", Some(PODS.to_owned())),
    ];
    let known = all
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

/// The machine's architecture by the name that Go has for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn info() -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let system = read("/etc/os-release");
    let system = system
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned());
    let machine = read("/etc/machine-id");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("podlet://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kubelet_version: KUBELET.to_owned(),
        system_uuid: machine.clone(),
        machine_id: machine,
        operating_system: "linux".to_owned(),
        os_image: system.unwrap_or_else(|| "Linux".to_owned()),
        ..NodeSystemInfo::default()
    }
}
