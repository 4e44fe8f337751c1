//! Fifty pods of a trivial program on one podlet: how long until all are Ready, and what that costs in memory. The
//! podlet is a process of its own, beside the API server and the controllers in this one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::companions::{Companions, Stages};
use clusterwright_benches::{connect, figure, median};
use clusterwright_podlet::image::{Catalogue, Image};
use clusterwright_podlet::{Config, Podlet, helper};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const PODS: u32 = 50;
const ROUNDS: usize = 3;
const NODE: &str = "machine";
const IMAGE: &str = "example.com/sleep";
/// How long anything may take before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a round took: seconds, bytes of the podlet for each pod, bytes of the helpers that stay.
struct Round {
    seconds: f64,
    per_pod: f64,
    helpers: f64,
}

fn main() -> ExitCode {
    if let Some(code) = helper::main_if_called() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    if let [_, mode, kubeconfig, folder] = args.as_slice()
        && mode == "--podlet"
    {
        return runtime.block_on(podlet(Path::new(kubeconfig), Path::new(folder)));
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(runtime.block_on(round())?);
    }
    let mid = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    figure::at_most("podlet.fifty_pods_ready", mid(|round| round.seconds), "s", 2.0);
    figure::at_most(
        "podlet.memory_per_pod",
        mid(|round| round.per_pod) / 1e6,
        "MB",
        1.0,
    );
    figure::at_most("podlet.helpers", mid(|round| round.helpers) / 1e6, "MB", 2.0);
    Ok(())
}

/// The podlet, until its input is closed.
async fn podlet(kubeconfig: &Path, folder: &Path) -> Result<()> {
    let own = ["/usr", "/bin"].map(|path| (path.to_owned(), PathBuf::from(path)));
    let image = Image {
        files: BTreeMap::from(own),
        libraries: true,
        ..Image::default()
    };
    let images = Catalogue::new(folder.join("tools")).with(IMAGE, image);
    let config = Config::new(connect(kubeconfig).await?, NODE, folder.join("podlet"), images);
    let podlet = Podlet::start(config).await?;
    println!("started");
    let shutdown = CancellationToken::new();
    let closed = shutdown.clone();
    tokio::task::spawn_blocking(move || {
        // Whatever ends it is the end.
        let _ = std::io::stdin().lines().count();
        closed.cancel();
    });
    Ok(podlet.run(shutdown).await?)
}

/// A podlet as a process of its own, until this is dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let exe = std::env::current_exe().context("failed to find this program")?;
        let mut child = Command::new(exe)
            .arg("--podlet")
            .arg(kubeconfig)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the podlet")?;
        let stdout = child.stdout.take().context("the podlet has no output")?;
        let running = Self { child };
        let said = BufReader::new(stdout).lines().next();
        if said.transpose()?.as_deref() != Some("started") {
            bail!("the podlet does not start");
        }
        Ok(running)
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let ended = self.child.wait().context("failed to wait for the podlet")?;
        if !ended.success() {
            bail!("the podlet ended with {ended}");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn round() -> Result<Round> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let server = ApiServer::new();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let stages = Stages::controllers_only().bind_to(NODE);
    let companions = Companions::new(server.client(), server.clock()).stages(Some(stages));
    tokio::spawn(companions.run(stop));
    let serving = server.serve("127.0.0.1:0".parse()?).await?;
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, serving.kubeconfig()?).context("failed to write the kubeconfig")?;
    let running = Running::start(&kubeconfig, folder.path())?;
    let podlet = running.child.id();

    // One pod first: what a podlet has once, it has then.
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let nodes: Api<Node> = Api::all(server.client());
    until(async || Ok(nodes.get_opt(NODE).await?.is_some())).await?;
    pods.create(&PostParams::default(), &pod(0)?).await?;
    until(async || Ok(ready(&pods).await? == 1)).await?;
    let before = private(podlet)?;

    let start = Instant::now();
    let creations = (1..=PODS).map(|number| {
        let pods = &pods;
        async move {
            pods.create(&PostParams::default(), &pod(number)?).await?;
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(creations).await?;
    let all = usize::try_from(PODS)? + 1;
    until(async || Ok(ready(&pods).await? == all)).await?;
    let seconds = start.elapsed().as_secs_f64();
    let per_pod = (private(podlet)? - before) / f64::from(PODS);
    let helpers = helpers(podlet)?;
    running.end()?;
    serving.stop().await;
    Ok(Round {
        seconds,
        per_pod,
        helpers,
    })
}

fn pod(number: u32) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{number}")},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": format!("{IMAGE}:1"), "command": ["sleep", "1000000"]}],
        },
    }))?)
}

async fn until(mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds().await? {
        if start.elapsed() > PATIENCE {
            bail!("it takes longer than {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn ready(pods: &Api<Pod>) -> Result<usize> {
    let pods = pods.list(&ListParams::default()).await?;
    let is_ready = |pod: &&Pod| {
        let status = pod.status.as_ref();
        let mut conditions = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten();
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Ok(pods.iter().filter(is_ready).count())
}

/// The memory that a process shares with no other, in bytes.
fn private(process: u32) -> Result<f64> {
    sum(process, &["Private_Clean:", "Private_Dirty:"])
}

/// The memory of the helpers that stay, those of no pod, each page shared out among those who have it.
fn helpers(podlet: u32) -> Result<f64> {
    let mut bytes = 0.0;
    for entrance in children(podlet)? {
        bytes += sum(entrance, &["Pss:"])?;
        for spawner in children(entrance)? {
            bytes += sum(spawner, &["Pss:"])?;
        }
    }
    if bytes == 0.0 {
        bail!("the podlet has no helpers");
    }
    Ok(bytes)
}

fn sum(process: u32, fields: &[&str]) -> Result<f64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let kibibytes = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let field = words.next()?;
        fields
            .contains(&field)
            .then(|| words.next()?.parse::<f64>().ok())?
    });
    Ok(kibibytes.sum::<f64>() * 1024.0)
}

/// The processes that a process has started.
fn children(process: u32) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")
        .context("failed to list processes")?
        .flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |number: &u32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        rest.split(' ').nth(1).and_then(|parent| parent.parse().ok()) == Some(process)
    };
    Ok(numbers.filter(is_child).collect())
}
