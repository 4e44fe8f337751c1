//! From the creation of a `HostedControlPlane` until its API server is ready, with real binaries, beside a script that
//! starts the same binaries with the same flags in the same order; in turn. What is measured is what the management
//! cluster, the controller and the podlet add.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clusterwright_benches::programs::{self, Up};
use clusterwright_benches::{connect, figure, median};
use clusterwright_testkit::tools;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, Volume};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use serde::{Deserialize, Serialize};
use serde_json::json;

const ROUNDS: usize = 5;
/// How often an API server is asked whether it is ready.
const PERIOD: Duration = Duration::from_millis(10);
/// How long one may take before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(120);
const PKI: &str = "/etc/kubernetes/pki";
const PORT: u16 = 6443;
/// What stands before the control plane is created: nothing of it.
const BEFORE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: bench}}";

/// What it took, in seconds.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Took {
    wall: f64,
    cpu: f64,
}

/// Programs with their arguments, in the order in which they are started.
#[derive(Deserialize, Serialize)]
struct Script(Vec<(PathBuf, Vec<String>)>);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    if let [_, mode, folder] = args.as_slice()
        && mode == "--script"
    {
        let took = runtime.block_on(run_script(Path::new(folder)))?;
        println!("{}", serde_json::to_string(&took)?);
        return Ok(());
    }
    let binary = programs::clusterwright()?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let up = Up::start(&binary, BEFORE)?;
        up.line("All was ready")?;
        let script = tempfile::tempdir().context("failed to make a folder")?;
        own.push(runtime.block_on(ours(&up, 1, 1, Some(script.path())))?);
        // The script has the machine to itself, as the other had.
        up.end()?;
        others.push(theirs(script.path())?);
    }
    let over = |of: fn(&Took) -> f64| median(own.iter().zip(&others).map(|(a, b)| of(a) - of(b)).collect());
    figure::at_most("hosted.wall_over_script", over(|took| took.wall), "s", 1.0);
    figure::at_most("hosted.cpu_over_script", over(|took| took.cpu), "s", 0.5);
    for (who, runs) in [("ours", &own), ("script", &others)] {
        let mid = |of: fn(&Took) -> f64| median(runs.iter().map(of).collect());
        figure::report(&format!("hosted.{who}.wall"), mid(|took| took.wall), "s");
        figure::report(&format!("hosted.{who}.cpu"), mid(|took| took.cpu), "s");
    }
    let up = Up::start(&binary, BEFORE)?;
    up.line("All was ready")?;
    let large = runtime.block_on(ours(&up, 3, 3, None))?;
    figure::report("hosted.three_and_three.wall", large.wall, "s");
    figure::report("hosted.three_and_three.cpu", large.cpu, "s");
    up.end()
}

/// Creates a control plane and waits for its first API server; writes the script that does the same, if asked to.
async fn ours(up: &Up, etcd: usize, api_servers: usize, script: Option<&Path>) -> Result<Took> {
    let client = connect(&up.kubeconfig).await?;
    let objects = [
        (
            "cluster.x-k8s.io",
            "v1beta2",
            "Cluster",
            json!({"controlPlaneRef": {
            "apiGroup": "controlplane.cluster.x-k8s.io", "kind": "HostedControlPlane", "name": "bench"}}),
        ),
        (
            "controlplane.cluster.x-k8s.io",
            "v1alpha1",
            "HostedControlPlane",
            json!({"version": "v1.36.3", "replicas": api_servers, "etcd": {"replicas": etcd}}),
        ),
    ];
    let before = cpu_of(up.id())?;
    let start = Instant::now();
    for (group, version, kind, spec) in objects {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let mut object = DynamicObject::new("bench", &resource);
        object.data = json!({"spec": spec});
        let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
        let created = api.create(&PostParams::default(), &object).await;
        created.with_context(|| format!("failed to create the {kind}"))?;
    }
    let kubeconfig = loop {
        if let Some(kubeconfig) = reached(&client).await? {
            break kubeconfig;
        }
        wait(start).await?;
    };
    until_ready(kubeconfig.clone(), start, || Ok(())).await?;
    let took = Took {
        wall: start.elapsed().as_secs_f64(),
        cpu: cpu_of(up.id())? - before,
    };
    if let Some(folder) = script {
        write_script(&client, folder).await?;
        let mut kubeconfig = kubeconfig;
        lead(&mut kubeconfig, PORT);
        fs::write(folder.join("kubeconfig"), serde_json::to_string(&kubeconfig)?)
            .context("failed to write the script's kubeconfig")?;
    }
    Ok(took)
}

