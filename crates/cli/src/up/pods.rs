//! What the pods of `up` are: processes of this machine, or simulated.

use super::hosted::{self, Hosted};
use super::manifests::Manifest;
use super::{Mode, SIMULATED};
use crate::podlet::catalogue;
use crate::tools;
use anyhow::{Context, Result};
use clusterwright_apiserver::builtin::KUBERNETES_VERSION;
use clusterwright_apiserver::companions::Stages;
use clusterwright_apiserver::{ApiServer, Serving};
use clusterwright_hosted::components::images;
use clusterwright_hosted::version::Version;
use clusterwright_podlet::image::Catalogue;
use clusterwright_podlet::{Config, Podlet};
use kube::Client;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The name of the node that this machine is.
const NODE: &str = "this-machine";
/// How long pods have to end: API servers would wait longer for whoever asks them, but all of it is thrown away.
const GRACE: Duration = Duration::from_secs(2);
/// The folder of the podlet in that of `up`.
const FOLDER: &str = "podlet";

/// The API server, and how it is reached.
pub type Server<'a> = (&'a ApiServer, &'a Serving);

/// What runs the pods.
pub enum Pods {
    /// Stages; where processes were possible but for something, what.
    Simulated(Option<String>),
    /// A podlet.
    Processes(Box<Podlet>),
}

impl Pods {
    /// Decides, and takes the folder and namespaces of processes. `home` is the folder of this `up`.
    pub(super) async fn start(
        mode: Mode,
        server: Server<'_>,
        wanted: &[Manifest],
        home: &Path,
    ) -> Result<Self> {
        if mode == Mode::Simulated {
            return Ok(Self::Simulated(None));
        }
        let images = catalogue(tools::folder().unwrap_or_default())?;
        let missing = match mode {
            Mode::Auto => unavailable(wanted, &images),
            _ => None,
        };
        let podlet = match missing {
            Some(why) => Err(anyhow::anyhow!(why)),
            None => podlet(server, home, images).await,
        };
        match podlet {
            Ok(podlet) => Ok(Self::Processes(Box::new(podlet))),
            Err(error) if mode == Mode::Auto => Ok(Self::Simulated(Some(crate::describe(&error)))),
            Err(error) => Err(error.context("pods can't be processes here (--pods simulated does without)")),
        }
    }

    /// Whether nothing runs in them.
    pub fn are_simulated(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }

    /// What the stages do beside it.
    pub fn stages(&self) -> Stages {
        match self {
            Self::Simulated(_) => Stages::default(),
            Self::Processes(_) => Stages::controllers_only().bind_to(NODE),
        }
    }

    /// What a user is told of them.
    pub fn described(&self) -> String {
        match self {
            Self::Simulated(None) => SIMULATED.to_owned(),
            Self::Simulated(Some(why)) => format!("{SIMULATED}\n# {why}"),
            Self::Processes(_) => {
                "# pods are processes of this machine, which keeps them apart, but is no sandbox".to_owned()
            }
        }
    }

    /// Runs them until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        match self {
            Self::Simulated(_) => {
                shutdown.cancelled().await;
                Ok(())
            }
            Self::Processes(podlet) => podlet.run(shutdown).await.context("the pods' processes ended"),
        }
    }
}

async fn podlet((server, serving): Server<'_>, home: &Path, images: Catalogue) -> Result<Podlet> {
    let mut config = Config::new(server.client(), NODE, home.join(FOLDER), images);
    config.grace = GRACE;
    config.clock = server.clock();
    config.client_authority = Some(serving.ca_pem());
    config.api_server = Some(serving.address());
    Ok(Podlet::start(config).await?)
}

/// What keeps the control planes of the manifests from being run, with the way out.
fn unavailable(wanted: &[Manifest], catalogue: &Catalogue) -> Option<String> {
    let versions: BTreeSet<Version> = wanted
        .iter()
        .filter(|manifest| manifest.kind() == "HostedControlPlane")
        .filter_map(|manifest| manifest.object.pointer("/spec/version")?.as_str()?.parse().ok())
        .collect();
    for version in versions {
        let missing = images(&version)
            .into_iter()
            .find_map(|image| catalogue.find(&image).err());
        let Some(missing) = missing else { continue };
        return Some(if version.to_string() == KUBERNETES_VERSION {
            "`cargo xtask tools etcd kube-apiserver kube-controller-manager kube-scheduler` makes them real"
                .to_owned()
        } else {
            missing.to_string()
        });
    }
    None
}

