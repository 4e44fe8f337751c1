//! `cargo xtask generate`: the files that are made from code, written or compared.

use crate::{command, tools};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail when a file differs from what would be written
    #[arg(long)]
    check: bool,
}

impl Args {
    pub fn checking() -> Self {
        Self { check: true }
    }
}

pub fn run(args: &Args) -> Result<bool> {
    let manifests = deploy(args.check)?;
    Ok(tables(args.check)? && manifests)
}

/// `deploy/`: what `clusterwright manifests` writes.
fn deploy(check: bool) -> Result<bool> {
    let made = command::target().join("generated-deploy");
    if made.exists() {
        fs::remove_dir_all(&made).with_context(|| format!("failed to remove {}", made.display()))?;
    }
    let mut program = command::built("clusterwright")?;
    program.args(["manifests", "--output-dir"]).arg(&made);
    if !command::run(&mut program)? {
        return Ok(false);
    }
    let committed = command::root().join("deploy");
    let mut names = BTreeSet::new();
    files(&made, Path::new(""), &mut names)?;
    files(&committed, Path::new(""), &mut names)?;
    let mut same = true;
    for name in &names {
        let (new, old) = (
            fs::read(made.join(name)).ok(),
            fs::read(committed.join(name)).ok(),
        );
        if new == old {
            continue;
        }
        same = false;
        let path = committed.join(name);
        if check {
            eprintln!(
                "deploy/{name} is not what the code says: run `cargo xtask generate` and commit the result"
            );
            continue;
        }
        match new {
            Some(bytes) => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)
                        .with_context(|| format!("failed to make {}", folder.display()))?;
                }
                fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
                println!("wrote deploy/{name}");
            }
            None => {
                fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
                println!("removed deploy/{name}");
            }
        }
    }
    Ok(same || !check)
}

/// The paths of all files below `root`, relative to it; none where there is no such folder.
fn files(root: &Path, below: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let folder = root.join(below);
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("failed to read {}", folder.display()))?;
        let name = below.join(entry.file_name());
        if entry.path().is_dir() {
            files(root, &name, found)?;
        } else {
            found.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The tables of built-in kinds, out of Kubernetes' OpenAPI documents.
fn tables(check: bool) -> Result<bool> {
    let Some(documents) = tools::find("openapi") else {
        println!(
            "the tables of built-in kinds are left as they are: `cargo xtask tools openapi` brings their source"
        );
        return Ok(true);
    };
    let mut program = command::built("generate-tables")?;
    program.arg(documents);
    if check {
        program.arg("--check");
    }
    command::run(&mut program)
}
