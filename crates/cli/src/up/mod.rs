//! `clusterwright up`: everything on this machine, until it is stopped.

#[cfg(target_os = "linux")]
pub mod hosted;
pub mod manifests;
mod objects;
#[cfg_attr(not(target_os = "linux"), path = "elsewhere.rs")]
mod pods;
mod prepare;
mod readiness;
mod screen;
mod tree;

use crate::operators::Etcds;
use crate::signals::Signals;
use crate::{connect, documents, files, operators};
use anyhow::{Context, Result};
use clusterwright_apiserver::companions::Companions;
use clusterwright_apiserver::{ApiServer, Serving};
use clusterwright_runtime::config::parse_duration;
use clusterwright_runtime::manager::{Manager, Options};
use clusterwright_runtime::telemetry::LogArgs;
use manifests::Manifest;
use objects::Objects;
use parking_lot::Mutex;
use pods::Pods;
use screen::Screen;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tree::Row;

/// What is applied when no file is given.
const EXAMPLE: &str = include_str!("../../../../examples/hosted-control-plane.yaml");

/// The exit status when not all is ready in time.
const NOT_READY: u8 = 3;

/// The exit status of a program that Ctrl-C ended, as shells count.
const INTERRUPTED: u8 = 130;

/// How often the tree is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// How long everything may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How the folders that hold kubeconfigs and pods' files are called.
const PREFIX: &str = "clusterwright-";

/// What a user is told of pods that are simulated.
const SIMULATED: &str =
    "# pods, volumes and load balancers are simulated: they become ready, but nothing runs in them";

/// What pods are.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Processes where that works, simulated where not
    Auto,
    /// Processes of this machine (Linux), of the real programs that `cargo xtask tools` brings
    Process,
    /// Simulated: they become ready, but nothing runs in them
    Simulated,
}

/// Run everything on this machine: an API server, the controllers, pods, and a live tree
///
/// An API server in this process holds the objects, and the controllers of `clusterwright manager` work on them. Pods
/// are processes of this machine where Linux lets them be kept apart and the real programs are there (`cargo xtask tools`
/// brings them); else pods, load balancers and volumes are simulated: they become ready, but nothing runs in them. Stock
/// kubectl works with the kubeconfigs that are printed, of this API server and of each hosted cluster that answers.
/// Everything is gone when the command ends.
///
/// Exit status: 0 when it was stopped, or with --once when all is ready; 1 for an error; 2 for wrong arguments;
/// 3 when --timeout passed first; 130 when it was interrupted before all was ready.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Apply these manifests instead of the example; - is standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// End when everything is ready
    #[arg(long)]
    once: bool,
    /// With --once: how long to wait for everything to be ready
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
    /// The port of the API server on 127.0.0.1; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// What pods are
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Mode::Auto)]
    pods: Mode,
    /// Take over custom resource definitions of ours that the manifests bring in another shape
    #[arg(long)]
    force: bool,
    /// Write the controllers' logs to this file [default: they are dropped]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    #[command(flatten)]
    logs: LogArgs,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let start = Instant::now();
    let wanted = match args.files.as_slice() {
        [] => manifests::read_text("the example", EXAMPLE)?,
        files => manifests::read(files)?,
    };
    if let Some(path) = &args.log_file {
        log_to(path, &args.logs)?;
    }
    let interrupted = CancellationToken::new();
    let home = Arc::new(Home::default());
    tokio::spawn(stop_on(Signals::listen()?, interrupted.clone(), home.clone()));
    let Some(ready) = interrupted
        .run_until_cancelled(prepare(&args, &wanted, &home))
        .await
    else {
        home.remove()?;
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let ended = match ready {
        Ok(ready) => {
            let ended = work(
                &args,
                (&ready.server, &ready.serving),
                (ready.pods, ready.etcds),
                &wanted,
                (start, &home),
                &interrupted,
            )
            .await;
            ready.serving.stop().await;
            ended
        }
        Err(error) => Err(error),
    };
    home.remove()?;
    ended
}

/// Cancels on the first signal. A second one does not wait for anything but the kubeconfig to be gone.
async fn stop_on(mut signals: Signals, interrupted: CancellationToken, home: Arc<Home>) {
    signals.recv().await;
    interrupted.cancel();
    signals.recv().await;
    // The process ends in any case; what cannot be removed stays in the folder for temporary files.
    let _ = home.remove();
    std::process::exit(i32::from(INTERRUPTED));
}