/// How the hosted clusters are reached that answer: kubeconfigs in the folder of this `up`.
pub async fn reached(client: &Client, home: Option<PathBuf>) -> Result<Vec<String>> {
    let Some(home) = home else {
        return Ok(Vec::new());
    };
    let line = |cluster: &Hosted| {
        format!(
            "export KUBECONFIG={}  # cluster {}",
            cluster.kubeconfig.display(),
            cluster.name
        )
    };
    Ok(hosted::kubeconfigs(client, &home)
        .await?
        .iter()
        .map(line)
        .collect())
}

/// Removes what an `up` left in `folder` that was killed.
pub fn sweep(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        // What can't be read can't be used either, which is told where it is tried.
        return Ok(());
    };
    for home in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if !is_left_over(&home) {
            continue;
        }
        if clusterwright_podlet::remove(&home.join(FOLDER))? {
            std::fs::remove_dir_all(&home)
                .with_context(|| format!("failed to remove {}, which an earlier run left", home.display()))?;
        }
    }
    Ok(())
}

/// Whether a folder was made by `up` for this user, with a podlet's in it: others may put what they like into the
/// folder for temporary files.
fn is_left_over(home: &Path) -> bool {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let named = home
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(super::PREFIX));
    let own = |path: PathBuf| {
        // Not that of a link.
        let found = std::fs::symlink_metadata(path).ok()?;
        let ours = std::fs::metadata("/proc/self").ok()?.uid() == found.uid();
        Some(found.is_dir() && ours).filter(|own| *own).map(|_| found)
    };
    named
        && own(home.to_owned()).is_some_and(|found| found.permissions().mode() & 0o777 == 0o700)
        && own(home.join(FOLDER)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        let tools = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::new(tools.path());
        let wanted = |version: &str| {
            let object = json!({"kind": "HostedControlPlane", "spec": {"version": version}});
            [Manifest::new("test", object)]
        };
        let said = unavailable(&wanted(KUBERNETES_VERSION), &catalogue).unwrap();
        assert!(said.contains("cargo xtask tools etcd kube-apiserver"), "{said}");
        let said = unavailable(&wanted("v1.33.0"), &catalogue).unwrap();
        assert!(said.contains("cargo xtask tools etcd-3.5.24"), "{said}");
        assert_eq!(unavailable(&[], &catalogue), None);

        for image in images(&KUBERNETES_VERSION.parse().unwrap()) {
            let (name, tag) = image.rsplit('/').next().unwrap().split_once(':').unwrap();
            let version = tag.trim_start_matches('v').trim_end_matches("-0");
            let folder = tools.path().join(format!("{name}-{version}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(unavailable(&wanted(KUBERNETES_VERSION), &catalogue), None);
    }

    #[test]
    fn only_what_an_earlier_run_left_is_removed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let temporary = tempfile::tempdir().unwrap();
        let folder = |name: &str, mode: u32| {
            let path = temporary.path().join(name);
            std::fs::create_dir_all(path.join(FOLDER)).unwrap();
            std::fs::write(path.join("kubeconfig"), "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let left = folder("clusterwright-left", 0o700);
        let kept = [
            folder("clusterwright-open", 0o777),
            folder("other", 0o700),
            folder("elsewhere", 0o700),
        ];
        let link = temporary.path().join("clusterwright-link");
        symlink(&kept[2], &link).unwrap();
        std::fs::create_dir(temporary.path().join("clusterwright-none")).unwrap();
        sweep(temporary.path()).unwrap();
        assert!(!left.exists());
        for path in kept
            .iter()
            .chain([&link, &temporary.path().join("clusterwright-none")])
        {
            assert!(path.exists(), "{}", path.display());
        }
        assert!(kept[2].join("kubeconfig").exists());
        sweep(Path::new("/does/not/exist")).unwrap();
    }
}
