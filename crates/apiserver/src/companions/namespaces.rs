//! Deleting what is in a namespace that is deleted, and then letting the namespace go.
//!
//! Pods go first, then everything else. The conditions of the namespace say what is left; its finalizer
//! `kubernetes` is taken away when nothing is.

use super::access::{self, Kind};
use clusterwright_clock::Clock;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Error};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

const FINALIZER: &str = "kubernetes";
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// A time as objects hold it.
pub(super) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Sees to namespaces until it is dropped.
pub(super) async fn run(client: Client, clock: Clock) {
    let all: Api<Namespace> = Api::all(client.clone());
    let mut events = Box::pin(watcher(all, watcher::Config::default()).default_backoff());
    // Namespaces to look at, by when, and how often that was in vain.
    let mut due: HashMap<String, (Instant, u32)> = HashMap::new();
    loop {
        let next = due
            .iter()
            .min_by_key(|(_, (at, _))| *at)
            .map(|(name, (at, _))| (name.clone(), *at));
        let wait = async {
            match &next {
                Some((_, at)) => tokio::time::sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace))) => {
                    if let (Some(name), true) = (namespace.metadata.name, namespace.metadata.deletion_timestamp.is_some()) {
                        due.entry(name).or_insert((Instant::now(), 0));
                    }
                }
                Some(Ok(watcher::Event::Delete(namespace))) => {
                    due.remove(namespace.metadata.name.as_deref().unwrap_or_default());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::debug!(%error, "failed to watch namespaces"),
                None => return,
            },
            () = wait => {
                let Some((name, _)) = next else { continue };
                let emptied = match empty(&client, clock, &name).await {
                    Ok(emptied) => emptied,
                    Err(error) => {
                        tracing::debug!(%error, namespace = %name, "failed to empty the namespace");
                        false
                    }
                };
                if emptied {
                    due.remove(&name);
                } else if let Some((at, failures)) = due.get_mut(&name) {
                    *at = Instant::now() + FIRST_RETRY.saturating_mul(1 << (*failures).min(8)).min(LAST_RETRY);
                    *failures += 1;
                }
            }
        }
    }
}

/// What is left in a namespace.
#[derive(Debug, Default)]
struct Left {
    /// By `PLURAL.GROUP`.
    resources: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
    undiscovered: Option<String>,
}

/// Deletes what is in the namespace. True when there is nothing more to do for it.
async fn empty(client: &Client, clock: Clock, name: &str) -> Result<bool, Error> {
    let all: Api<Namespace> = Api::all(client.clone());
    let Some(namespace) = all.get_opt(name).await? else {
        return Ok(true);
    };
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.clone())
        .unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none()
        || !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    {
        return Ok(true);
    }
    let mut left = Left::default();
    let kinds = access::discover(client).await.unwrap_or_else(|error| {
        left.undiscovered = Some(error.to_string());
        Vec::new()
    });
    let (pods, others): (Vec<Kind>, Vec<Kind>) = kinds
        .into_iter()
        .filter(|kind| kind.namespaced && kind.supports(&["delete"]))
        .partition(|kind| kind.resource.plural == "pods" && kind.resource.group.is_empty());
    for kind in &pods {
        delete_all(client, kind, name, &mut left).await;
    }
    let pods_left = !left.resources.is_empty();
    if !pods_left {
        for kind in &others {
            delete_all(client, kind, name, &mut left).await;
        }
    }
    write_conditions(&all, name, &namespace, &left, pods_left, clock).await?;
    if !left.resources.is_empty() || !left.failures.is_empty() || left.undiscovered.is_some() {
        return Ok(false);
    }
    finalize(client, name, finalizers).await?;
    Ok(true)
}

/// Takes the finalizer away.
async fn finalize(client: &Client, name: &str, finalizers: Vec<String>) -> Result<(), Error> {
    let left: Vec<String> = finalizers
        .into_iter()
        .filter(|finalizer| finalizer != FINALIZER)
        .collect();
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": left},
    });
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
    match client.request::<Value>(request).await {
        Err(error) if !matches!(access::code(&error), 404 | 409) => Err(error),
        _ => Ok(()),
    }
}

