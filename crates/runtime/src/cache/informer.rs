//! One kind: a store, and a task that keeps it as the server has it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use kube::api::ListParams;
use kube::core::SelectorExt;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::owned::OwnedFields;
use super::pruned::Pruned;
use super::scope::Scope;
use super::store::{Applied, AppliedConfig, Effect, LastApplied, News, Origin, Store};
use super::view::{Change, View};
use crate::object::{Object, ObjectKey, is_namespaced};
use crate::queue::Backoff;

/// How long an object may be in doubt before it is looked up. A stream that works clears the doubt in milliseconds.
const DOUBT: Duration = Duration::from_secs(10);

/// Between failed attempts to list or watch: as client-go's reflector, but quicker at first.
const RETRY: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30));

/// After how long without a failure the next one counts as the first.
const FORGET: Duration = Duration::from_secs(120);

/// What a handler is told.
#[derive(Debug)]
pub(crate) struct Notice<'a, K> {
    pub change: Change<'a, K>,
    /// Whether the object was there before the handler was: the first list, or a handler that came late.
    pub initial: bool,
}

pub(crate) type Handler<K> = Box<dyn Fn(&Notice<'_, K>) + Send + Sync>;
pub(crate) type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// The informer of one kind: what every controller and client of this process knows of it.
pub struct Informer<K> {
    client: Client,
    scope: Scope,
    resync: Option<Duration>,
    /// The field manager whose applies are remembered over restarts, once a client has said it.
    applier: Arc<OnceLock<String>>,
    store: RwLock<Store>,
    /// Held by whoever changes the store, from reading the old state to telling the handlers, so that they hear of
    /// changes in order. Readers never wait for it.
    writer: Mutex<Writer<K>>,
    doubt: Notify,
    sync: watch::Sender<SyncState>,
}

struct Writer<K> {
    handlers: Vec<Handler<K>>,
    indexes: Vec<(&'static str, IndexFn<K>)>,
}

#[derive(Debug, Default)]
struct SyncState {
    lists: usize,
    error: Option<String>,
}

impl<K: Object> Informer<K> {
    pub(crate) fn new(
        client: Client,
        scope: Scope,
        resync: Option<Duration>,
        applier: Arc<OnceLock<String>>,
    ) -> Self {
        Self {
            client,
            scope,
            resync,
            applier,
            store: RwLock::new(Store::default()),
            writer: Mutex::new(Writer {
                handlers: Vec::new(),
                indexes: Vec::new(),
            }),
            doubt: Notify::new(),
            sync: watch::Sender::new(SyncState::default()),
        }
    }

    // === reading ===

    /// The object's JSON.
    pub(crate) fn json(&self, key: &ObjectKey) -> Option<Arc<[u8]>> {
        self.store.read().get(key).cloned()
    }

    /// The object, undecoded.
    pub(crate) fn view(&self, key: &ObjectKey) -> Option<View<K>> {
        self.json(key).map(|json| View::new(key.clone(), json))
    }

    /// All objects, or those of one namespace, undecoded.
    pub(crate) fn views(&self, namespace: Option<&str>) -> Vec<View<K>> {
        self.store
            .read()
            .iter()
            .filter(|(key, _)| namespace.is_none() || key.namespace() == namespace)
            .map(|(key, json)| View::new(key.clone(), Arc::clone(json)))
            .collect()
    }

    /// The objects for which an index has this value; `None` where there is no such index.
    pub(crate) fn indexed(&self, index: &str, value: &str) -> Option<Vec<View<K>>> {
        let store = self.store.read();
        let (_, index) = store.indexes.iter().find(|(name, _)| *name == index)?;
        let keys = index.lookup(value);
        Some(
            keys.filter_map(|key| Some(View::new(key.clone(), Arc::clone(store.get(key)?))))
                .collect(),
        )
    }

    /// How many objects the cache holds.
    pub fn len(&self) -> usize {
        self.store.read().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest resource version that a list or watch has shown; zero before the first.
    pub fn last_seen_version(&self) -> u64 {
        self.store.read().last_seen()
    }

    /// Whether the first list is in.
    pub fn has_synced(&self) -> bool {
        self.sync.borrow().lists >= self.sources().len()
    }

    /// Waits until the first list is in.
    pub async fn synced(&self) {
        let wanted = self.sources().len();
        // The sender lives as long as this informer.
        let _ = self
            .sync
            .subscribe()
            .wait_for(|state| state.lists >= wanted)
            .await;
    }

    /// Why the first list is not in yet, as far as that is known.
    pub fn sync_error(&self) -> Option<String> {
        self.sync.borrow().error.clone()
    }

    // === setting up ===

    /// Adds an index, unless there is one of that name already. Objects that are there are indexed at once.
    pub fn index(&self, name: &'static str, of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let mut writer = self.writer.lock();
        if writer.indexes.iter().any(|(existing, _)| *existing == name) {
            return;
        }
        let mut index = super::index::Index::default();
        for view in self.views(None) {
            index.replace(view.key(), &[], &view.object().map(&of).unwrap_or_default());
        }
        writer.indexes.push((name, Box::new(of)));
        self.store.write().indexes.push((name, index));
    }

    /// Adds a handler and tells it of what is there.
    pub(crate) fn handle(&self, handler: Handler<K>) {
        let mut writer = self.writer.lock();
        for view in self.views(None) {
            handler(&Notice {
                change: Change::Added(&view),
                initial: true,
            });
        }
        writer.handlers.push(handler);
    }

    // === following the server ===

    /// The namespaces to watch; one `None` for all of them.
    fn sources(&self) -> Vec<Option<&str>> {
        if self.scope.namespaces.is_empty() || !is_namespaced::<K>() {
            return vec![None];
        }
        self.scope
            .namespaces
            .iter()
            .map(|name| Some(name.as_str()))
            .collect()
    }

    /// Follows the server until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let work = async {
            let follow = join_all(self.sources().into_iter().map(|namespace| self.follow(namespace)));
            tokio::join!(follow, self.clear_doubts(), self.resync());
        };
        shutdown.run_until_cancelled(work).await;
    }

    async fn follow(&self, namespace: Option<&str>) {
        let api: Api<Pruned<K>> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &()),
            None => Api::all_with(self.client.clone(), &()),
        };
        let mut streaming = true;
        let mut synced = false;
        let mut failures = 0;
        let mut last_failure = Instant::now();
        loop {
            let mut events = std::pin::pin!(watcher(api.clone(), self.config(streaming)));
            let mut listing: Option<u32> = None;
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init) => {
                        listing = Some(self.store.write().begin(listing.is_some()));
                    }
                    Ok(watcher::Event::InitApply(object)) => {
                        self.put(object, Origin::Listed(listing.unwrap_or_default()), !synced);
                    }
                    Ok(watcher::Event::InitDone) => {
                        failures = 0;
                        self.sweep(listing.take().unwrap_or_default(), namespace);
                        if !std::mem::replace(&mut synced, true) {
                            self.sync.send_modify(|state| state.lists += 1);
                        }
                    }
                    Ok(watcher::Event::Apply(object)) => {
                        failures = 0;
                        self.put(object, Origin::Watched, false);
                    }
                    Ok(watcher::Event::Delete(object)) => {
                        failures = 0;
                        let version = version(&object);
                        self.change(false, |store| {
                            let name = object.meta.name.as_deref().unwrap_or_default();
                            store.deleted(object.meta.namespace.as_deref(), name, version)
                        });
                    }
                    Err(error) if streaming && refuses_streaming(&error) => {
                        tracing::debug!(kind = %K::kind(&()), %error, "the server does not stream lists");
                        streaming = false;
                        break;
                    }
                    Err(error) => {
                        // A kind that is quiet for long has no success to show, and none to atone for either.
                        if last_failure.elapsed() > FORGET {
                            failures = 0;
                        }
                        last_failure = Instant::now();
                        failures += 1;
                        let delay = retry_after(&error).max(RETRY.delay(failures));
                        tracing::warn!(kind = %K::kind(&()), namespace, %error, ?delay, "failed to list or watch");
                        if !synced {
                            self.sync
                                .send_modify(|state| state.error = Some(error.to_string()));
                        }
                        tokio::time::sleep(delay).await;
                    }
                }
            }
            if listing.is_some() {
                // The list that was cut off is begun anew by the next stream.
                self.store.write().end(0, namespace);
            }
        }
    }

    fn config(&self, streaming: bool) -> watcher::Config {
        let mut config = watcher::Config::default()
            .any_semantic()
            .labels_from(&self.scope.labels);
        config.label_selector = config.label_selector.filter(|selector| !selector.is_empty());
        config.field_selector.clone_from(&self.scope.fields);
        if streaming {
            config.streaming_lists()
        } else {
            config
        }
    }

    fn put(&self, object: Pruned<K>, origin: Origin, initial: bool) {
        let version = version(&object);
        let owned = self.owned(&object);
        let news = News {
            namespace: object.meta.namespace,
            name: object.meta.name.unwrap_or_default(),
            uid: object.meta.uid,
            version,
            json: object.json,
            owned,
        };
        self.change(initial, |store| store.put(news, origin, Instant::now()));
        if matches!(origin, Origin::Listed(_)) && self.store.read().in_doubt() {
            self.doubt.notify_one();
        }
    }

    fn sweep(&self, pass: u32, namespace: Option<&str>) {
        let keys = self.store.write().end(pass, namespace);
        for key in keys {
            self.change(false, |store| store.sweep(&key, pass));
        }
    }

    /// Changes the store, keeps the indexes in step, and tells the handlers.
    fn change(&self, initial: bool, change: impl FnOnce(&mut Store) -> Effect) {
        let writer = self.writer.lock();
        let effect = change(&mut self.store.write());
        let (old, new) = match effect {
            Effect::None => return,
            Effect::Added { key, new } => (None, Some(View::new(key, new))),
            Effect::Updated { key, old, new } => {
                (Some(View::new(key.clone(), old)), Some(View::new(key, new)))
            }
            Effect::Deleted { key, old } => (Some(View::new(key, old)), None),
        };
        for (position, (_, of)) in writer.indexes.iter().enumerate() {
            let values = |view: &Option<View<K>>| {
                let object = view.as_ref().and_then(View::object);
                object.map(of).unwrap_or_default()
            };
            let (old_values, new_values) = (values(&old), values(&new));
            if let Some(view) = new.as_ref().or(old.as_ref())
                && old_values != new_values
                && let Some((_, index)) = self.store.write().indexes.get_mut(position)
            {
                index.replace(view.key(), &old_values, &new_values);
            }
        }
        let change = match (&old, &new) {
            (Some(old), Some(new)) => Change::Updated { old, new },
            (None, Some(new)) => Change::Added(new),
            (Some(old), None) => Change::Deleted(old),
            (None, None) => return,
        };
        for handler in &writer.handlers {
            handler(&Notice { change, initial });
        }
    }

    // === our own writes ===

    /// Takes in the answer to a write of ours.
    pub(crate) fn observe(&self, object: Pruned<K>) {
        if object.gone {
            let key = ObjectKey::of(&object);
            return self.ended(&key, object.meta.uid.as_deref().unwrap_or_default());
        }
        if self.covers(&object) {
            self.put(object, Origin::Written, false);
            self.doubt.notify_one();
        }
    }

    /// A delete of ours ended the object of that uid.
    pub(crate) fn ended(&self, key: &ObjectKey, uid: &str) {
        self.change(false, |store| store.ended(key, uid, uid_of, Instant::now()));
        self.doubt.notify_one();
    }

    /// Whether the watches of this informer will show the object.
    fn covers(&self, object: &Pruned<K>) -> bool {
        let namespaces = self.sources();
        let namespace = object.meta.namespace.as_deref();
        self.scope.fields.is_none()
            && (namespaces == [None] || namespaces.contains(&namespace))
            && (self.scope.labels.selects_all() || self.scope.labels.matches(&labels(&object.json)))
    }

    /// What we applied last to an object or its status, if the cache still holds the object: the record and the
    /// version that the cache holds.
    pub(crate) fn applied(&self, key: &ObjectKey, status: bool) -> Option<(LastApplied, u64)> {
        let store = self.store.read();
        let Applied {
            object,
            status: of_status,
        } = store.applied(key)?;
        let last = if status { of_status } else { object };
        Some((last.clone()?, store.version(key)?))
    }

    /// What an earlier process of ours applied to the object, for as long as this one has not.
    fn owned(&self, object: &Pruned<K>) -> OwnedFields {
        let Some(manager) = self.applier.get() else {
            return OwnedFields::default();
        };
        let waits = |last: &Option<LastApplied>| matches!(last, Some(LastApplied::Fields(_)));
        let known = |applied: &Applied| !waits(&applied.object) && !waits(&applied.status);
        if object.managed.is_empty()
            || self
                .store
                .read()
                .applied(&ObjectKey::of(object))
                .is_some_and(known)
        {
            return OwnedFields::default();
        }
        OwnedFields::of(&object.managed, manager, &K::api_version(&()))
    }

    pub(crate) fn set_applied(&self, key: &ObjectKey, status: bool, config: AppliedConfig) {
        self.store.write().set_applied(key, |applied| {
            let slot = if status {
                &mut applied.status
            } else {
                &mut applied.object
            };
            *slot = Some(LastApplied::Config(config));
        });
    }

    /// Looks up what has been in doubt for long.
    async fn clear_doubts(&self) {
        loop {
            self.doubt.notified().await;
            while self.store.read().in_doubt() {
                tokio::time::sleep(DOUBT).await;
                let doubtful = self.store.read().doubtful(Instant::now(), DOUBT);
                for (key, version) in doubtful {
                    self.look_up(&key, version).await;
                }
            }
        }
    }

    async fn look_up(&self, key: &ObjectKey, held: Option<u64>) {
        let api: Api<Pruned<K>> = match key.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &()),
            None => Api::all_with(self.client.clone(), &()),
        };
        // A list, so that a cache needs no other right than those to list and to watch.
        let alone = ListParams::default().fields(&format!("metadata.name={}", key.name()));
        match api.list(&alone).await.map(|list| list.items.into_iter().next()) {
            Ok(Some(object)) if self.covers(&object) => self.put(object, Origin::Verified, false),
            Ok(_) => self.change(false, |store| store.missing(key, held)),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %key, %error, "failed to look up an object in doubt");
            }
        }
    }

    /// Shows every object to the handlers again, now and then: insurance against what was missed elsewhere.
    async fn resync(&self) {
        let Some(period) = self.resync else { return };
        loop {
            // Kinds take turns rather than all come at once.
            tokio::time::sleep(period.mul_f64(rand::random_range(0.9..1.1))).await;
            let writer = self.writer.lock();
            for view in self.views(None) {
                for handler in &writer.handlers {
                    handler(&Notice {
                        change: Change::Resync(&view),
                        initial: false,
                    });
                }
            }
        }
    }
}

fn version<K: Object>(object: &Pruned<K>) -> u64 {
    let version = object.meta.resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

#[derive(Deserialize)]
struct Envelope {
    metadata: EnvelopeMeta,
}

#[derive(Deserialize)]
struct EnvelopeMeta {
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

fn envelope(json: &[u8]) -> Option<EnvelopeMeta> {
    serde_json::from_slice::<Envelope>(json)
        .ok()
        .map(|envelope| envelope.metadata)
}

fn uid_of(json: &[u8]) -> Option<String> {
    envelope(json)?.uid
}

fn labels(json: &[u8]) -> BTreeMap<String, String> {
    envelope(json).and_then(|meta| meta.labels).unwrap_or_default()
}

/// Servers before 1.32, and those with the `WatchList` gate off, refuse `sendInitialEvents` as an invalid option.
fn refuses_streaming(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 400 | 422),
        _ => false,
    }
}

/// What the server asks for with `Retry-After`.
fn retry_after(error: &watcher::Error) -> Duration {
    let (watcher::Error::WatchError(status)
    | watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))) = error
    else {
        return Duration::ZERO;
    };
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(u64::from(seconds))
}