/// The kubeconfig of the hosted cluster, when there is a way to it from this machine.
async fn reached(client: &kube::Client) -> Result<Option<Kubeconfig>> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let services = services.list(&ListParams::default()).await?;
    let port = services.iter().find_map(|service| {
        let all = service.metadata.annotations.as_ref()?;
        let ports: BTreeMap<String, u16> =
            serde_json::from_str(all.get("podlet.clusterwright.dev/host-ports")?).ok()?;
        ports.get(&PORT.to_string()).copied()
    });
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let Some((port, secret)) = port.zip(secrets.get_opt("bench-kubeconfig").await?) else {
        return Ok(None);
    };
    let text = secret
        .data
        .unwrap_or_default()
        .remove("value")
        .unwrap_or_default()
        .0;
    let mut kubeconfig = Kubeconfig::from_yaml(std::str::from_utf8(&text)?)?;
    lead(&mut kubeconfig, port);
    Ok(Some(kubeconfig))
}

/// Makes a kubeconfig lead to a port of this machine.
fn lead(kubeconfig: &mut Kubeconfig, port: u16) {
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        cluster.server = Some(format!("https://127.0.0.1:{port}"));
    }
}

/// Waits until an API server says that it is ready, unless what else is to hold does not.
async fn until_ready(
    kubeconfig: Kubeconfig,
    start: Instant,
    mut holds: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let client = kube::Client::try_from(config)?;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        if client.request_text(request).await.is_ok_and(|text| text == "ok") {
            return Ok(());
        }
        holds()?;
        wait(start).await?;
    }
}

async fn wait(start: Instant) -> Result<()> {
    if start.elapsed() > PATIENCE {
        bail!("the API server is not ready in {PATIENCE:?}");
    }
    tokio::time::sleep(PERIOD).await;
    Ok(())
}

/// Writes what the pods were started with: files and arguments, with places of this machine for those of the pods.
async fn write_script(client: &kube::Client, folder: &Path) -> Result<()> {
    let files = folder.join("pki");
    fs::create_dir_all(&files).context("failed to make a folder for the script's files")?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pods = pods.list(&ListParams::default()).await?;
    let mut programs = Vec::new();
    for program in ["etcd", "kube-apiserver"] {
        let mut specs = pods
            .iter()
            .filter_map(|pod| Some((pod.metadata.name.clone()?, pod.spec.as_ref()?)));
        let found = specs.find_map(|(name, spec)| {
            let container = spec
                .containers
                .iter()
                .find(|container| container.name == program)?;
            Some((name, spec, container))
        });
        let (name, spec, container) = found.with_context(|| format!("no pod runs {program}"))?;
        for volume in spec.volumes.iter().flatten() {
            write_files(client, volume, &files).await?;
        }
        let mut args: Vec<String> = container
            .args
            .iter()
            .flatten()
            .map(|arg| local(arg, &name, folder))
            .collect();
        if program == "etcd" {
            // Which its pods are told elsewhere, and a member alone is the whole cluster.
            args.retain(|arg| {
                !arg.starts_with("--initial-cluster=") && !arg.starts_with("--initial-cluster-state=")
            });
            args.push(format!("--initial-cluster={name}=https://127.0.0.1:2380"));
        }
        let path = tools::find(program).map_err(|missing| anyhow::anyhow!("{missing}"))?;
        programs.push((path, args));
    }
    let text = serde_json::to_string(&Script(programs))?;
    fs::write(folder.join("script.json"), text).context("failed to write the script")
}

/// Writes the files of a volume that is made of Secrets.
async fn write_files(client: &kube::Client, volume: &Volume, folder: &Path) -> Result<()> {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    for source in sources.filter_map(|source| source.secret.as_ref()) {
        let data = secrets.get(&source.name).await?.data.unwrap_or_default();
        for item in source.items.iter().flatten() {
            let content = data.get(&item.key).context("a Secret has no such key")?;
            fs::write(folder.join(&item.path), &content.0)
                .context("failed to write a file of the script's")?;
        }
    }
    Ok(())
}

