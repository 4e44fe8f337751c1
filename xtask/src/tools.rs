//! `cargo xtask tools`: the pinned real components, built from their Go modules or found.

use crate::command;
use anyhow::{Context, Result, bail};
use clusterwright_testkit::tools::{Pin, Places, pins};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What `cargo xtask conformance` runs.
pub const CONFORMANCE: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
    "kubectl-1.32.3",
];

#[derive(clap::Args)]
pub struct Args {
    /// Components, as `etcd` (the first version of tools/versions) or `kubectl-1.32.3` (default: all)
    names: Vec<String>,
    /// Say what is where, and build nothing
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args) -> Result<bool> {
    let names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    if args.list {
        let places = Places::from_env();
        for pin in chosen(&names)? {
            match places.find(&pins(), &pin.name, Some(&pin.version)) {
                Ok(path) => println!("{} {} {}", pin.name, pin.version, path.display()),
                Err(_) => println!(
                    "{} {} missing: cargo xtask tools {}-{}",
                    pin.name, pin.version, pin.name, pin.version
                ),
            }
        }
        return Ok(true);
    }
    provide(&names)?;
    Ok(true)
}

/// The folder where built components are kept, by version.
pub fn cache() -> Result<PathBuf> {
    let cache = Places::from_env().cache;
    if !cache.is_absolute() {
        bail!(
            "no folder to keep components in: set HOME, XDG_CACHE_HOME or CLUSTERWRIGHT_TOOLS to an absolute path"
        );
    }
    Ok(cache)
}

/// The path of a component that is there already.
pub fn find(name: &str) -> Option<PathBuf> {
    clusterwright_testkit::tools::find(name).ok()
}

/// Sees to it that the named components (all, when none is named) are there; builds those that are not.
pub fn provide(names: &[&str]) -> Result<()> {
    let places = Places::from_env();
    let wanted = chosen(names)?;
    let (there, missing): (Vec<&Pin>, Vec<&Pin>) = wanted
        .iter()
        .partition(|pin| places.find(&pins(), &pin.name, Some(&pin.version)).is_ok());
    if missing.is_empty() {
        eprintln!("{} components are there", there.len());
        return Ok(());
    }
    let go = Command::new("go").arg("version").output();
    if !go.is_ok_and(|output| output.status.success()) {
        let names: Vec<&str> = missing.iter().map(|pin| pin.name.as_str()).collect();
        bail!(
            "Go is not installed, and {} must be built with it: install Go 1.26 or newer, or put binaries of the \
             versions in tools/versions on PATH",
            names.join(", ")
        );
    }
    let cache = cache()?;
    for (index, pin) in missing.iter().enumerate() {
        eprintln!("[{}/{}] {} {}", index + 1, missing.len(), pin.name, pin.version);
        let start = Instant::now();
        let path = pin.path_in(&cache);
        build(pin, &path).with_context(|| format!("failed to provide {} {}", pin.name, pin.version))?;
        eprintln!("        {} ({:.0?})", path.display(), start.elapsed());
    }
    Ok(())
}

/// The pins of these names: the first version of a name, as who looks for it by name gets it, or the one that
/// `name-version` picks; all, where none is named.
fn chosen(names: &[&str]) -> Result<Vec<Pin>> {
    let all = pins();
    if names.is_empty() {
        return Ok(all);
    }
    let mut chosen: Vec<Pin> = Vec::new();
    for name in names {
        let fits = |pin: &&Pin| pin.name == *name || format!("{}-{}", pin.name, pin.version) == *name;
        let Some(pin) = all.iter().find(fits) else {
            let known: Vec<String> = all
                .iter()
                .map(|pin| format!("{}-{}", pin.name, pin.version))
                .collect();
            bail!("no component is called {name:?}; there are {}", known.join(", "));
        };
        chosen.push(pin.clone());
    }
    Ok(chosen)
}

