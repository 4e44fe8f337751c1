//! `clusterwright get`: what gives access to a hosted cluster.

use crate::connect::{self, ClusterArgs};
use crate::files;
use anyhow::{Context, Result, bail};
use clap::builder::NonEmptyStringValueParser;
use clusterwright_api::HostedControlPlane;
use clusterwright_api::meta::CLUSTER_NAME_LABEL;
use clusterwright_clock::Clock;
use clusterwright_hosted::access::{self, Identity, LONGEST, SHORTEST};
use clusterwright_hosted::components::server_url;
use clusterwright_hosted::names::Names;
use clusterwright_hosted::pki::Root;
use clusterwright_hosted::snapshot::{is_initialized, owner_cluster};
use clusterwright_runtime::conditions;
use clusterwright_runtime::config::parse_duration;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    Kubeconfig(Box<Args>),
}

/// Make a kubeconfig for a hosted cluster that ends soon
///
/// It holds a client certificate of a key that is made here and is nowhere else, signed here with the cluster's root:
/// the Secret NAME-ca, which whoever runs this must be allowed to get. That right is the right to be anyone in the
/// hosted cluster. Keep it, and hand out what this prints, for a user, a group and a time of your choice:
///
///     clusterwright get kubeconfig demo -o demo.kubeconfig && kubectl --kubeconfig demo.kubeconfig get nodes
///     clusterwright get kubeconfig demo --user jane --group developers --ttl 8h -o jane.kubeconfig
///
/// Without --user and --group it is an administrator's, who may do everything. What others may do, roles and bindings
/// of the hosted cluster say. A certificate can't be taken back before it ends. The Secret NAME-kubeconfig has the
/// administrator's kubeconfig that lives for a year, for programs such as Cluster API's.
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The HostedControlPlane, or the Cluster that it is of
    name: String,
    /// Its namespace [default: that of the kubeconfig's context]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// How long it is to be valid: 1m to 168h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_ttl, allow_hyphen_values = true)]
    ttl: Duration,
    /// Who it is for [default: kubernetes-admin]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// The group that the user is in [default: system:masters, without --user]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// Write it to this file, which only its user may read; `-` is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace the file if it is there, whole: nothing of it is kept
    #[arg(long)]
    force: bool,
    /// For use in pods of the management cluster: name the API server's Service, not the endpoint
    #[arg(long, conflicts_with = "server")]
    internal: bool,
    /// Where the API server is reached, as through a tunnel [default: the control plane's endpoint]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|error| error.to_string())?;
    if ttl < SHORTEST {
        return Err("it is shorter than a minute, by which clocks may differ".to_owned());
    }
    if ttl > LONGEST {
        return Err(
            "it is longer than 168h (seven days), and a certificate can't be taken back; the Secret NAME-kubeconfig \
             has a kubeconfig that lives longer"
                .to_owned(),
        );
    }
    Ok(ttl)
}

pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Kubeconfig(args) => kubeconfig(*args).await,
    }
}

async fn kubeconfig(args: Args) -> Result<()> {
    let config = args.cluster.config().await?;
    let management = config.cluster_url.to_string();
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("failed to use the cluster's configuration")?;
    connect::check(&client, &management).await?;

    let object = find(&client, &namespace, &args.name).await?;
    let what = format!("HostedControlPlane {namespace}/{}", object.name_any());
    let cluster = owner_cluster(&object)
        .or_else(|| object.labels().get(CLUSTER_NAME_LABEL).map(String::as_str))
        .with_context(|| format!("{what} belongs to no Cluster yet"))?;
    let names = Names::new(cluster);
    initialized(&object, &what)?;
    let server = match &args.server {
        Some(server) => server.clone(),
        None => server(&client, &namespace, &object, &names, args.internal).await?,
    };
    let root = root(&client, &namespace, &names).await?;
    let identity = identity(args.user, args.group);
    let now = Clock::system().now();
    let made = access::kubeconfig(names.cluster(), &server, &root, &identity, now, args.ttl)
        .with_context(|| format!("failed to use the Secret {namespace}/{}", root.name_any()))?;

    if args.output.as_os_str() == "-" {
        print!("{}", made.text);
        return Ok(());
    }
    let path = &args.output;
    if args.force {
        files::write_private(path, &made.text)?;
    } else if !files::write_new_private(path, &made.text)? {
        bail!(
            "{} is there already: give --force to replace it whole, or another file and name both in KUBECONFIG, \
             with a colon between",
            path.display()
        );
    }
    println!(
        "{} is written: {} of {cluster} at {server} until {}",
        path.display(),
        identity.user,
        Timestamp::from_second(made.not_after)?
    );
    Ok(())
}

