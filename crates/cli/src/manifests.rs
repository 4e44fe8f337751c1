//! `clusterwright manifests`: what is installed into a cluster, as YAML.

use crate::operators;
use anyhow::{Context, Result};
use clusterwright_runtime::manifests::{self, InstallOptions};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub install: Options,
    /// Print the custom resource definitions only
    #[arg(long, conflicts_with = "output_dir")]
    crds: bool,
    /// Write install.yaml, crds/ and cluster-api/ into this folder instead of printing
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
}

/// What the manifests depend on.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The namespace of the manager; it is made if it is not there
    #[arg(long, value_name = "NAME", default_value = "clusterwright-system")]
    namespace: String,
    /// The manager's image
    #[arg(long, value_name = "IMAGE", default_value = operators::IMAGE)]
    image: String,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(folder) = &args.output_dir {
        return write(folder, &args.install);
    }
    let objects = if args.crds {
        definitions()?
    } else {
        all(&args.install)?
    };
    let text = manifests::to_yaml_documents(&objects)?;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("failed to print")
}

/// The custom resource definitions, then the namespace, the roles and the manager.
pub fn all(options: &Options) -> Result<Vec<Value>> {
    let mut objects = definitions()?;
    objects.extend(workload(options)?);
    Ok(objects)
}

/// The custom resource definitions that are ours.
fn definitions() -> Result<Vec<Value>> {
    clusterwright_api::crds()
        .iter()
        .map(|crd| clusterwright_api::manifest(crd).context("failed to encode a custom resource definition"))
        .collect()
}

/// All but the custom resource definitions.
pub fn workload(options: &Options) -> Result<Vec<Value>> {
    let install = InstallOptions::new(
        operators::NAME,
        options.namespace.as_str(),
        options.image.as_str(),
    );
    let rules = operators::grants().rules();
    let image = format!("--image={}", options.image);
    manifests::install(&install.args(["manager", &image]), &[], &rules)
        .context("failed to make the manifests")
}

fn write(folder: &Path, options: &Options) -> Result<()> {
    let crds = folder.join("crds");
    fs::create_dir_all(&crds).with_context(|| format!("failed to make {}", crds.display()))?;
    let put = |path: PathBuf, objects: &[Value]| -> Result<()> {
        let text = manifests::to_yaml_documents(objects)?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    for definition in definitions()? {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        put(
            crds.join(format!("{name}.yaml")),
            std::slice::from_ref(&definition),
        )?;
    }
    // Not among ours, lest somebody applies it over Cluster API's: `up` brings it where Cluster API is not.
    let cluster =
        clusterwright_api::manifest(&clusterwright_api::cluster_crd()).context("failed to encode Cluster")?;
    let name = cluster["metadata"]["name"].as_str().unwrap_or_default();
    let theirs = folder.join("cluster-api");
    fs::create_dir_all(&theirs).with_context(|| format!("failed to make {}", theirs.display()))?;
    put(
        theirs.join(format!("{name}.yaml")),
        std::slice::from_ref(&cluster),
    )?;
    put(folder.join("install.yaml"), &all(options)?)
}