/// What stands before the controllers start.
struct Ready {
    server: ApiServer,
    serving: Serving,
    pods: Pods,
    etcds: Etcds,
}

/// The folder of the kubeconfig, which may have to go at any moment.
#[derive(Default)]
struct Home(Mutex<Option<TempDir>>);

impl Home {
    /// Makes it.
    fn make(&self) -> Result<PathBuf> {
        let mut home = self.0.lock();
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder
            .tempdir()
            .context("failed to make a folder for the kubeconfig")?;
        let path = folder.path().to_owned();
        *home = Some(folder);
        Ok(path)
    }

    fn path(&self) -> Option<PathBuf> {
        self.0.lock().as_ref().map(|folder| folder.path().to_owned())
    }

    fn remove(&self) -> Result<()> {
        let home = self.0.lock().take();
        home.map_or(Ok(()), TempDir::close)
            .context("failed to remove the kubeconfig's folder")
    }
}

/// A server that has the custom resources and the manifests, and a kubeconfig for it, which is told of.
async fn prepare(args: &Args, wanted: &[Manifest], home: &Home) -> Result<Ready> {
    prepare::rehearse(wanted, args.force).await?;
    pods::sweep(&std::env::temp_dir())?;
    let mut builder = ApiServer::builder();
    if let Some(folder) = documents::folder() {
        builder = builder.documents(folder);
    }
    if args.pods != Mode::Simulated {
        // Pods have tokens then, and reach the server.
        builder = builder.rbac().anonymous(false);
    }
    let server = builder.build();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let serving = server.serve(address).await.with_context(|| {
        format!("failed to listen on {address}: choose another --port, or leave it out for one that is free")
    })?;
    let folder = home.make()?;
    let kubeconfig = folder.join("kubeconfig");
    files::write_private(&kubeconfig, &serving.kubeconfig()?)?;
    let pods = Pods::start(args.pods, (&server, &serving), wanted, &folder).await?;
    prepare::prepare(server.client(), wanted, args.force).await?;
    println!("export KUBECONFIG={}", kubeconfig.display());
    println!(
        "# in another terminal: kubectl get hcp,pods -w   kubectl describe cluster   kubectl get secrets"
    );
    println!("{}", pods.described());
    let etcds = if pods.are_simulated() {
        Etcds::Simulated
    } else {
        // Through the port: the client in this process has no connections.
        Etcds::ForwardedBy(connect::client(&serving.kubeconfig()?).await?)
    };
    Ok(Ready {
        server,
        serving,
        pods,
        etcds,
    })
}

/// Runs the controllers and shows the tree until it is time to end.
async fn work(
    args: &Args,
    (server, serving): (&ApiServer, &Serving),
    (pods, etcds): (Pods, Etcds),
    wanted: &[Manifest],
    (start, home): (Instant, &Home),
    interrupted: &CancellationToken,
) -> Result<ExitCode> {
    let shutdown = CancellationToken::new();
    let companions = Companions::new(server.client(), server.clock())
        .root_certificate(serving.ca_pem())
        .stages(Some(pods.stages()));
    let companions = tokio::spawn(companions.run(shutdown.clone()));
    let mut pods = tokio::spawn(pods.run(shutdown.clone()));
    let mut manager = Manager::new(
        server.client(),
        Options {
            clock: server.clock(),
            shutdown_timeout: GRACE,
            ..Options::default()
        },
    )?;
    operators::add(
        &mut manager,
        "up",
        &operators::Options {
            clusters: true,
            etcds,
            ..operators::Options::default()
        },
    )?;
    let mut running = tokio::spawn(manager.run(shutdown.clone()));

    let ended = tokio::select! {
        ended = watch(server, wanted, args, (start, home), interrupted) => ended,
        ended = &mut running => Err(match ended {
            Ok(Ok(())) => anyhow::anyhow!("the controllers ended by themselves"),
            Ok(Err(error)) => anyhow::Error::from(error).context("the controllers ended"),
            Err(error) => anyhow::Error::from(error).context("the controllers crashed"),
        }),
        ended = &mut pods => Err(match ended {
            Ok(Ok(())) => anyhow::anyhow!("the pods ended by themselves"),
            Ok(Err(error)) => error,
            Err(error) => anyhow::Error::from(error).context("what runs the pods crashed"),
        }),
    };
    shutdown.cancel();
    if !pods.is_finished() {
        // It keeps to a time of its own.
        match pods.await {
            Ok(Err(error)) => tracing::warn!(
                error = crate::describe(&error),
                "the pods did not end as they should"
            ),
            Err(error) => tracing::warn!(%error, "what runs the pods crashed"),
            Ok(Ok(())) => {}
        }
    }
    if !running.is_finished() {
        // Both end by themselves now; what does not within the grace is dropped with the process.
        let _ = tokio::time::timeout(GRACE, running).await;
    }
    let _ = tokio::time::timeout(GRACE, companions).await;
    ended
}