/// An argument with the folders of this machine, and its loopback for the names of pods and Services.
fn local(arg: &str, pod: &str, folder: &Path) -> String {
    let arg = arg.replace("$(POD_NAME)", pod);
    let arg = arg.replace(PKI, &folder.join("pki").display().to_string());
    let Some((flag, value)) = arg.split_once('=') else {
        return arg;
    };
    let value = match flag {
        "--data-dir" => folder.join("data").display().to_string(),
        "--advertise-client-urls" | "--initial-advertise-peer-urls" | "--etcd-servers" => {
            let port = value.rsplit(':').next().unwrap_or_default();
            format!("https://127.0.0.1:{port}")
        }
        _ => value.to_owned(),
    };
    format!("{flag}={value}")
}

/// Runs the script in a network of its own, where its ports are nobody else's.
fn theirs(folder: &Path) -> Result<Took> {
    let exe = std::env::current_exe().context("failed to find this program")?;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--", "sh", "-c"])
        .arg("ip link set lo up && exec \"$0\" --script \"$1\"")
        .arg(exe)
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start unshare")?;
    if !output.status.success() {
        bail!("the script failed");
    }
    serde_json::from_slice(&output.stdout).context("failed to read what the script took")
}

async fn run_script(folder: &Path) -> Result<Took> {
    let text = fs::read_to_string(folder.join("script.json")).context("failed to read the script")?;
    let Script(programs) = serde_json::from_str(&text)?;
    let kubeconfig = Kubeconfig::read_from(folder.join("kubeconfig"))?;
    let start = Instant::now();
    let mut running = Vec::new();
    for (number, (program, args)) in programs.iter().enumerate() {
        let log = fs::File::create(folder.join(format!("{number}.log"))).context("failed to make a log")?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        running.push(Ended(child));
    }
    let all_run = || {
        for (number, Ended(child)) in running.iter_mut().enumerate() {
            if let Some(status) = child.try_wait().context("failed to look after a program")? {
                let said = fs::read_to_string(folder.join(format!("{number}.log"))).unwrap_or_default();
                bail!("a program of the script ended with {status}: {said}");
            }
        }
        Ok(())
    };
    until_ready(kubeconfig, start, all_run).await?;
    let wall = start.elapsed().as_secs_f64();
    let mut cpu = 0.0;
    for Ended(child) in &running {
        cpu += cpu_of(child.id())?;
    }
    Ok(Took { wall, cpu })
}

/// A process that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU seconds that a process and all that it started have used, ended ones too.
fn cpu_of(process: u32) -> Result<f64> {
    // Ticks of a hundredth of a second, on every machine that Linux runs on.
    const TICK: f64 = 0.01;
    let mut all: BTreeMap<u32, (u32, f64)> = BTreeMap::new();
    for entry in fs::read_dir("/proc")
        .context("failed to list processes")?
        .flatten()
    {
        let Ok(number) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may end in between.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let field = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let parent = fields.get(1).and_then(|field| field.parse().ok());
        let ticks: Option<f64> = (11..15).map(field).sum();
        if let Some((parent, ticks)) = parent.zip(ticks) {
            all.insert(number, (parent, ticks * TICK));
        }
    }
    let mut sum = 0.0;
    let mut looked_at = vec![process];
    while let Some(number) = looked_at.pop() {
        sum += all.get(&number).map_or(0.0, |(_, cpu)| *cpu);
        looked_at.extend(
            all.iter()
                .filter(|(_, (parent, _))| *parent == number)
                .map(|(child, _)| *child),
        );
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_pods_become_those_of_this_machine() {
        let folder = Path::new("/f");
        for (arg, expected) in [
            ("--name=$(POD_NAME)", "--name=p-0"),
            (
                "--cert-file=/etc/kubernetes/pki/a.crt",
                "--cert-file=/f/pki/a.crt",
            ),
            (
                "--etcd-servers=https://a.b.svc:2379,https://c:2379",
                "--etcd-servers=https://127.0.0.1:2379",
            ),
            (
                "--listen-client-urls=https://0.0.0.0:2379",
                "--listen-client-urls=https://0.0.0.0:2379",
            ),
            ("--data-dir=/var/lib/etcd", "--data-dir=/f/data"),
        ] {
            assert_eq!(local(arg, "p-0", folder), expected);
        }
    }
}
