//! The cluster that a command talks to.

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// How long the API server may take to answer the first request.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Which kubeconfig to use [default: KUBECONFIG, the pod's own, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig to use [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ClusterArgs {
    /// Reads the configuration. Requests that fail are not repeated: the queue of the controllers does that, with a
    /// back-off that others can see.
    pub async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let kubeconfig = Kubeconfig::read_from(path)
                    .with_context(|| format!("failed to read the kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .with_context(|| format!("failed to use the kubeconfig {}", path.display()))?
            }
            (None, Some(context)) => Config::from_kubeconfig(&options)
                .await
                .with_context(|| format!("failed to use context {context:?} of the kubeconfig"))?,
            (None, None) => Config::infer().await.context(
                "failed to find a cluster: set KUBECONFIG, give --kubeconfig FILE, or run in a pod",
            )?,
        };
        config.default_retry = false;
        Ok(config)
    }
}

/// A client by a kubeconfig.
pub async fn client(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("failed to read a kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("failed to use a kubeconfig")?;
    config.default_retry = false;
    Client::try_from(config).context("failed to use a kubeconfig")
}

/// Asks the API server for its version, so that a server that cannot be reached is told of before anything starts.
pub async fn check(client: &Client, server: &str) -> Result<()> {
    match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
        Ok(Ok(version)) => {
            tracing::info!(server, version = version.git_version, "connected");
            Ok(())
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
            bail!(
                "the API server {server} does not accept the kubeconfig's credentials: {}",
                status.message
            )
        }
        Ok(Err(error)) => Err(error).with_context(|| {
            format!(
                "failed to reach the API server {server}: check that it runs and that the kubeconfig names it"
            )
        }),
        Err(_) => bail!("the API server {server} did not answer within {FIRST_ANSWER:?}"),
    }
}
