//! Kubeconfigs of hosted clusters, as they are reached from this machine.

use crate::files;
use anyhow::{Context, Result};
use clusterwright_api::HostedControlPlane;
use clusterwright_api::meta::CLUSTER_NAME_LABEL;
use clusterwright_podlet::network::objects::host_ports;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ListParams};
use kube::config::Kubeconfig;
use kube::{Client, ResourceExt};
use std::path::{Path, PathBuf};

/// A hosted cluster that answers.
pub struct Hosted {
    /// What it is called.
    pub name: String,
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
}

/// Writes a kubeconfig for each hosted cluster that is reached from this machine into `folder`.
pub async fn kubeconfigs(client: &Client, folder: &Path) -> Result<Vec<Hosted>> {
    let objects = Api::<HostedControlPlane>::all(client.clone());
    let objects = objects.list(&ListParams::default()).await;
    let objects = objects.context("failed to list the hosted control planes")?;
    let mut all = Vec::new();
    for object in objects {
        let namespace = object.namespace().unwrap_or_default();
        let Some(cluster) = object.labels().get(CLUSTER_NAME_LABEL).cloned() else {
            continue;
        };
        let text = kubeconfig(client, &namespace, &cluster).await;
        let text =
            text.with_context(|| format!("failed to reach the hosted cluster {namespace}/{cluster}"))?;
        let Some(text) = text else { continue };
        let path = folder.join(format!("{namespace}-{cluster}.kubeconfig"));
        files::write_private(&path, &text)?;
        all.push(Hosted {
            name: cluster,
            kubeconfig: path,
        });
    }
    Ok(all)
}

/// The kubeconfig of a cluster with an address of this machine; none where there is no such address.
async fn kubeconfig(client: &Client, namespace: &str, cluster: &str) -> Result<Option<String>> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let of_cluster = ListParams::default().labels(&format!("{CLUSTER_NAME_LABEL}={cluster}"));
    let port = services.list(&of_cluster).await?.iter().find_map(host_port);
    let Some(port) = port else { return Ok(None) };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(&format!("{cluster}-kubeconfig")).await?;
    let value = secret.data.as_ref().and_then(|data| data.get("value"));
    let value = value.context("its kubeconfig Secret has no value")?;
    let mut config = Kubeconfig::from_yaml(&String::from_utf8_lossy(&value.0))?;
    for cluster in config
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        cluster.server = Some(format!("https://127.0.0.1:{port}"));
    }
    Ok(Some(format!("{:#}\n", serde_json::to_value(&config)?)))
}

/// The port of this machine that leads to a load balancer's first port.
pub fn host_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    let port = spec.ports.as_ref()?.first()?.port;
    host_ports(service).get(&u16::try_from(port).ok()?).copied()
}
