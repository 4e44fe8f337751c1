//! All informers of the process.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::informer::Informer;
use super::scope::Scope;
use crate::manager::{Group, RunContext, RunError, Runnable};
use crate::object::Object;

/// How a cache behaves.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// What is cached of all kinds; [`Cache::scope`] narrows it for one. Everything by default.
    pub scope: Scope,
    /// After how long every object is shown to all controllers again, give or take a tenth; `None` is never. 10 h
    /// by default, as controller-runtime has it.
    pub resync: Option<Duration>,
    /// How long the first lists may take before the manager gives up. 2 min by default.
    pub sync_timeout: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            scope: Scope::all(),
            resync: Some(Duration::from_secs(10 * 3600)),
            sync_timeout: Duration::from_secs(120),
        }
    }
}

/// All informers of the process. Clones share them.
///
/// A kind is watched once something asks for its informer: a controller that is built, or [`Cache::informer`]. The
/// informers run with the manager that [`Cache::runnable`] was given to; those asked for later start at once.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    client: Client,
    options: CacheOptions,
    applier: Arc<OnceLock<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scopes: HashMap<TypeId, Scope>,
    informers: HashMap<TypeId, Entry>,
    running: Option<CancellationToken>,
}

#[derive(Clone)]
struct Entry {
    /// An `Arc<Informer<K>>`.
    typed: Arc<dyn Any + Send + Sync>,
    erased: Arc<dyn AnyInformer>,
}

/// An informer, whatever its kind.
trait AnyInformer: Send + Sync {
    fn kind(&self) -> String;
    fn run(self: Arc<Self>, shutdown: CancellationToken) -> BoxFuture<'static, ()>;
    fn synced(self: Arc<Self>) -> BoxFuture<'static, ()>;
    fn has_synced(&self) -> bool;
    fn sync_error(&self) -> Option<String>;
}

impl<K: Object> AnyInformer for Informer<K> {
    fn kind(&self) -> String {
        K::kind(&()).into_owned()
    }

    fn run(self: Arc<Self>, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move { Informer::run(&self, shutdown).await })
    }

    fn synced(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { Informer::synced(&self).await })
    }

    fn has_synced(&self) -> bool {
        Informer::has_synced(self)
    }

    fn sync_error(&self) -> Option<String> {
        Informer::sync_error(self)
    }
}

impl Cache {
    /// A cache that watches nothing yet.
    pub fn new(client: Client, options: CacheOptions) -> Self {
        Self(Arc::new(Inner {
            client,
            options,
            applier: Arc::default(),
            state: Mutex::default(),
        }))
    }

    /// Narrows what is cached of one kind, on top of [`CacheOptions::scope`] and of what was said before: selectors
    /// add up, and namespaces stay as they are unless `scope` names some, which then take their place. To be called
    /// before anything asks for the kind's informer; later calls change nothing and give `false`.
    pub fn scope<K: Object>(&self, scope: Scope) -> bool {
        let mut state = self.0.state.lock();
        let kind = TypeId::of::<K>();
        if state.informers.contains_key(&kind) {
            return false;
        }
        let options = &self.0.options;
        state
            .scopes
            .entry(kind)
            .or_insert_with(|| options.scope.clone())
            .narrow(scope);
        true
    }

    /// Remembers what an earlier process applied as this field manager, until this one applies. The first to say so
    /// is the only one.
    pub(crate) fn remember_applies_of(&self, manager: &str) {
        let _ = self.0.applier.set(manager.to_owned());
    }

    /// The informer of a kind, made and, in a running cache, started by the first call.
    pub fn informer<K: Object>(&self) -> Arc<Informer<K>> {
        if let Some(informer) = self.existing() {
            return informer;
        }
        let mut state = self.0.state.lock();
        let kind = TypeId::of::<K>();
        let scope = state.scopes.get(&kind).unwrap_or(&self.0.options.scope).clone();
        let informer = Arc::new(Informer::<K>::new(
            self.0.client.clone(),
            scope,
            self.0.options.resync,
            Arc::clone(&self.0.applier),
        ));
        let entry = state.informers.entry(kind).or_insert_with(|| Entry {
            typed: Arc::new(Arc::clone(&informer)),
            erased: Arc::<Informer<K>>::clone(&informer),
        });
        // Another thread may have been quicker.
        let first = entry.typed.downcast_ref::<Arc<Informer<K>>>().map(Arc::clone);
        let informer = match first {
            Some(first) if !Arc::ptr_eq(&first, &informer) => return first,
            _ => informer,
        };
        if let Some(shutdown) = state.running.clone() {
            tokio::spawn(AnyInformer::run(Arc::clone(&informer) as Arc<_>, shutdown));
        }
        informer
    }

    /// The informer of a kind, if something has asked for it.
    pub fn existing<K: Object>(&self) -> Option<Arc<Informer<K>>> {
        let state = self.0.state.lock();
        let entry = state.informers.get(&TypeId::of::<K>())?;
        entry.typed.downcast_ref::<Arc<Informer<K>>>().map(Arc::clone)
    }

    /// Whether the first lists of all kinds are in.
    pub fn has_synced(&self) -> bool {
        self.entries().iter().all(|entry| entry.erased.has_synced())
    }

    /// Waits until the first lists of all kinds asked for so far are in.
    pub async fn synced(&self) {
        for entry in self.entries() {
            entry.erased.synced().await;
        }
    }

    /// What runs the informers, for the manager. To be called once: a second one has nothing to run.
    pub fn runnable(&self) -> impl Runnable + use<> {
        Informers(self.clone())
    }

    fn entries(&self) -> Vec<Entry> {
        self.0.state.lock().informers.values().cloned().collect()
    }

    /// The kinds whose first list is missing, with the last error of each.
    fn unsynced(&self) -> String {
        let missing = self
            .entries()
            .into_iter()
            .filter(|entry| !entry.erased.has_synced());
        let mut kinds: Vec<_> = missing
            .map(|entry| match entry.erased.sync_error() {
                Some(error) => format!("{} ({error})", entry.erased.kind()),
                None => entry.erased.kind(),
            })
            .collect();
        kinds.sort();
        kinds.join(", ")
    }

    async fn run(self, cx: RunContext) -> Result<(), RunError> {
        let mut tasks = JoinSet::new();
        {
            let mut state = self.0.state.lock();
            if state.running.is_some() {
                return Ok(());
            }
            state.running = Some(cx.shutdown.clone());
            for entry in state.informers.values() {
                tasks.spawn(Arc::clone(&entry.erased).run(cx.shutdown.clone()));
            }
        }
        let synced = tokio::time::timeout(self.0.options.sync_timeout, self.synced());
        match cx.shutdown.run_until_cancelled(synced).await {
            Some(Ok(())) => cx.ready.set(),
            Some(Err(_)) => return Err(SyncTimeout(self.unsynced()).into()),
            None => {}
        }
        while tasks.join_next().await.is_some() {}
        cx.shutdown.cancelled().await;
        Ok(())
    }
}

/// The first lists did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("failed to fill the cache in time: {0}")]
struct SyncTimeout(String);

struct Informers(Cache);

impl Runnable for Informers {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn group(&self) -> Group {
        Group::Caches
    }

    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(self.0.run(cx))
    }
}