async fn delete_all(client: &Client, kind: &Kind, namespace: &str, left: &mut Left) {
    let api = kind.api(client, namespace);
    let result = async {
        let background = DeleteParams::background();
        if kind.supports(&["deletecollection"]) {
            api.delete_collection(&background, &ListParams::default()).await?;
        } else if kind.supports(&["list"]) {
            for object in api.list(&ListParams::default()).await? {
                match api
                    .delete(object.metadata.name.as_deref().unwrap_or_default(), &background)
                    .await
                {
                    Err(error) if access::code(&error) != 404 => return Err(error),
                    _ => {}
                }
            }
        }
        if !kind.supports(&["list"]) {
            return Ok(Vec::new());
        }
        Ok(api.list(&ListParams::default()).await?.items)
    };
    match result.await {
        Ok(objects) => count(kind, &objects, left),
        // The definition of the kind may go at the same time.
        Err(error) if matches!(access::code(&error), 404 | 405) => {}
        Err(error) => left.failures.push(error.to_string()),
    }
}

fn count(kind: &Kind, objects: &[DynamicObject], left: &mut Left) {
    if objects.is_empty() {
        return;
    }
    let name = format!("{}.{}", kind.resource.plural, kind.resource.group);
    left.resources.insert(name, objects.len());
    for finalizer in objects
        .iter()
        .flat_map(|object| object.metadata.finalizers.iter().flatten())
    {
        *left.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
}

/// The five conditions, in the real controller's words.
fn conditions(left: &Left, pods_left: bool) -> [(&'static str, bool, &'static str, String); 5] {
    let listed = |counted: &BTreeMap<String, usize>, verb: &str| {
        let said: Vec<String> = counted
            .iter()
            .map(|(name, count)| format!("{name} {verb} {count} resource instances"))
            .collect();
        said.join(", ")
    };
    let discovery = match &left.undiscovered {
        Some(error) => (true, "DiscoveryFailed", error.clone()),
        None => (
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
    };
    let content = if left.failures.is_empty() {
        let message = "All content successfully deleted, may be waiting on finalization";
        (false, "ContentDeleted", message.to_owned())
    } else {
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            left.failures.len(),
            left.failures.join(", ")
        );
        (true, "ContentDeletionFailed", message)
    };
    // While pods are waited for nothing is said of what is left.
    let remaining = if left.resources.is_empty() || pods_left {
        (
            false,
            "ContentRemoved",
            "All content successfully removed".to_owned(),
        )
    } else {
        let message = format!("Some resources are remaining: {}", listed(&left.resources, "has"));
        (true, "SomeResourcesRemain", message)
    };
    let finalizers = if left.finalizers.is_empty() || pods_left {
        (
            false,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".to_owned(),
        )
    } else {
        let message = format!(
            "Some content in the namespace has finalizers remaining: {}",
            listed(&left.finalizers, "in")
        );
        (true, "SomeFinalizersRemain", message)
    };
    let parsed = (
        false,
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed".to_owned(),
    );
    let named = |kind: &'static str, (status, reason, message)| (kind, status, reason, message);
    [
        named("NamespaceDeletionDiscoveryFailure", discovery),
        named("NamespaceDeletionGroupVersionParsingFailure", parsed),
        named("NamespaceDeletionContentFailure", content),
        named("NamespaceContentRemaining", remaining),
        named("NamespaceFinalizersRemaining", finalizers),
    ]
}

async fn write_conditions(
    all: &Api<Namespace>,
    name: &str,
    namespace: &Namespace,
    left: &Left,
    pods_left: bool,
    clock: Clock,
) -> Result<(), Error> {
    let old = serde_json::to_value(&namespace.status).map_err(Error::SerdeError)?;
    let old = old["conditions"].as_array().cloned().unwrap_or_default();
    let mut new = old.clone();
    for (kind, is_true, reason, message) in conditions(left, pods_left) {
        let status = if is_true { "True" } else { "False" };
        let mut condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": time_text(clock.now()),
        });
        match new.iter_mut().find(|other| other["type"] == kind) {
            Some(other) => {
                if other["status"] == status {
                    condition["lastTransitionTime"] = other["lastTransitionTime"].clone();
                }
                *other = condition;
            }
            None => new.push(condition),
        }
    }
    if new == old {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": {"conditions": new}}));
    match all.patch_status(name, &PatchParams::default(), &patch).await {
        Err(error) if access::code(&error) != 404 => Err(error),
        _ => Ok(()),
    }
}
