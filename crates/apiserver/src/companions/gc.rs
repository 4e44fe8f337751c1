//! Garbage collection: what is left of an owner that is deleted.
//!
//! An object goes when all its owners have gone; an owner deleted in the foreground goes after the dependents that
//! block it; one that orphans its dependents is taken out of their references first. What the watches tell only says
//! where to look: each step asks the server for the object and its owners.

use super::access::{self, Kind};
use super::graph::{FOREGROUND, Graph, Node, ORPHAN, Work};
use clusterwright_clock::Clock;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Error};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// How long after a definition has changed its kinds are looked for.
const DISCOVERY_DELAY: Duration = Duration::from_millis(500);
/// How often kinds are looked for all the same.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// The longest wait for the first lists; a kind that can't be listed must not hold up the others for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long after an owner begins to wait for its dependents they are counted: each kind has a watch of its own, and
/// that of the dependents may be behind that of the owner.
const SETTLING: Duration = Duration::from_millis(100);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What a watch tells.
enum Told {
    Is(Node),
    Gone(String),
    /// All objects of the kind there are.
    All(BTreeSet<String>),
}

type KindId = (String, String);

struct Collector {
    client: Client,
    clock: Clock,
    graph: Graph,
    kinds: HashMap<KindId, Arc<Kind>>,
    watches: HashMap<KindId, AbortHandle>,
    tasks: JoinSet<()>,
    /// Kinds of which the first list is not in yet.
    unlisted: BTreeSet<KindId>,
    told: mpsc::Sender<(KindId, Told)>,
    queue: VecDeque<Work>,
    queued: BTreeSet<Work>,
    later: BTreeMap<(Instant, u64), Work>,
    failures: HashMap<Work, u32>,
    sequence: u64,
    discover_at: Instant,
}

