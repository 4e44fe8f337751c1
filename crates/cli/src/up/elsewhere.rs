//! What the pods of `up` are where processes can't be kept apart: simulated.

use super::manifests::Manifest;
use super::{Mode, SIMULATED};
use anyhow::{Result, bail};
use clusterwright_apiserver::companions::Stages;
use clusterwright_apiserver::{ApiServer, Serving};
use kube::Client;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

pub struct Pods;

impl Pods {
    pub(super) async fn start(
        mode: Mode,
        _: (&ApiServer, &Serving),
        _: &[Manifest],
        _: &Path,
    ) -> Result<Self> {
        match mode {
            Mode::Process => bail!("pods can be processes on Linux only: --pods simulated does without"),
            Mode::Auto | Mode::Simulated => Ok(Self),
        }
    }

    pub fn are_simulated(&self) -> bool {
        true
    }

    pub fn stages(&self) -> Stages {
        Stages::default()
    }

    pub fn described(&self) -> String {
        SIMULATED.to_owned()
    }

    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }
}

pub async fn reached(_: &Client, _: Option<PathBuf>) -> Result<Vec<String>> {
    Ok(Vec::new())
}

pub fn sweep(_: &Path) -> Result<()> {
    Ok(())
}
