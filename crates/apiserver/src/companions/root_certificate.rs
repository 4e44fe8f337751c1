//! The certificate that pods know the server by: the `ConfigMap` `kube-root-ca.crt` of each namespace, which every pod
//! mounts beside its token.

use super::access;
use futures::StreamExt;
use futures::stream::select;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Error};
use serde_json::json;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
/// In the real controller's words.
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                           endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                           guaranteed across distributions of Kubernetes clusters.";

/// Publishes the certificate, and does again when it is changed or deleted, until it is dropped.
pub(super) async fn run(client: Client, certificate: String) {
    let namespaces = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .filter_map(async |event| match event {
            Ok(watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace)) => {
                let stays = namespace.metadata.deletion_timestamp.is_none();
                namespace.metadata.name.filter(|_| stays)
            }
            _ => None,
        });
    let named = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let maps = watcher(Api::<ConfigMap>::all(client.clone()), named)
        .default_backoff()
        .filter_map(async |event| match event {
            Ok(watcher::Event::Apply(map) | watcher::Event::Delete(map)) => map.metadata.namespace,
            _ => None,
        });
    let mut due = Box::pin(select(namespaces, maps));
    while let Some(namespace) = due.next().await {
        if let Err(error) = publish(&client, &namespace, &certificate).await {
            tracing::debug!(%error, namespace, "failed to publish the server's certificate");
        }
    }
}

async fn publish(client: &Client, namespace: &str, certificate: &str) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let data = json!({KEY: certificate});
    let Some(there) = maps.get_opt(NAME).await? else {
        let map = json!({
            "metadata": {"name": NAME, "annotations": {"kubernetes.io/description": DESCRIPTION}},
            "data": data,
        });
        let map = serde_json::from_value(map).map_err(Error::SerdeError)?;
        return match maps.create(&PostParams::default(), &map).await {
            // The namespace goes, or another was faster.
            Err(error) if !matches!(access::code(&error), 403 | 404 | 409) => Err(error),
            _ => Ok(()),
        };
    };
    if json!(there.data) == data {
        return Ok(());
    }
    let only = Patch::Json::<()>(
        serde_json::from_value(json!([{"op": "add", "path": "/data", "value": data}]))
            .map_err(Error::SerdeError)?,
    );
    match maps.patch(NAME, &PatchParams::default(), &only).await {
        Err(error) if access::code(&error) != 404 => Err(error),
        _ => Ok(()),
    }
}