/// Collects until it is dropped.
pub(super) async fn run(client: Client, clock: Clock) {
    let (told, mut news) = mpsc::channel(256);
    let mut collector = Collector {
        client,
        clock,
        graph: Graph::default(),
        kinds: HashMap::new(),
        watches: HashMap::new(),
        tasks: JoinSet::new(),
        unlisted: BTreeSet::new(),
        told,
        queue: VecDeque::new(),
        queued: BTreeSet::new(),
        later: BTreeMap::new(),
        failures: HashMap::new(),
        sequence: 0,
        discover_at: Instant::now(),
    };
    let patience = Instant::now() + PATIENCE;
    loop {
        while let Ok((kind, told)) = news.try_recv() {
            collector.hear(&kind, told);
        }
        let now = Instant::now();
        collector.wake(now);
        if now >= collector.discover_at {
            collector.discover().await;
            continue;
        }
        let ready = collector.unlisted.is_empty() || now >= patience;
        if ready && let Some(work) = collector.queue.pop_front() {
            collector.queued.remove(&work);
            collector.work(work).await;
            continue;
        }
        let next = collector.later.keys().next().map(|(at, _)| *at);
        let mut wake = next.map_or(collector.discover_at, |next| next.min(collector.discover_at));
        if !ready {
            wake = wake.min(patience);
        }
        tokio::select! {
            Some((kind, told)) = news.recv() => collector.hear(&kind, told),
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

impl Collector {
    fn add(&mut self, work: impl IntoIterator<Item = Work>) {
        for work in work {
            if self.queued.insert(work.clone()) {
                self.queue.push_back(work);
            }
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(due) = self.later.first_entry().filter(|due| due.key().0 <= now) {
            let work = due.remove();
            self.add([work]);
        }
    }

    fn retry(&mut self, work: Work) {
        let failures = self.failures.entry(work.clone()).or_default();
        let wait = FIRST_RETRY
            .saturating_mul(1 << (*failures).min(8))
            .min(LAST_RETRY);
        *failures += 1;
        self.wait(work, wait);
    }

    fn wait(&mut self, work: Work, wait: Duration) {
        self.sequence += 1;
        self.later.insert((Instant::now() + wait, self.sequence), work);
    }

    /// Whether the work is right only when all dependents of the object are known.
    fn counts_dependents(&self, work: &Work) -> bool {
        match work {
            Work::Orphan(_) => true,
            Work::Delete(uid) => self.graph.get(uid).is_some_and(Node::deletes_dependents),
            Work::Misplaced(..) => false,
        }
    }

    fn hear(&mut self, kind: &KindId, told: Told) {
        if kind.1 == "customresourcedefinitions" {
            self.discover_at = self.discover_at.min(Instant::now() + DISCOVERY_DELAY);
        }
        let work = match told {
            Told::Is(node) => self.graph.observe(&node),
            Told::Gone(uid) => self.graph.forget(&uid),
            Told::All(uids) => {
                self.unlisted.remove(kind);
                let gone: Vec<String> = self.graph.of_kind(kind).difference(&uids).cloned().collect();
                gone.iter().flat_map(|uid| self.graph.forget(uid)).collect()
            }
        };
        let (later, now): (Vec<Work>, Vec<Work>) =
            work.into_iter().partition(|work| self.counts_dependents(work));
        self.add(now);
        for work in later {
            self.wait(work, SETTLING);
        }
    }

    /// Watches every kind there is, and no other.
    async fn discover(&mut self) {
        self.discover_at = Instant::now() + DISCOVERY_PERIOD;
        let kinds = match access::discover(&self.client).await {
            Ok(kinds) => kinds,
            Err(error) => {
                tracing::debug!(%error, "failed to discover what is served");
                self.discover_at = Instant::now() + Duration::from_secs(1);
                return;
            }
        };
        let kinds: HashMap<KindId, Arc<Kind>> = kinds
            .into_iter()
            .filter(|kind| kind.resource.plural != "events" && kind.supports(&["list", "watch", "delete"]))
            .map(|kind| (kind.id(), Arc::new(kind)))
            .collect();
        let changed = |id: &KindId| {
            let version = |kinds: &HashMap<KindId, Arc<Kind>>| {
                kinds.get(id).map(|kind| kind.resource.api_version.clone())
            };
            version(&kinds) != version(&self.kinds)
        };
        let ended: Vec<KindId> = self.watches.keys().filter(|id| changed(id)).cloned().collect();
        for id in ended {
            if let Some(watch) = self.watches.remove(&id) {
                watch.abort();
            }
            self.unlisted.remove(&id);
            if !kinds.contains_key(&id) {
                let gone = self.graph.of_kind(&id);
                let work: Vec<Work> = gone.iter().flat_map(|uid| self.graph.forget(uid)).collect();
                self.add(work);
            }
        }
        for (id, kind) in &kinds {
            if !self.watches.contains_key(id) {
                self.unlisted.insert(id.clone());
                let watch = watch(self.client.clone(), Arc::clone(kind), self.told.clone());
                self.watches.insert(id.clone(), self.tasks.spawn(watch));
            }
        }
        self.kinds = kinds;
    }

    async fn work(&mut self, work: Work) {
        let done = match &work {
            Work::Delete(uid) => self.attempt_delete(uid).await,
            Work::Orphan(uid) => self.attempt_orphan(uid).await,
            Work::Misplaced(uid, owner) => self.report(uid, owner).await,
        };
        match done {
            Ok(()) => {
                self.failures.remove(&work);
            }
            Err(error) => {
                tracing::debug!(%error, ?work, "failed to collect garbage");
                self.retry(work);
            }
        }
    }

    fn kind_of(&self, node: &Node) -> Result<Arc<Kind>, Error> {
        self.kinds
            .get(&node.kind)
            .cloned()
            .ok_or_else(|| unknown_kind(&node.kind.1))
    }

    /// The object as it is now; one that is gone, or another of that name, is forgotten.
    async fn live(&mut self, node: &Node) -> Result<Option<DynamicObject>, Error> {
        let api = self.kind_of(node)?.api(&self.client, &node.namespace);
        let live = api.get_opt(&node.name).await?;
        let live = live.filter(|live| live.metadata.uid.as_deref() == Some(&node.uid));
        if live.is_none() {
            let work = self.graph.forget(&node.uid);
            self.add(work);
        }
        Ok(live)
    }

    async fn attempt_delete(&mut self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.graph.get(uid).cloned() else {
            return Ok(());
        };
        if node.is_on_its_way() {
            return Ok(());
        }
        let Some(live) = self.live(&node).await? else {
            return Ok(());
        };
        if node.deletes_dependents() {
            return self.delete_dependents(&node, &live).await;
        }
        let owners = live.metadata.owner_references.clone().unwrap_or_default();
        if owners.is_empty() {
            return Ok(());
        }
        let (mut solid, mut waiting, mut dangling) = (0, Vec::new(), Vec::new());
        for owner in owners {
            match self.judge(&node, &owner).await? {
                Owner::Solid => solid += 1,
                Owner::Waiting => waiting.push(owner.uid),
                Owner::Dangling => dangling.push(owner.uid),
                // A reference that can't be right is no reason to delete.
                Owner::Unresolvable => return Ok(()),
            }
        }
        if solid > 0 {
            dangling.append(&mut waiting);
            if dangling.is_empty() {
                return Ok(());
            }
            return self.drop_owners(&node, &live, &dangling).await;
        }
        let finalizers = live.metadata.finalizers.clone().unwrap_or_default();
        let policy = if !waiting.is_empty() && self.graph.dependents(uid).next().is_some() {
            if self.graph.dependents(uid).any(Node::deletes_dependents) {
                // A circle of objects that wait for each other is opened here.
                self.unblock(&node, &live).await?;
            }
            PropagationPolicy::Foreground
        } else if finalizers.iter().any(|finalizer| finalizer == ORPHAN) {
            PropagationPolicy::Orphan
        } else if finalizers.iter().any(|finalizer| finalizer == FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(node.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.kind_of(&node)?.api(&self.client, &node.namespace);
        match api.delete(&node.name, &parameters).await {
            Err(error) if access::code(&error) != 404 => Err(error),
            _ => Ok(()),
        }
    }

    /// What has become of an owner.
    async fn judge(&self, node: &Node, reference: &OwnerReference) -> Result<Owner, Error> {
        let found = self
            .kinds
            .values()
            .find(|kind| kind.is(&reference.api_version, &reference.kind));
        let kind = found.ok_or_else(|| unknown_kind(&reference.kind))?;
        if kind.namespaced && node.namespace.is_empty() {
            return Ok(Owner::Unresolvable);
        }
        let owner = kind
            .api(&self.client, &node.namespace)
            .get_opt(&reference.name)
            .await?;
        let Some(owner) = owner.filter(|owner| owner.metadata.uid.as_deref() == Some(&reference.uid)) else {
            return Ok(Owner::Dangling);
        };
        let waits = Node::of(kind.id(), &owner).is_some_and(|owner| owner.deletes_dependents());
        Ok(if waits { Owner::Waiting } else { Owner::Solid })
    }

    /// Lets an object that is deleted in the foreground go when nothing blocks it, else sees to what does.
    async fn delete_dependents(&mut self, node: &Node, live: &DynamicObject) -> Result<(), Error> {
        let blocking: Vec<&Node> = self
            .graph
            .dependents(&node.uid)
            .filter(|d| d.blocks(&node.uid))
            .collect();
        if blocking.is_empty() {
            return self.remove_finalizer(node, live, FOREGROUND).await;
        }
        let work: Vec<Work> = blocking
            .into_iter()
            .filter(|dependent| !dependent.deletes_dependents())
            .map(|dependent| Work::Delete(dependent.uid.clone()))
            .collect();
        self.add(work);
        Ok(())
    }

    async fn attempt_orphan(&mut self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.graph.get(uid).cloned() else {
            return Ok(());
        };
        let dependents: Vec<Node> = self.graph.dependents(uid).cloned().collect();
        for dependent in dependents {
            if let Some(live) = self.live(&dependent).await? {
                self.drop_owners(&dependent, &live, &[uid.to_owned()]).await?;
            }
        }
        match self.live(&node).await? {
            Some(live) => self.remove_finalizer(&node, &live, ORPHAN).await,
            None => Ok(()),
        }
    }

    async fn remove_finalizer(
        &self,
        node: &Node,
        live: &DynamicObject,
        finalizer: &str,
    ) -> Result<(), Error> {
        let finalizers = live.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|other| other == finalizer) {
            return Ok(());
        }
        let left: Vec<String> = finalizers
            .into_iter()
            .filter(|other| other != finalizer)
            .collect();
        self.patch(node, live, json!({ "finalizers": left })).await
    }

    async fn drop_owners(&self, node: &Node, live: &DynamicObject, uids: &[String]) -> Result<(), Error> {
        let owners = live.metadata.owner_references.clone().unwrap_or_default();
        let left: Vec<OwnerReference> = owners
            .iter()
            .filter(|owner| !uids.contains(&owner.uid))
            .cloned()
            .collect();
        if left.len() == owners.len() {
            return Ok(());
        }
        self.patch(node, live, json!({ "ownerReferences": left })).await
    }

    async fn unblock(&self, node: &Node, live: &DynamicObject) -> Result<(), Error> {
        let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
        for owner in &mut owners {
            owner.block_owner_deletion = Some(false);
        }
        let metadata = json!({"ownerReferences": owners, "uid": node.uid});
        let api = self.kind_of(node)?.api(&self.client, &node.namespace);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        api.patch(&node.name, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }

    /// Patches metadata of exactly the state that was read.
    async fn patch(&self, node: &Node, live: &DynamicObject, mut metadata: Value) -> Result<(), Error> {
        metadata["uid"] = json!(node.uid);
        metadata["resourceVersion"] = json!(live.metadata.resource_version);
        let api = self.kind_of(node)?.api(&self.client, &node.namespace);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match api.patch(&node.name, &PatchParams::default(), &patch).await {
            Err(error) if access::code(&error) != 404 => Err(error),
            _ => Ok(()),
        }
    }

    /// Tells, by an Event, that an owner is in another namespace.
    async fn report(&self, uid: &str, owner: &str) -> Result<(), Error> {
        let Some(node) = self.graph.get(uid) else {
            return Ok(());
        };
        let Some(reference) = node.owners.iter().find(|reference| reference.uid == owner) else {
            return Ok(());
        };
        let kind = self.kind_of(node)?;
        let namespace = if node.namespace.is_empty() {
            "default"
        } else {
            &node.namespace
        };
        let component = "garbage-collector-controller";
        let now = self.clock.now();
        let event_name = format!("{}.{:x}", node.name, now.as_nanosecond());
        let now = super::namespaces::time_text(now);
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event_name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": kind.resource.api_version, "kind": kind.resource.kind,
                "namespace": node.namespace, "name": node.name, "uid": node.uid,
            },
            "type": "Warning",
            "reason": "OwnerRefInvalidNamespace",
            "message": format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
                reference.api_version, reference.kind, node.namespace, reference.name, reference.uid, node.namespace
            ),
            "source": {"component": component},
            "reportingComponent": component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        let event: DynamicObject = serde_json::from_value(event).map_err(Error::SerdeError)?;
        let resource = kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::Event>(&());
        let api: kube::Api<DynamicObject> =
            kube::Api::namespaced_with(self.client.clone(), namespace, &resource);
        api.create(&PostParams::default(), &event).await.map(drop)
    }
}

enum Owner {
    Solid,
    /// Deleted in the foreground, and so waiting for the object.
    Waiting,
    Dangling,
    /// A namespaced owner of an object that is in no namespace.
    Unresolvable,
}

fn unknown_kind(kind: &str) -> Error {
    Error::Discovery(kube::error::DiscoveryError::MissingKind(kind.to_owned()))
}

/// Tells of every object of a kind, until it is aborted.
async fn watch(client: Client, kind: Arc<Kind>, told: mpsc::Sender<(KindId, Told)>) {
    let id = kind.id();
    let api = kind.api(&client, "");
    let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                Node::of(id.clone(), &object).map(Told::Is)
            }
            Ok(watcher::Event::InitDone) => Some(Told::All(std::mem::take(&mut listed))),
            Ok(watcher::Event::Apply(object)) => Node::of(id.clone(), &object).map(Told::Is),
            Ok(watcher::Event::Delete(object)) => object.metadata.uid.map(Told::Gone),
            Err(error) => {
                tracing::debug!(%error, kind = %id.1, "failed to watch");
                None
            }
        };
        if let Some(news) = news
            && told.send((id.clone(), news)).await.is_err()
        {
            return;
        }
    }
}
