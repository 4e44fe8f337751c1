//! `clusterwright install`: the custom resources, roles and the manager, into a cluster.

use crate::connect::{self, ClusterArgs};
use crate::up::manifests::{Applier, Manifest};
use crate::{manifests, operators};
use anyhow::Result;
use clusterwright_runtime::crd::{self, Definition, InstallOptions};
use kube::Client;

/// Install the custom resources, roles and the manager into a cluster
///
/// A custom resource definition that is there in another shape is not overwritten: the fields that differ are named.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    install: manifests::Options,
    /// Install the custom resource definitions only
    #[arg(long)]
    crds_only: bool,
    /// Take over custom resource definitions that are there in another shape
    #[arg(long)]
    force: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let config = args.cluster.config().await?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config)?;
    connect::check(&client, &server).await?;
    let definitions: Vec<Definition> = clusterwright_api::crds()
        .into_iter()
        .map(Definition::own)
        .collect();
    let options = InstallOptions {
        force: args.force,
        ..InstallOptions::new(operators::NAME)
    };
    crd::install(&client, &definitions, &options).await?;
    println!("custom resource definitions are installed");
    if args.crds_only {
        return Ok(());
    }
    let objects: Vec<Manifest> = manifests::workload(&args.install)?
        .into_iter()
        .map(|object| Manifest::new("the installation", object))
        .collect();
    Applier::new(client).apply_all(&objects).await?;
    for object in &objects {
        println!("{}/{} is installed", object.kind(), object.name());
    }
    Ok(())
}
