//! Bringing the custom resources and the manifests to a server: first to one that is thrown away, so that a fault in
//! the last document is known before the first is applied.

use super::manifests::{Applier, Manifest};
use anyhow::{Context, Result};
use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::companions::Companions;
use clusterwright_runtime::crd::{self, Definition, InstallOptions};
use kube::Client;
use tokio_util::sync::CancellationToken;

/// Does all that [`prepare`] does on a server of its own.
pub async fn rehearse(manifests: &[Manifest], force: bool) -> Result<()> {
    let server = ApiServer::new();
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    tokio::spawn(Companions::new(server.client(), server.clock()).run(stop));
    prepare(server.client(), manifests, force)
        .await
        .context("nothing was applied, because of what follows")
}

/// Applies the manifests, and our custom resources after those that the manifests bring: one of ours that is among
/// them in another shape is not overwritten, unless forced.
pub async fn prepare(client: Client, manifests: &[Manifest], force: bool) -> Result<()> {
    let (first, rest): (Vec<Manifest>, Vec<Manifest>) = manifests
        .iter()
        .cloned()
        .partition(|manifest| manifest.kind() == "CustomResourceDefinition");
    let mut applier = Applier::new(client.clone());
    applier.apply_all(&first).await?;
    install(&client, force).await?;
    applier.apply_all(&rest).await
}

/// Our custom resources, and Cluster API's Cluster where it is not there.
async fn install(client: &Client, force: bool) -> Result<()> {
    let mut definitions: Vec<Definition> = clusterwright_api::crds()
        .into_iter()
        .map(Definition::own)
        .collect();
    definitions.push(Definition::foreign(clusterwright_api::cluster_crd()));
    let options = InstallOptions {
        force,
        ..InstallOptions::new(crate::operators::NAME)
    };
    crd::install(client, &definitions, &options)
        .await
        .map_err(Into::into)
}
