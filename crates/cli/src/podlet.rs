//! `clusterwright podlet`: a node of a cluster whose pods are processes of this machine.

use crate::connect::{self, ClusterArgs};
use crate::signals::Signals;
use crate::tools;
use anyhow::{Context, Result};
use clusterwright_podlet::image::{Catalogue, Image};
use clusterwright_podlet::{Config, Podlet};
use clusterwright_runtime::config::parse_duration;
use clusterwright_runtime::telemetry::LogArgs;
use kube::Client;
use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Our own image, whose program is the one that runs.
const OWN_IMAGE: &str = "ghcr.io/clusterwright/clusterwright";
const OWN_PROGRAM: &str = "/usr/local/bin/clusterwright";

/// Be a node of a cluster that runs its pods as processes of this machine
///
/// The podlet is a small kubelet without containers' images: it knows those of Kubernetes' components, as far as
/// `cargo xtask tools` has brought their programs, and pulls nothing. Pods have namespaces, an address and a file
/// system of their own, but it is no sandbox: run what you trust. It needs Linux, and root only where users and groups
/// are to be real.
///
/// Pods end with the podlet, however that ends, and the next one starts them again. Claims are folders in --state-dir
/// that stay until the claim is deleted.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The name of the node [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The podlet's folder; each podlet has one of its own [default: clusterwright/podlet in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// The folder of components [default: the one that `cargo xtask tools` fills]
    #[arg(long, value_name = "FOLDER")]
    tools_dir: Option<PathBuf>,
    /// Let in who has a certificate of this authority (PEM) to ask for logs and commands, besides who has a token; what
    /// they may do, the API server says [default: the kubeconfig's certificate authority]
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// How long pods have to end when the podlet does
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    shutdown_grace: Duration,
    #[command(flatten)]
    logs: LogArgs,
}

pub async fn run(args: Args) -> Result<()> {
    args.logs.init().context("failed to start the logs")?;
    let config = args.cluster.config().await?;
    let server = config.cluster_url.to_string();
    let api_server = socket_of(&config.cluster_url);
    let client_authority = match &args.client_ca_file {
        Some(path) => Some(
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?,
        ),
        None => authority(&config),
    };
    let client = Client::try_from(config).context("failed to use the cluster's configuration")?;
    connect::check(&client, &server).await?;
    let node_name = match args.node_name {
        Some(name) => name,
        None => host_name()?,
    };
    let state_dir = args
        .state_dir
        .or_else(state_folder)
        .context("no folder to keep claims in: give --state-dir FOLDER")?;
    let tools = args
        .tools_dir
        .or_else(tools::folder)
        .context("no folder of components: give --tools-dir FOLDER")?;
    let images = catalogue(tools)?;
    let mut config = Config::new(client, node_name, state_dir, images);
    config.grace = args.shutdown_grace;
    config.api_server = api_server;
    config.client_authority = client_authority;
    let node = config.node_name.clone();
    tracing::info!(node, folder = %config.state_dir.display(), "starting the podlet");
    let signals = Signals::listen()?;
    let podlet = Podlet::start(config)
        .await
        .context("failed to start the podlet")?;
    let shutdown = CancellationToken::new();
    tokio::spawn(signals.stop(shutdown.clone()));
    println!(
        "# node {node} runs pods as processes of this machine, which keeps them apart, but is no sandbox"
    );
    Ok(podlet.run(shutdown).await?)
}

/// The authority that the kubeconfig trusts, as PEM: an API server's own certificates are of it too.
fn authority(config: &kube::Config) -> Option<String> {
    let certificates = config.root_cert.as_ref()?.iter();
    let pem = certificates.map(|der| pem::Pem::new("CERTIFICATE", der.as_slice()));
    Some(pem::encode_many(&pem.collect::<Vec<_>>()))
}

/// The images of components in a folder of them, and our own.
pub fn catalogue(tools: PathBuf) -> Result<Catalogue> {
    Ok(Catalogue::new(tools).with(OWN_IMAGE, own_image()?))
}

/// Where a server of this machine's is, which pods can't reach by themselves.
fn socket_of(url: &http::Uri) -> Option<SocketAddr> {
    let address: IpAddr = url.host()?.trim_matches(['[', ']']).parse().ok()?;
    let port = url.port_u16().unwrap_or(443);
    address.is_loopback().then_some((address, port).into())
}

/// The program that runs, under its image's name.
fn own_image() -> Result<Image> {
    let program = env::current_exe().context("failed to find this program")?;
    Ok(Image {
        files: [(OWN_PROGRAM.to_owned(), program)].into(),
        libraries: true,
        entrypoint: vec![OWN_PROGRAM.to_owned()],
        ..Image::default()
    })
}

/// The machine's name, as a node is called.
fn host_name() -> Result<String> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("failed to read the host name")?;
    Ok(name.trim().to_lowercase())
}

fn state_folder() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("clusterwright/podlet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_of_this_machine_is_passed_on() {
        let socket = |url: &str| socket_of(&url.parse().unwrap()).map(|socket| socket.to_string());
        assert_eq!(
            socket("https://127.0.0.1:6443").as_deref(),
            Some("127.0.0.1:6443")
        );
        assert_eq!(socket("https://[::1]").as_deref(), Some("[::1]:443"));
        assert_eq!(socket("https://10.0.0.1:6443"), None);
        assert_eq!(socket("https://example.com"), None);
    }
}
