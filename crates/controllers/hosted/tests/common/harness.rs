//! A manager with the controller in it, and what tests ask of a server.

use std::collections::BTreeMap;
use std::time::Duration;

use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_clock::Clock;
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client::Client as Cached;
use clusterwright_runtime::controller::{Controller, Environment};
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::leader::{LeaderElection, identity};
use clusterwright_runtime::manager::{Manager, Options};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::IMAGE;
use super::world::{World, ensure, everything};

/// The namespace of all tests; each has a server, or a namespace, of its own.
pub const NAMESPACE: &str = "team";
/// The name of the Cluster and of its control plane.
pub const NAME: &str = "demo";

/// A server with a world around it.
pub struct Bench {
    /// The test's own hands, which may do anything.
    pub client: Client,
    /// The controller's client, where it is another.
    pub controller: Option<Client>,
    /// The election that managers take part in, if any.
    pub election: Option<LeaderElection>,
    pub namespace: String,
    pub world: World,
    pub clock: Clock,
    /// The image of this program that managers put into pods.
    pub image: &'static str,
    tasks: Vec<JoinHandle<()>>,
    /// How long to wait between two looks.
    pub pause: Duration,
    /// How long to wait for what has to come about.
    pub patience: Duration,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Bench {
    /// Prepares a server: our CRDs, a namespace, and a world that acts in it.
    pub async fn new(client: Client, clock: Clock, pause: Duration) -> Self {
        let mut bench = Self::without_world(client, clock, pause).await;
        bench.spawn(bench.world.clone().run(pause, pause * 8));
        bench
    }

    /// As [`Bench::new`], where others do what the world does.
    pub async fn without_world(client: Client, clock: Clock, pause: Duration) -> Self {
        for mut crd in clusterwright_api::crds()
            .into_iter()
            .chain([clusterwright_api::cluster_crd()])
        {
            crd.metadata.resource_version = None;
            ensure(&client, &crd).await;
            let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
            for _ in 0..200 {
                let status = crds
                    .get(&crd.name_any())
                    .await
                    .unwrap()
                    .status
                    .unwrap_or_default();
                let conditions = status.conditions.unwrap_or_default();
                if conditions
                    .iter()
                    .any(|condition| condition.type_ == "Established" && condition.status == "True")
                {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
        }
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(NAMESPACE.to_owned());
        ensure(&client, &namespace).await;
        // Pods need it; the controller manager would make it.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".to_owned());
        match accounts.create(&PostParams::default(), &account).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            result => {
                result.unwrap();
            }
        }
        let world = World::new(client.clone(), NAMESPACE);
        Self {
            client,
            controller: None,
            election: None,
            namespace: NAMESPACE.to_owned(),
            world,
            clock,
            image: IMAGE,
            tasks: Vec::new(),
            pause,
            patience: Duration::from_mins(1),
        }
    }

    /// Starts a manager with the controller. It ends when the token is cancelled or this bench is dropped.
    pub fn start(&mut self) -> CancellationToken {
        self.start_as(self.controller.as_ref().unwrap_or(&self.client).clone())
    }

    /// As [`Bench::start`], through a client of its own.
    pub fn start_as(&mut self, client: Client) -> CancellationToken {
        let shutdown = CancellationToken::new();
        let election = self.election.clone().map(|election| LeaderElection {
            identity: identity(),
            ..election
        });
        let run = run(client, self.image, self.clock, election, shutdown.clone());
        self.tasks.push(tokio::spawn(run));
        shutdown
    }

    /// Lets something run until this bench is dropped.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a Cluster and a control plane that it owns, as Cluster API would.
    pub async fn create(&self, fields: &Value) {
        let cluster: Cluster = serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {"controlPlaneRef": {
                "apiGroup": "controlplane.cluster.x-k8s.io", "kind": "HostedControlPlane", "name": NAME,
            }},
        }))
        .unwrap();
        let cluster = self
            .api::<Cluster>()
            .create(&PostParams::default(), &cluster)
            .await
            .unwrap();
        let mut control_plane = super::control_plane(fields);
        control_plane.metadata = serde_json::from_value(json!({
            "name": NAME,
            "labels": {"cluster.x-k8s.io/cluster-name": NAME},
            "ownerReferences": [{
                "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": NAME, "uid": cluster.uid(),
            }],
        }))
        .unwrap();
        self.api::<HostedControlPlane>()
            .create(&PostParams::default(), &control_plane)
            .await
            .unwrap();
    }

    pub async fn get(&self) -> Option<HostedControlPlane> {
        self.api::<HostedControlPlane>().get_opt(NAME).await.unwrap()
    }

    /// The status but for what differs from run to run: times and generations, and the order in which conditions, which
    /// are a map by type, came about.
    pub async fn status(&self) -> Value {
        let status = self.get().await.and_then(|object| object.status);
        let mut status = serde_json::to_value(status.unwrap_or_default()).unwrap();
        status.as_object_mut().unwrap().remove("observedGeneration");
        if let Some(conditions) = status["conditions"].as_array_mut() {
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                condition.remove("lastTransitionTime");
                condition.remove("observedGeneration");
            }
            conditions.sort_by_key(|condition| condition["type"].to_string());
        }
        status
    }

    pub async fn set_status(&self, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let api = self.api::<HostedControlPlane>();
        api.patch_status(NAME, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub async fn patch(&self, patch: Value) -> kube::Result<HostedControlPlane> {
        self.api::<HostedControlPlane>()
            .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await
    }

    /// Waits until this holds of the control plane (which may be gone).
    pub async fn until(&self, what: &str, holds: impl Fn(Option<&HostedControlPlane>) -> bool) {
        let start = tokio::time::Instant::now();
        let mut wait = self.pause;
        while start.elapsed() < self.patience {
            if holds(self.get().await.as_ref()) {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.pause * 8);
        }
        let last = serde_json::to_string_pretty(&self.get().await.map(|object| object.status)).unwrap();
        panic!(
            "{what} did not come about; the status is {last}; there is {:#?}",
            self.contents().await.keys()
        );
    }

    /// Waits until the control plane is available and ready at its present generation.
    pub async fn until_ready(&self) {
        self.until("Ready", |object| {
            let Some(object) = object.filter(|object| holds(object, "Available")) else {
                return false;
            };
            let version = object.status.as_ref().and_then(|status| status.version.as_ref());
            assert!(
                version.is_some(),
                "available, but nothing says which version runs"
            );
            holds(object, "Ready")
        })
        .await;
    }

    /// Has a member of etcd lose its data, and start again.
    pub async fn lose_data(&self, member: &str) {
        std::fs::remove_dir_all(self.world.volume(member).join("data")).unwrap();
        self.api::<Pod>()
            .delete(member, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Has a member of etcd lose its data, and waits until it is a new one.
    pub async fn replace_member(&self, member: &str) {
        let life = || std::fs::read_to_string(self.world.volume(member).join("member-id")).ok();
        let before = life();
        self.lose_data(member).await;
        self.until("a new member", |object| {
            life() != before && object.is_some_and(|object| holds(object, "Ready"))
        })
        .await;
    }

    /// Everything that a control plane consists of, with uid and version.
    pub async fn contents(&self) -> BTreeMap<String, String> {
        let (client, namespace) = (&self.client, self.namespace.as_str());
        let mut all = everything::<Secret>(client, namespace).await;
        all.extend(everything::<ConfigMap>(client, namespace).await);
        all.extend(everything::<Service>(client, namespace).await);
        all.extend(everything::<Deployment>(client, namespace).await);
        all.extend(everything::<StatefulSet>(client, namespace).await);
        all.extend(everything::<PodDisruptionBudget>(client, namespace).await);
        all.extend(everything::<PersistentVolumeClaim>(client, namespace).await);
        all.extend(everything::<Pod>(client, namespace).await);
        all.extend(everything::<HostedControlPlane>(client, namespace).await);
        // What clusters have of themselves.
        all.retain(|name, _| name != "ConfigMap kube-root-ca.crt");
        all
    }

    /// The keys and certificates of the control plane: the Secret's name and its data.
    pub async fn keys(&self) -> BTreeMap<String, Value> {
        let secrets = self
            .api::<Secret>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items;
        secrets
            .into_iter()
            .map(|secret| (secret.name_any(), serde_json::to_value(&secret.data).unwrap()))
            .collect()
    }
}

/// Whether a condition is True at the present generation.
pub fn holds(object: &HostedControlPlane, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == object.metadata.generation
    })
}

/// A condition.
pub fn condition<'a>(object: &'a HostedControlPlane, kind: &str) -> Option<&'a Condition> {
    object
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// A manager with the controller, until the token is cancelled.
pub async fn run(
    client: Client,
    image: &'static str,
    clock: Clock,
    leader_election: Option<LeaderElection>,
    shutdown: CancellationToken,
) {
    let hosted = |client: &Cached, environment: &Environment| {
        // The world's pods are simulated, and etcd with them.
        let options = clusterwright_hosted::Options::simulated(image, client.kube().clone());
        clusterwright_hosted::controller(client, options).build(environment)
    };
    run_with(client, clock, leader_election, shutdown, hosted).await;
}

/// A manager with this controller, until the token is cancelled.
pub async fn run_with(
    client: Client,
    clock: Clock,
    leader_election: Option<LeaderElection>,
    shutdown: CancellationToken,
    build: impl FnOnce(&Cached, &Environment) -> Controller,
) {
    let options = Options {
        clock,
        leader_election,
        ..Options::default()
    };
    let mut manager = Manager::new(client, options).unwrap();
    let cache = Cache::new(manager.client(), CacheOptions::default());
    let client = Cached::new(manager.client(), cache.clone(), "clusterwright");
    let (recorder, events) = Recorder::new(manager.client(), "clusterwright", "test", clock);
    let environment = Environment {
        client: client.clone(),
        clock,
        metrics: manager.metrics().clone(),
        recorder,
    };
    let controller = build(&client, &environment);
    manager.add(cache.runnable()).unwrap();
    manager.add(events).unwrap();
    manager.add(controller).unwrap();
    manager.run(shutdown).await.unwrap();
}

/// A client for the server that a kubeconfig names.
pub async fn connect(kubeconfig: &std::path::Path) -> Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}
