//! A server, a cache and controllers, in one place and on one clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_apiserver::ApiServer;
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client::{self, Client};
use clusterwright_runtime::controller::{Controller, Environment};
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::manager::{RunContext, Runnable};
use clusterwright_runtime::metrics::Metrics;
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::reconcile::{Context, Outcome, ReconcileError, Reconciler, Request};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Everything that runs stops when it is dropped.
pub struct World {
    pub server: ApiServer,
    pub cache: Cache,
    pub client: Client,
    pub environment: Environment,
    pub shutdown: CancellationToken,
    pub tasks: JoinSet<()>,
}

impl World {
    pub fn new() -> Self {
        Self::with(ApiServer::new(), CacheOptions::default())
    }

    pub fn with(server: ApiServer, options: CacheOptions) -> Self {
        // The framework has a name of its own, by which faults and records tell it from the test.
        let kube = server.client_as("controller", ["system:masters"]);
        Self::on(server, kube, options)
    }

    pub fn on(server: ApiServer, kube: kube::Client, options: CacheOptions) -> Self {
        server.record().start();
        let cache = Cache::new(kube.clone(), options);
        let client = Client::new(kube.clone(), cache.clone(), "test");
        // The recorder's worker does not run: Events would be calls that the tests have to explain away.
        let (recorder, _) = Recorder::new(kube, "test", "test", server.clock());
        let environment = Environment {
            client: client.clone(),
            clock: server.clock(),
            metrics: Metrics::new(),
            recorder,
        };
        Self {
            server,
            cache,
            client,
            environment,
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts the cache, waits for its first lists, and starts the controllers.
    pub async fn start(&mut self, controllers: impl IntoIterator<Item = Controller>) {
        let (cx, ready) = RunContext::detached(self.shutdown.clone());
        let informers = Box::new(self.cache.runnable()).run(cx);
        self.tasks.spawn(async move { informers.await.unwrap() });
        ready.wait().await;
        for controller in controllers {
            let (cx, ready) = RunContext::detached(self.shutdown.clone());
            let run = Box::new(controller).run(cx);
            self.tasks.spawn(async move { run.await.unwrap() });
            ready.wait().await;
        }
    }

    /// Somebody else, who shares nothing with the framework.
    pub fn other<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned,
    {
        Api::namespaced(self.server.client(), "default")
    }

    pub async fn create(&self, name: &str) -> ConfigMap {
        self.other()
            .create(&PostParams::default(), &config_map(name))
            .await
            .unwrap()
    }

    pub async fn set(&self, name: &str, key: &str, value: &str) {
        let patch = Patch::Merge(json!({ "data": { key: value } }));
        let api = self.other::<ConfigMap>();
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: clusterwright_runtime::object::Object + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        self.other::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// The calls of the framework with this verb on this resource since the world was made.
    pub fn calls(&self, verb: &str, resource: &str) -> usize {
        let calls = self.server.record().calls();
        let ours = calls.iter().filter(|call| call.user == "controller");
        ours.filter(|call| call.verb == verb && call.resource == resource)
            .count()
    }
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("default", name)
}

pub fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

/// Waits, in paused time, until something holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..180_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error("failed on purpose")]
    Retry,
    #[error("failed for good, on purpose")]
    Terminal,
    #[error(transparent)]
    Client(#[from] client::Error),
}

impl ReconcileError for TestError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Retry => "Retry",
            Self::Terminal => "Terminal",
            Self::Client(error) => error.reason(),
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal)
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Client(error) => error.retry_after(),
            _ => None,
        }
    }
}

type Calls = Box<
    dyn Fn(Context, ObjectKey) -> Pin<Box<dyn Future<Output = Result<Outcome, TestError>> + Send>>
        + Send
        + Sync,
>;

/// A reconciler of ConfigMaps made of functions.
pub struct Func {
    reconcile: Calls,
    finalize: Calls,
}

impl Func {
    pub fn new<F, W>(reconcile: F) -> Self
    where
        F: Fn(Context, ObjectKey) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Outcome, TestError>> + Send + 'static,
    {
        Self {
            reconcile: Box::new(move |cx, key| Box::pin(reconcile(cx, key))),
            finalize: Box::new(|_, _| Box::pin(async { Ok(Outcome::Done) })),
        }
    }

    pub fn finalize<F, W>(mut self, finalize: F) -> Self
    where
        F: Fn(Context, ObjectKey) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Outcome, TestError>> + Send + 'static,
    {
        self.finalize = Box::new(move |cx, key| Box::pin(finalize(cx, key)));
        self
    }
}

impl Reconciler for Func {
    type Object = ConfigMap;
    type Error = TestError;

    async fn reconcile(&self, cx: &Context, request: Request<ConfigMap>) -> Result<Outcome, TestError> {
        (self.reconcile)(cx.clone(), request.key().clone()).await
    }

    async fn finalize(&self, cx: &Context, request: Request<ConfigMap>) -> Result<Outcome, TestError> {
        (self.finalize)(cx.clone(), request.key().clone()).await
    }
}

/// What was called, in order, with the time in milliseconds since the log was made.
#[derive(Clone)]
pub struct Log {
    lines: Arc<std::sync::Mutex<Vec<(u128, String)>>>,
    start: tokio::time::Instant,
}

impl Log {
    pub fn new() -> Self {
        Self {
            lines: Arc::default(),
            start: tokio::time::Instant::now(),
        }
    }

    pub fn add(&self, line: impl Into<String>) {
        let entry = (self.start.elapsed().as_millis(), line.into());
        self.lines.lock().unwrap().push(entry);
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .map(|(_, line)| line.clone())
            .collect()
    }

    pub fn times(&self) -> Vec<u128> {
        self.lines.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }

    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }

    pub async fn until(&self, line: &str, times: usize) {
        eventually(line, || async { self.count(line) >= times }).await;
    }
}

/// A Secret of the ConfigMap's name and content, owned by it.
pub fn mirror_of(owner: &ConfigMap) -> Secret {
    let data: BTreeMap<_, _> = owner.data.clone().unwrap_or_default();
    Secret {
        metadata: ObjectMeta {
            name: owner.metadata.name.clone(),
            namespace: owner.metadata.namespace.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "ConfigMap".into(),
                name: owner.metadata.name.clone().unwrap_or_default(),
                uid: owner.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        data: Some(
            data.into_iter()
                .map(|(name, value)| (name, k8s_openapi::ByteString(value.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// Keeps a mirror of every ConfigMap labelled `mirror`, and takes it away in the end.
pub fn mirror() -> Func {
    Func::new(|cx, key| async move {
        if let Some(owner) = cx.client().get::<ConfigMap>(&key)? {
            cx.client().apply(&mirror_of(&owner)).await?;
        }
        Ok(Outcome::Done)
    })
    .finalize(|cx, key| async move {
        cx.client()
            .delete::<Secret>(&key, &DeleteParams::default())
            .await?;
        Ok(Outcome::Done)
    })
}