/// Builds beside the place where it is to be and moves it there when it is whole, so that a build that was
/// interrupted, or one that another checkout runs at the same time, never leaves half a binary.
fn build(pin: &Pin, path: &Path) -> Result<()> {
    let module = command::root().join("tools").join(&pin.module);
    let part = path.with_extension(format!("part-{}", std::process::id()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    if pin.is_folder() {
        copy_documents(pin, &module, &part)?;
    } else {
        let mut go = Command::new("go");
        go.current_dir(&module)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-buildvcs=false");
        go.args(["build", "-trimpath", "-ldflags", &flags(pin), "-o"])
            .arg(&part)
            .arg(&pin.package);
        if !command::run(&mut go)? {
            let _ = fs::remove_file(&part);
            bail!("go build failed");
        }
    }
    match fs::rename(&part, path) {
        // Another checkout was quicker.
        Err(_) if path.exists() => remove(&part),
        moved => moved.with_context(|| format!("failed to move {} to {}", part.display(), path.display())),
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.with_context(|| format!("failed to remove {}", path.display()))
}

/// Kubernetes' components tell each other their version, and refuse to work without one.
fn flags(pin: &Pin) -> String {
    let package = match pin.stamp.as_str() {
        "k8s" => "k8s.io/component-base/version",
        "capi" => "sigs.k8s.io/cluster-api/version",
        _ => return "-s -w".to_owned(),
    };
    let mut parts = pin.version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!(
        "-s -w -X {package}.gitVersion=v{} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}",
        pin.version
    )
}

/// Copies the folder of documents `pin.package` out of the module cache: the package is a module's path and a folder
/// in it.
fn copy_documents(pin: &Pin, module: &Path, to: &Path) -> Result<()> {
    let download = Command::new("go")
        .current_dir(module)
        .args(["mod", "download"])
        .status();
    if !download.is_ok_and(|status| status.success()) {
        bail!("go mod download failed");
    }
    let list = command::output(Command::new("go").current_dir(module).args([
        "list",
        "-m",
        "-f",
        "{{.Path}} {{.Dir}}",
        "all",
    ]))?;
    let found = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(path, dir)| Some((pin.package.strip_prefix(path)?.strip_prefix('/')?, dir)))
        .filter(|(_, dir)| !dir.is_empty())
        .min_by_key(|(rest, _)| rest.len());
    let Some((inside, dir)) = found else {
        bail!("no module in {} has {}", module.display(), pin.package)
    };
    copy(&Path::new(dir).join(inside), to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("failed to make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("failed to read {}", from.display()))? {
        let entry = entry.with_context(|| format!("failed to read {}", from.display()))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            // Not fs::copy: files of the module cache are read-only, and their mode would come along.
            let bytes = fs::read(entry.path())
                .with_context(|| format!("failed to read {}", entry.path().display()))?;
            fs::write(&target, bytes).with_context(|| format!("failed to write {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_picks_its_first_version_and_a_version_another() {
        let versions = |names: &[&str]| -> Vec<String> {
            chosen(names)
                .unwrap()
                .into_iter()
                .map(|pin| pin.version)
                .collect()
        };
        assert_eq!(versions(&["kubectl", "etcd"]), ["1.36.3", "3.6.8"]);
        assert_eq!(versions(&["kubectl-1.32.3", "etcd-3.6.6"]), ["1.32.3", "3.6.6"]);
        assert_eq!(chosen(&[]).unwrap(), pins());
        let wrong = chosen(&["kube-apiserver-1.36.99"]).unwrap_err().to_string();
        assert!(
            wrong.starts_with("no component is called \"kube-apiserver-1.36.99\"; there are etcd-3.6.8, "),
            "{wrong}"
        );
    }

    #[test]
    fn components_are_stamped_with_their_version() {
        let pin = chosen(&["kube-apiserver"]).unwrap().remove(0);
        assert!(flags(&pin).contains("version.gitVersion=v1.36.3 "));
        assert!(flags(&pin).ends_with("version.gitMinor=36"));
        assert_eq!(flags(&chosen(&["etcd"]).unwrap()[0]), "-s -w");
    }
}
