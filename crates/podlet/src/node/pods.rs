//! Which pods are this node's: each gets a worker, which is told what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_runtime::client::{Client, Error};
use clusterwright_runtime::controller::{Builder, Controller};
use clusterwright_runtime::object::{Object, ObjectKey};
use clusterwright_runtime::reconcile::{Context, Outcome, Reconciler, Request};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::machine::Machine;
use super::sources::References;
use super::worker::{self, Told, Worker};

/// The index of pods by what they refer to.
pub const REFERENCES: &str = "references";
/// How soon a pod is looked at again whose name an earlier one still has.
const SOON: Duration = Duration::from_millis(50);

/// The value of [`REFERENCES`] for an object.
pub fn reference<K: Object>(namespace: &str, name: &str) -> String {
    format!("{} {namespace}/{name}", K::kind(&()))
}

/// The values of [`REFERENCES`] for a pod.
pub fn references(pod: &Pod) -> Vec<String> {
    let namespace = pod.namespace().unwrap_or_default();
    let found = pod.spec.as_ref().map(References::of).unwrap_or_default();
    let secrets = found.secrets.iter();
    let secrets = secrets.map(|name| reference::<Secret>(&namespace, name));
    let config_maps = found.config_maps.iter();
    let config_maps = config_maps.map(|name| reference::<ConfigMap>(&namespace, name));
    let claims = found.claims.iter();
    let claims = claims.map(|name| reference::<PersistentVolumeClaim>(&namespace, name));
    secrets.chain(config_maps).chain(claims).collect()
}

/// The pods that refer to an object.
fn referring<K: Object>(object: &K, client: &Client) -> Vec<ObjectKey> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let name = object.meta().name.as_deref().unwrap_or_default();
    let value = reference::<K>(namespace, name);
    client.list_keys_by::<Pod>(REFERENCES, &value).unwrap_or_default()
}

/// The controller.
pub fn controller(machine: Arc<Machine>) -> Builder<Pods, PersistentVolumeClaim> {
    let pods = Pods {
        machine,
        running: Arc::default(),
    };
    Controller::builder("podlet", pods)
        .watches(referring::<Secret>)
        .watches(referring::<ConfigMap>)
        .watches(referring::<PersistentVolumeClaim>)
}

/// See the module.
pub struct Pods {
    machine: Arc<Machine>,
    running: Arc<Mutex<HashMap<ObjectKey, Running>>>,
}

/// A pod's worker.
struct Running {
    uid: String,
    told: watch::Sender<Told>,
}

impl Reconciler for Pods {
    type Object = Pod;
    type Error = Error;

    async fn reconcile(&self, cx: &Context, request: Request<Pod>) -> Result<Outcome, Error> {
        let key = request.key();
        let Some(pod) = cx.get(&request)? else {
            if let Some(running) = self.running.lock().get(key) {
                running.told.send_replace(Told::Gone);
            }
            return Ok(Outcome::Done);
        };
        if let Some(running) = self.running.lock().get(key) {
            if Some(running.uid.as_str()) == pod.metadata.uid.as_deref() {
                running.told.send_replace(Told::Is(Arc::new(pod)));
                return Ok(Outcome::Done);
            }
            running.told.send_replace(Told::Gone);
            return Ok(Outcome::RequeueAfter(SOON));
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed"));
        let deleting = pod.metadata.deletion_timestamp.is_some();
        // What is left of a pod without grace is for those who have finalizers on it.
        let done = over && (!deleting || pod.metadata.deletion_grace_period_seconds == Some(0));
        if done || self.machine.ending.is_cancelled() {
            return Ok(Outcome::Done);
        }
        if over {
            worker::delete(&self.machine, &pod).await?;
            return Ok(Outcome::Done);
        }
        self.take_on(key, pod);
        Ok(Outcome::Done)
    }
}

impl Pods {
    fn take_on(&self, key: &ObjectKey, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let pod = Arc::new(pod);
        let (told, listens) = watch::channel(Told::Is(pod.clone()));
        let running = Running {
            uid: uid.clone(),
            told,
        };
        self.running.lock().insert(key.clone(), running);
        let worker = Worker::new(self.machine.clone(), pod, listens);
        let (all, key) = (self.running.clone(), key.clone());
        self.machine.workers.spawn(async move {
            worker.run().await;
            all.lock().remove(&key);
        });
    }
}
