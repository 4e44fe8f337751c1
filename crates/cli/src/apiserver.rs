//! `clusterwright apiserver`: the API server as a process of its own.

use crate::signals::Signals;
use crate::{documents, files};
use anyhow::{Context, Result};
use clusterwright_apiserver::companions::{Companions, Stages};
use clusterwright_apiserver::{ApiServer, Builder, Serving};
use clusterwright_runtime::telemetry::LogArgs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the controllers may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Run a Kubernetes API server for development and tests
///
/// `clusterwright manager`, `clusterwright podlet`, kubectl and any other client work with the kubeconfig that it
/// writes. With --data-dir every write is kept there before it is answered: a server that is killed loses nothing
/// that it acknowledged, and the next one goes on with the same objects, certificates and tokens.
///
/// It is not for production: there is one of it, and what it keeps is handed to the system but not forced to the disk.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Keep everything in this folder, which is made where it is missing [default: in memory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Listen on this address; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Write the administrator's kubeconfig to this file [default: kubeconfig in --data-dir]
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir")]
    write_kubeconfig: Option<PathBuf>,
    /// Who may do what
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Authorization::Rbac)]
    authorization_mode: Authorization,
    /// Take requests without credentials for system:anonymous instead of refusing them
    #[arg(long)]
    anonymous_auth: bool,
    /// What to run of a cluster's controllers and kubelets beside the server
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Beside::Controllers)]
    beside: Beside,
    /// Bind every pod to this node, where no scheduler does it: the one of `clusterwright podlet`
    #[arg(long, value_name = "NODE")]
    bind_to: Option<String>,
    #[command(flatten)]
    logs: LogArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Authorization {
    /// What roles and bindings allow
    #[value(name = "RBAC")]
    Rbac,
    /// Whoever is authenticated may do everything
    #[value(name = "AlwaysAllow")]
    AlwaysAllow,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// The parts of kube-controller-manager that workloads need; pods wait for kubelets
    Controllers,
    /// Those, and kubelets and load balancers that are simulated: pods become ready, but nothing runs in them
    Simulated,
    /// Nothing: a kube-controller-manager works with it
    Nothing,
}

impl Beside {
    fn companions(self, server: &ApiServer, serving: &Serving, node: Option<&str>) -> Option<Companions> {
        let controllers = Stages::controllers_only();
        let stages = match self {
            Self::Controllers => match node {
                Some(node) => controllers.bind_to(node),
                None => controllers,
            },
            Self::Simulated => Stages::default(),
            Self::Nothing => return None,
        };
        let companions = Companions::new(server.client(), server.clock()).root_certificate(serving.ca_pem());
        Some(companions.stages(Some(stages)))
    }
}

pub async fn run(args: Args) -> Result<ExitCode> {
    args.logs.init().context("failed to start the logs")?;
    let signals = Signals::listen()?;
    let server = make(&args)?;
    let serving = server.serve(args.listen).await.with_context(|| {
        let address = args.listen;
        format!(
            "failed to listen on {address}: choose another address with --listen; port 0 is any that is free"
        )
    })?;
    let kubeconfig = kubeconfig_path(&args)?;
    files::write_private(&kubeconfig, &serving.kubeconfig()?)?;
    let stop = CancellationToken::new();
    let companions = args.beside.companions(&server, &serving, args.bind_to.as_deref());
    let companions = companions.map(|companions| tokio::spawn(companions.run(stop.clone())));
    println!("export KUBECONFIG={}", kubeconfig.display());
    tracing::info!(address = %serving.address(), "serving");

    tokio::spawn(signals.stop(stop.clone()));
    stop.cancelled().await;
    if let Some(companions) = companions {
        // What does not end within the grace is dropped with the process.
        let _ = tokio::time::timeout(GRACE, companions).await;
    }
    serving.stop().await;
    server.close();
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args) -> Result<ApiServer> {
    let mut builder: Builder = ApiServer::builder().anonymous(args.anonymous_auth);
    if args.authorization_mode == Authorization::Rbac {
        builder = builder.rbac();
    }
    if let Some(folder) = documents::folder() {
        builder = builder.documents(folder);
    }
    match &args.data_dir {
        Some(folder) => builder.open(folder).map_err(Into::into),
        None => Ok(builder.build()),
    }
}

/// Where the kubeconfig goes, as others can name it from anywhere.
fn kubeconfig_path(args: &Args) -> Result<PathBuf> {
    let path = match (&args.write_kubeconfig, &args.data_dir) {
        (Some(file), _) => file.clone(),
        (None, folder) => folder.clone().unwrap_or_default().join("kubeconfig"),
    };
    std::path::absolute(&path).with_context(|| format!("failed to find {}", path.display()))
}
