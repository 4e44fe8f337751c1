//! Where the pinned binaries are.
//!
//! `tools/versions` names each component and its version. `cargo xtask tools` puts the binaries into a cache
//! outside the work tree; a binary elsewhere (`KUBEBUILDER_ASSETS`, `PATH`) is taken only when it says itself that
//! it is of the pinned version.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The text of `tools/versions`.
pub const VERSIONS: &str = include_str!("../../../tools/versions");

/// One line of `tools/versions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The component, which is its binary's name too.
    pub name: String,
    /// The version without a leading `v`.
    pub version: String,
    /// The Go module under `tools/` that builds it.
    pub module: String,
    /// The package in that module.
    pub package: String,
    /// How the version is stamped into it; `files` when the component is a folder of documents.
    pub stamp: String,
    /// The arguments that make the binary tell its version; empty when there are none.
    pub own_word: Vec<String>,
}

impl Pin {
    /// Whether this is a folder of documents and not a binary.
    pub fn is_folder(&self) -> bool {
        self.stamp == "files"
    }

    /// Where it lies in the cache folder `root`.
    pub fn path_in(&self, root: &Path) -> PathBuf {
        let folder = root.join(format!("{}-{}", self.name, self.version));
        if self.is_folder() {
            folder
        } else {
            folder.join(&self.name)
        }
    }
}

/// A component that is pinned, but not on this machine (or not pinned at all).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to find {name} {version}: run `cargo xtask tools {name}-{version}` (looked at {looked_at})")]
pub struct Missing {
    /// The component.
    pub name: String,
    /// The version that was asked for.
    pub version: String,
    /// The places looked at.
    pub looked_at: String,
}

/// All pins, in the order of the file.
pub fn pins() -> Vec<Pin> {
    parse(VERSIONS)
}

fn parse(text: &str) -> Vec<Pin> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some(Pin {
                name: words.next()?,
                version: words.next()?,
                module: words.next()?,
                package: words.next()?,
                stamp: words.next()?,
                own_word: words.filter(|word| word != "-").collect(),
            })
        })
        .collect()
}

/// The pinned component `name`; of several versions, the first in the file.
///
/// # Errors
/// [`Missing`] when it is not pinned or not on this machine.
pub fn find(name: &str) -> Result<PathBuf, Missing> {
    Places::from_env().find(&pins(), name, None)
}

/// The pinned component `name` of the pinned `version`.
///
/// # Errors
/// [`Missing`] when it is not pinned or not on this machine.
pub fn find_version(name: &str, version: &str) -> Result<PathBuf, Missing> {
    Places::from_env().find(&pins(), name, Some(version))
}

/// The places where components may lie.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The cache that `cargo xtask tools` fills.
    pub cache: PathBuf,
    /// Folders of foreign binaries.
    pub folders: Vec<PathBuf>,
}

impl Places {
    /// `CLUSTERWRIGHT_TOOLS` or the user's cache folder; then `KUBEBUILDER_ASSETS` and `PATH`.
    pub fn from_env() -> Self {
        let cache = env::var_os("CLUSTERWRIGHT_TOOLS").map_or_else(
            || user_cache(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")).join("clusterwright/tools"),
            PathBuf::from,
        );
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            cache,
            folders: assets.into_iter().chain(env::split_paths(&path)).collect(),
        }
    }

    /// The component `name` of `version` (or of the first pinned version).
    ///
    /// # Errors
    /// [`Missing`] when it is not pinned or in none of the places.
    pub fn find(&self, pins: &[Pin], name: &str, version: Option<&str>) -> Result<PathBuf, Missing> {
        let pin = pins
            .iter()
            .find(|pin| pin.name == name && version.is_none_or(|v| pin.version == v));
        let Some(pin) = pin else {
            return Err(Missing {
                name: name.to_owned(),
                version: version.unwrap_or_default().to_owned(),
                looked_at: "tools/versions".to_owned(),
            });
        };
        let cached = pin.path_in(&self.cache);
        if cached.exists() {
            return Ok(cached);
        }
        let mut foreign = self.folders.iter().map(|folder| folder.join(name));
        foreign
            .find(|path| says_version(path, pin))
            .ok_or_else(|| Missing {
                name: name.to_owned(),
                version: pin.version.clone(),
                looked_at: format!("{}, KUBEBUILDER_ASSETS and PATH", cached.display()),
            })
    }
}

