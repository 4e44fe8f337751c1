//! What the pods of `up` are where processes can't be kept apart: simulated.

use super::manifests::Manifest;
use anyhow::{Result, bail};
use clusterwright_apiserver::companions::Stages;
use clusterwright_apiserver::{ApiServer, Serving};
use kube::Client;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Processes where that works, simulated where not
    Auto,
    /// Processes of this machine, which needs Linux
    Process,
    /// Simulated: they become ready, but nothing runs in them
    Simulated,
}

pub struct Pods;

impl Pods {
    pub async fn start(mode: Mode, _: (&ApiServer, &Serving), _: &[Manifest], _: &Path) -> Result<Self> {
        match mode {
            Mode::Process => bail!("pods can be processes on Linux only: --pods simulated does without"),
            Mode::Auto | Mode::Simulated => Ok(Self),
        }
    }

    pub fn stages(&self) -> Stages {
        Stages::default()
    }

    pub fn described(&self) -> String {
        "# pods, volumes and load balancers are simulated: they become ready, but nothing runs in them"
            .to_owned()
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