/// Shows the tree until it is time to end.
async fn watch(
    server: &ApiServer,
    wanted: &[Manifest],
    args: &Args,
    (start, home): (Instant, &Home),
    interrupted: &CancellationToken,
) -> Result<ExitCode> {
    let objects = Objects::new(server.client(), wanted).await?;
    let roots = Objects::roots(wanted);
    let mut screen = Screen::stdout();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready_after = None;
    let mut footer = Vec::new();
    loop {
        if interrupted.run_until_cancelled(ticks.tick()).await.is_none() {
            let early = args.once && ready_after.is_none();
            return Ok(if early {
                ExitCode::from(INTERRUPTED)
            } else {
                ExitCode::SUCCESS
            });
        }
        let rows = tree::rows(&roots, &objects.list().await?, server.clock().now());
        let ready = rows.iter().all(|row| row.state.is_done());
        if ready && ready_after.is_none() {
            let time = start.elapsed();
            ready_after = Some(time);
            footer = pods::reached(&server.client(), home.path()).await?;
            footer.push(if args.once {
                format!("All is ready after {:.1} s.", time.as_secs_f64())
            } else {
                format!("All was ready after {:.1} s. Ctrl-C ends it.", time.as_secs_f64())
            });
        }
        screen.show(&rows, &footer).context("failed to print")?;
        if args.once && ready_after.is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        if args.once && start.elapsed() >= args.timeout {
            eprintln!("{}", report(&rows, args.timeout));
            return Ok(ExitCode::from(NOT_READY));
        }
    }
}

/// What is not ready, and why.
fn report(rows: &[Row], timeout: Duration) -> String {
    let waiting: Vec<String> = rows
        .iter()
        .filter_map(|row| match &row.state {
            readiness::State::Waiting(why) => Some(format!("  {}: {why}", row.name)),
            readiness::State::Deleting => Some(format!("  {}: is being deleted", row.name)),
            readiness::State::Ready | readiness::State::There => None,
        })
        .collect();
    format!("not ready after {timeout:?}:\n{}", waiting.join("\n"))
}

fn log_to(path: &Path, logs: &LogArgs) -> Result<()> {
    use tracing_subscriber::util::SubscriberInitExt;
    let file =
        std::fs::File::create(path).with_context(|| format!("failed to write the log {}", path.display()))?;
    logs.subscriber(std::sync::Mutex::new(file))
        .try_init()
        .context("failed to start the logs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use readiness::State;

    #[test]
    fn the_example_is_readable() {
        let example = manifests::read_text("the example", EXAMPLE).unwrap();
        let kinds: Vec<&str> = example.iter().map(Manifest::kind).collect();
        assert_eq!(kinds, ["Cluster", "HostedControlPlane"]);
    }

    #[test]
    fn a_report_names_what_waits_and_why() {
        let row = |name: &str, state: State| Row {
            uid: String::new(),
            branch: String::new(),
            name: name.to_owned(),
            namespace: String::new(),
            state,
            detail: String::new(),
            age: String::new(),
        };
        let rows = [
            row("Pod/a", State::Ready),
            row("Pod/b", State::Waiting("NotReady: why".to_owned())),
        ];
        assert_eq!(
            report(&rows, Duration::from_secs(5)),
            "not ready after 5s:\n  Pod/b: NotReady: why"
        );
    }
}