fn user_cache(xdg: Option<OsString>, home: Option<OsString>) -> PathBuf {
    xdg.filter(|path| Path::new(path).is_absolute()).map_or_else(
        || PathBuf::from(home.unwrap_or_default()).join(".cache"),
        PathBuf::from,
    )
}

/// Whether the binary at `path` says that it is of the pinned version.
fn says_version(path: &Path, pin: &Pin) -> bool {
    if pin.own_word.is_empty() || !path.is_file() {
        return false;
    }
    let answer = Command::new(path)
        .args(&pin.own_word)
        .stdin(Stdio::null())
        .output();
    answer.is_ok_and(|answer| {
        let said = String::from_utf8_lossy(&answer.stdout);
        let mut words = said.split(|c: char| c.is_whitespace() || c == '"' || c == ',');
        words.any(|word| word.trim_start_matches('v') == pin.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn script(folder: &Path, name: &str, says: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn pin(version: &str) -> Pin {
        parse(&format!("etcd {version} etcd-3.6 ./cmd/etcd - --version")).remove(0)
    }

    #[test]
    fn the_committed_pins_name_what_the_harness_starts() {
        let pins = pins();
        for name in [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kubectl",
            "cluster-api-core",
        ] {
            assert!(pins.iter().any(|pin| pin.name == name), "{name}");
        }
        assert_eq!(pins.iter().filter(|pin| pin.name == "kubectl").count(), 2);
    }

    #[test]
    fn the_cache_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cached = script(&dir.path().join("cache/etcd-3.6.8"), "etcd", "anything");
        let elsewhere = dir.path().join("bin");
        script(&elsewhere, "etcd", "etcd Version: 3.6.8");
        let places = Places {
            cache: dir.path().join("cache"),
            folders: vec![elsewhere],
        };
        assert_eq!(places.find(&[pin("3.6.8")], "etcd", None).unwrap(), cached);
    }

    #[test]
    fn a_binary_elsewhere_counts_only_by_its_own_word() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        script(&old, "etcd", "etcd Version: 3.6.80");
        let right = script(&new, "etcd", "etcd Version: 3.6.8");
        let places = Places {
            cache: dir.path().join("cache"),
            folders: vec![old.clone(), new],
        };
        assert_eq!(places.find(&[pin("3.6.8")], "etcd", None).unwrap(), right);

        let places = Places {
            folders: vec![old],
            ..places
        };
        let missing = places.find(&[pin("3.6.8")], "etcd", None).unwrap_err();
        assert!(
            missing.to_string().contains("cargo xtask tools etcd-3.6.8`"),
            "{missing}"
        );
    }

    #[test]
    fn what_is_not_pinned_is_missing() {
        let missing = Places::default()
            .find(&[pin("3.6.8")], "etcd", Some("3.5.0"))
            .unwrap_err();
        assert_eq!(
            (missing.version.as_str(), missing.looked_at.as_str()),
            ("3.5.0", "tools/versions")
        );
    }

    #[test]
    fn the_users_cache_folder_follows_xdg() {
        assert_eq!(
            user_cache(Some("/x".into()), Some("/h".into())),
            PathBuf::from("/x")
        );
        assert_eq!(
            user_cache(Some("x".into()), Some("/h".into())),
            PathBuf::from("/h/.cache")
        );
        assert_eq!(user_cache(None, Some("/h".into())), PathBuf::from("/h/.cache"));
    }
}
