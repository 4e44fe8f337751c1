//! Watching, planning and writing, in turn.

use super::plan::{Action, Plan, Scene};
use super::pods::NODE;
use super::scales;
use super::world::{Kind, Ref, World, text};
use super::{Delay, Stages};
use crate::companions::access;
use clusterwright_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Error};
use rand::Rng as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MANAGER: &str = "stages";
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How often the node shows that it lives; node controllers wait 40 s.
const HEARTBEAT: Duration = Duration::from_secs(10);

enum Told {
    Is(Value),
    Gone(Value),
    /// The uids of all there are.
    All(HashSet<String>),
}

struct Driver {
    client: Client,
    clock: Clock,
    stages: Stages,
    world: World,
    unlisted: BTreeSet<Kind>,
    dirty: BTreeSet<Ref>,
    /// When to look at an object again.
    later: BTreeMap<(Instant, u64), Ref>,
    /// The stage that an object is to enter, and when.
    due: HashMap<Ref, (&'static str, Instant)>,
    failures: HashMap<Ref, u32>,
    sequence: u64,
}

/// Plays until it is dropped.
pub(in crate::companions) async fn run(client: Client, clock: Clock, stages: Stages) {
    let (told, mut news) = mpsc::channel(256);
    let mut watches = JoinSet::new();
    for kind in Kind::ALL {
        watches.spawn(watch(client.clone(), kind, told.clone()));
    }
    if stages.kubelet {
        watches.spawn(heartbeat(client.clone(), clock, !stages.controllers));
    }
    if stages.controllers {
        watches.spawn(accounts(client.clone()));
    }
    let mut driver = Driver {
        client,
        clock,
        stages,
        world: World::default(),
        unlisted: Kind::ALL.into_iter().collect(),
        dirty: BTreeSet::new(),
        later: BTreeMap::new(),
        due: HashMap::new(),
        failures: HashMap::new(),
        sequence: 0,
    };
    loop {
        while let Ok((kind, told)) = news.try_recv() {
            driver.hear(kind, told);
        }
        driver.wake(Instant::now());
        if driver.unlisted.is_empty()
            && let Some(at) = driver.dirty.pop_first()
        {
            driver.act(&at).await;
            continue;
        }
        let next = driver.later.keys().next().map(|(at, _)| *at);
        let wait = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((kind, told)) = news.recv() => driver.hear(kind, told),
            () = wait => {}
        }
    }
}

impl Driver {
    fn hear(&mut self, kind: Kind, told: Told) {
        let affected = match told {
            Told::Is(object) => self.world.put(kind, object),
            Told::Gone(object) => self.world.gone(kind, &object),
            Told::All(uids) => {
                self.unlisted.remove(&kind);
                self.world.keep_only(kind, &uids)
            }
        };
        self.dirty.extend(affected);
    }

    fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            self.dirty.insert(entry.remove());
        }
    }

    fn look_again(&mut self, at: &Ref, when: Instant) {
        self.sequence += 1;
        self.later.insert((when, self.sequence), at.clone());
    }

    /// What is to be done about an object, with the answers to what the plan asks for.
    async fn plan(&mut self, at: &Ref) -> Plan {
        let plan = loop {
            let scene = Scene {
                world: &self.world,
                stages: &self.stages,
                now: self.clock.now(),
            };
            let plan = scene.plan(at);
            if plan.asks.is_empty() {
                break plan;
            }
            for owner in plan.asks {
                let scale = scales::ask(&self.client, &owner).await;
                self.world.scales.insert(owner, scale);
            }
        };
        self.world.scales.clear();
        plan
    }

    /// Does what is to be done about an object.
    async fn act(&mut self, at: &Ref) {
        let Plan {
            mut actions,
            staged,
            again,
            ..
        } = self.plan(at).await;
        if let Some(wait) = again {
            self.look_again(at, Instant::now() + wait);
        }
        let now = Instant::now();
        match staged {
            None => {
                self.due.remove(at);
            }
            Some(staged) => match self.due.get(at) {
                Some((stage, when)) if *stage == staged.stage => {
                    if *when <= now {
                        self.due.remove(at);
                        actions.push(staged.action);
                    }
                }
                _ => {
                    let when = now + drawn(staged.delay);
                    self.due.insert(at.clone(), (staged.stage, when));
                    self.look_again(at, when);
                }
            },
        }
        for action in actions {
            match self.write(&action).await {
                Ok(affected) => {
                    self.failures.remove(at);
                    self.dirty.extend(affected);
                }
                Err(error) => {
                    tracing::debug!(%error, ?at, "failed to write");
                    let failures = self.failures.entry(at.clone()).or_default();
                    let wait = FIRST_RETRY
                        .saturating_mul(1 << (*failures).min(8))
                        .min(LAST_RETRY);
                    *failures += 1;
                    self.look_again(at, Instant::now() + wait);
                    return;
                }
            }
        }
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            return Api::all_with(self.client.clone(), &kind.resource());
        }
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Writes; what results is known at once, and not only when a watch tells it.
    async fn write(&mut self, action: &Action) -> Result<BTreeSet<Ref>, Error> {
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let (kind, written) = match action {
            Action::Create(kind, object) => {
                let namespace = text(object, "/metadata/namespace").to_owned();
                let object: DynamicObject =
                    serde_json::from_value(object.clone()).map_err(Error::SerdeError)?;
                let parameters = PostParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PostParams::default()
                };
                (
                    *kind,
                    self.api(*kind, &namespace).create(&parameters, &object).await?,
                )
            }
            Action::Patch(at, patch) => {
                let api = self.api(at.kind, &at.namespace);
                (
                    at.kind,
                    api.patch(&at.name, &parameters, &Patch::Merge(patch)).await?,
                )
            }
            Action::PatchStatus(at, patch) => {
                let api = self.api(at.kind, &at.namespace);
                (
                    at.kind,
                    api.patch_status(&at.name, &parameters, &Patch::Merge(patch))
                        .await?,
                )
            }
            Action::Bind { at, node } => return self.bind(at, node).await,
            Action::Delete { at, uid, now } => return self.delete(at, uid, *now).await,
        };
        Ok(self.world.put(kind, value_of(kind, &written)?))
    }

    async fn bind(&mut self, at: &Ref, node: &str) -> Result<BTreeSet<Ref>, Error> {
        let body = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": at.name, "namespace": at.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", at.namespace, at.name);
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        self.client.request::<Value>(request).await?;
        Ok(BTreeSet::new())
    }

    async fn delete(&mut self, at: &Ref, uid: &str, now: bool) -> Result<BTreeSet<Ref>, Error> {
        let parameters = DeleteParams {
            grace_period_seconds: now.then_some(0),
            propagation_policy: Some(kube::api::PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = self
            .api(at.kind, &at.namespace)
            .delete(&at.name, &parameters)
            .await;
        // What stays for a while comes back as it is now.
        match deleted.map(|answer| {
            answer
                .left()
                .filter(|object| object.metadata.deletion_timestamp.is_some())
        }) {
            Ok(Some(object)) if !now => Ok(self.world.put(at.kind, value_of(at.kind, &object)?)),
            Ok(_) => Ok(self.world.deleted(at)),
            Err(error) if access::code(&error) == 404 => Ok(self.world.deleted(at)),
            Err(error) => Err(error),
        }
    }
}

fn drawn(delay: Delay) -> Duration {
    delay.base + delay.jitter.mul_f64(rand::rng().random::<f64>())
}

fn value_of(kind: Kind, object: &DynamicObject) -> Result<Value, Error> {
    let mut value = serde_json::to_value(object).map_err(Error::SerdeError)?;
    // Items of a list do not say what they are.
    value["apiVersion"] = json!(kind.api_version());
    value["kind"] = json!(kind.name());
    Ok(value)
}

async fn watch(client: Client, kind: Kind, told: mpsc::Sender<(Kind, Told)>) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                value_of(kind, &object).map(Told::Is)
            }
            Ok(watcher::Event::InitDone) => Ok(Told::All(std::mem::take(&mut listed))),
            Ok(watcher::Event::Apply(object)) => value_of(kind, &object).map(Told::Is),
            Ok(watcher::Event::Delete(object)) => value_of(kind, &object).map(Told::Gone),
            Err(error) => {
                tracing::debug!(%error, kind = kind.name(), "failed to watch");
                continue;
            }
        };
        if let Ok(news) = news
            && told.send((kind, news)).await.is_err()
        {
            return;
        }
    }
}

/// Gives every namespace its service account `default`, without which no pod is admitted.
async fn accounts(client: Client) {
    let all: Api<Namespace> = Api::all(client.clone());
    let mut events = Box::pin(watcher(all, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace)) = &event else {
            continue;
        };
        let Some(name) = &namespace.metadata.name else {
            continue;
        };
        if namespace.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match api.create(&PostParams::default(), &account).await {
            Err(error) if access::code(&error) != 409 => {
                tracing::debug!(%error, namespace = %name, "failed to create the default service account");
            }
            _ => {}
        }
    }
}

/// Keeps the node that all pods are on there and ready. Nobody but a node controller needs it to go on showing that
/// it lives.
async fn heartbeat(client: Client, clock: Clock, beats: bool) {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
    let nodes: Api<DynamicObject> = Api::all_with(client, &resource);
    loop {
        if let Err(error) = show_node(&nodes, clock).await {
            tracing::debug!(%error, "failed to show the node");
            tokio::time::sleep(Duration::from_secs(1)).await;
        } else if beats {
            tokio::time::sleep(HEARTBEAT).await;
        } else {
            return;
        }
    }
}

async fn show_node(nodes: &Api<DynamicObject>, clock: Clock) -> Result<(), Error> {
    let labels = json!({"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "type": "simulated"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}});
    let node: DynamicObject = serde_json::from_value(node).map_err(Error::SerdeError)?;
    match nodes.create(&PostParams::default(), &node).await {
        Err(error) if access::code(&error) != 409 => return Err(error),
        _ => {}
    }
    let time = crate::companions::namespaces::time_text(clock.now());
    let size = json!({"cpu": "1k", "memory": "1Ti", "pods": "1M"});
    let status = json!({
        "capacity": size, "allocatable": size,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Simulated", "message": "pods on this node are simulated",
            "lastHeartbeatTime": time, "lastTransitionTime": time,
        }],
    });
    let patch = Patch::Merge(json!({ "status": status }));
    nodes
        .patch_status(NODE, &PatchParams::default(), &patch)
        .await
        .map(drop)
}