/// The administrator, unless someone is named.
fn identity(user: Option<String>, group: Option<String>) -> Identity {
    let admin = Identity::default();
    if user.is_none() && group.is_none() {
        return admin;
    }
    Identity {
        user: user.unwrap_or(admin.user),
        group,
    }
}

/// The control plane of that name, or that of the Cluster of that name.
async fn find(client: &Client, namespace: &str, name: &str) -> Result<HostedControlPlane> {
    let api: Api<HostedControlPlane> = Api::namespaced(client.clone(), namespace);
    let failed = || format!("failed to get the HostedControlPlane {namespace}/{name}");
    if let Some(object) = api.get_opt(name).await.with_context(failed)? {
        return Ok(object);
    }
    let of_cluster = ListParams::default().labels(&format!("{CLUSTER_NAME_LABEL}={name}"));
    match api.list(&of_cluster).await {
        Ok(list) => list.items.into_iter().next().with_context(|| {
            format!(
                "there is no HostedControlPlane and no hosted Cluster {name} in namespace {namespace}: `kubectl get \
                 hostedcontrolplanes --all-namespaces` lists them"
            )
        }),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!("the cluster has no HostedControlPlanes: is this the management cluster?")
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Refuses a control plane that has not answered yet, or is going.
fn initialized(object: &HostedControlPlane, what: &str) -> Result<()> {
    if object.metadata.deletion_timestamp.is_some() {
        bail!("{what} is being deleted");
    }
    if is_initialized(object) {
        return Ok(());
    }
    let status = object.status.clone().unwrap_or_default();
    let why = conditions::get(&status.conditions, "Ready")
        .map(|ready| format!(" ({})", ready.message))
        .unwrap_or_default();
    bail!(
        "{what} has not answered yet{why}: wait with `kubectl wait --for=condition=Available hostedcontrolplane/{} \
         --namespace {} --timeout 5m`",
        object.name_any(),
        object.namespace().unwrap_or_default()
    )
}

/// Where the API server is reached.
async fn server(
    client: &Client,
    namespace: &str,
    object: &HostedControlPlane,
    names: &Names,
    internal: bool,
) -> Result<String> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let name = names.api_service();
    let service = services.get(&name).await;
    if internal {
        let service = service.with_context(|| format!("failed to get the Service {namespace}/{name}"))?;
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let port = ports
            .first()
            .with_context(|| format!("the Service {namespace}/{name} has no port"))?;
        return Ok(server_url(&format!("{name}.{namespace}.svc"), port.port));
    }
    // Its pods may be processes of this machine. Who may not see the Service can still use the endpoint.
    #[cfg(target_os = "linux")]
    if let Some(port) = service.ok().as_ref().and_then(crate::up::hosted::host_port) {
        return Ok(server_url("127.0.0.1", port.into()));
    }
    let endpoint = object.spec.control_plane_endpoint.as_ref();
    let endpoint = endpoint.and_then(|endpoint| Some((endpoint.host.as_str(), endpoint.port?)));
    let (host, port) = endpoint.context("the control plane's spec.controlPlaneEndpoint is not set yet")?;
    Ok(server_url(host, port))
}

async fn root(client: &Client, namespace: &str, names: &Names) -> Result<Secret> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = names.contract_secret(Root::Cluster.purpose());
    match secrets.get(&name).await {
        Ok(secret) => Ok(secret),
        Err(kube::Error::Api(status)) if status.code == 404 => bail!(
            "the Secret {namespace}/{name} with the cluster's root is gone: restore it from a backup; a new root would \
             not be trusted"
        ),
        Err(error) => Err(error).with_context(|| {
            format!(
                "failed to get the Secret {namespace}/{name}: who makes kubeconfigs needs the verb get on it, which is \
                 the right to be anyone in the hosted cluster"
            )
        }),
    }
}
