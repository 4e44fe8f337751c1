//! What the in-process API server costs beside the real one: its start, creates and status applies with ten callers at
//! a time, and the memory that 10 000 `ConfigMap`s take.
//!
//! Ours is measured through the tower service, as tests use it, and as a process of its own that serves TLS (this
//! program with `hold ADDRESS`), as the real kube-apiserver does with its etcd, which never waits for the disk. Each
//! round starts all three afresh.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clusterwright_apiserver::ApiServer;
use clusterwright_benches::load::{Rates, fill};
use clusterwright_benches::{connect, figure, median};
use clusterwright_testkit::{ControlPlane, process};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};

const ROUNDS: usize = 3;

/// How long a server is left alone before its memory is read, so that it can give back what it does not need.
const REST: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("hold") {
        let address = arguments.next().context("hold needs an address")?;
        return runtime.block_on(hold(address.parse()?));
    }
    measure(&runtime)
}

async fn hold(address: SocketAddr) -> Result<()> {
    let server = ApiServer::new();
    let serving = server.serve(address).await?;
    // Whoever reads the file finds all of it or nothing.
    std::fs::write("kubeconfig.new", serving.kubeconfig()?)?;
    std::fs::rename("kubeconfig.new", "kubeconfig")?;
    tokio::signal::ctrl_c().await?;
    serving.stop().await;
    Ok(())
}

fn measure(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let (mut starts, mut tower, mut tls, mut real) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        starts.push(runtime.block_on(start())?.as_secs_f64() * 1000.0);
        let client = runtime.block_on(async { ApiServer::new().client() });
        tower.push(runtime.block_on(fill(&client, async || Ok(())))?);
        drop(client);
        tls.push(own_process(runtime)?);
        real.push(real_pair(runtime)?);
    }
    figure::at_most("apiserver.start", median(starts), "ms", 20.0);
    let ratio = |of: &dyn Fn(usize) -> f64| median((0..ROUNDS).map(of).collect());
    figure::at_least(
        "apiserver.creates_ratio",
        ratio(&|round| tower[round].creates / real[round].creates),
        "x",
        10.0,
    );
    figure::at_least(
        "apiserver.status_applies_ratio",
        ratio(&|round| tower[round].applies / real[round].applies),
        "x",
        10.0,
    );
    figure::at_most(
        "apiserver.memory_ratio",
        ratio(&|round| tls[round].memory / real[round].memory),
        "x",
        0.1,
    );
    report("tower", &tower);
    for (who, servers) in [("tls", &tls), ("real", &real)] {
        report(who, servers);
        let memory = median(servers.iter().map(|rates| rates.memory).collect());
        figure::report(&format!("apiserver.{who}.memory"), memory / 1e6, "MB");
    }
    Ok(())
}

fn report<M>(who: &str, servers: &[Rates<M>]) {
    let mid = |of: fn(&Rates<M>) -> f64| median(servers.iter().map(of).collect());
    figure::report(
        &format!("apiserver.{who}.creates"),
        mid(|rates| rates.creates),
        "1/s",
    );
    figure::report(
        &format!("apiserver.{who}.status_applies"),
        mid(|rates| rates.applies),
        "1/s",
    );
}

/// From the constructor to the answer to the first list.
async fn start() -> Result<Duration> {
    let begin = Instant::now();
    let server = ApiServer::new();
    Api::<ConfigMap>::default_namespaced(server.client())
        .list(&ListParams::default())
        .await?;
    Ok(begin.elapsed())
}

/// Ours as a process of its own, over TLS.
fn own_process(runtime: &tokio::runtime::Runtime) -> Result<Rates<f64>> {
    let mut nursery = process::Nursery::new()?;
    let program = std::env::current_exe().context("failed to find this program")?;
    let address = format!("127.0.0.1:{}", process::free_port()?);
    nursery.spawn("ours", &program, ["hold", &address], &[])?;
    let kubeconfig = nursery.folder().join("kubeconfig");
    nursery.wait_for("ours", Duration::from_secs(30), || {
        let there = kubeconfig.exists();
        there.then_some(()).ok_or_else(|| "no kubeconfig yet".to_owned())
    })?;
    over_tls(runtime, &kubeconfig, &nursery, &["ours"])
}

fn real_pair(runtime: &tokio::runtime::Runtime) -> Result<Rates<f64>> {
    let server = ControlPlane::builder().start()?;
    let parts = ["kube-apiserver", "etcd"];
    over_tls(runtime, &server.kubeconfig(), server.processes(), &parts)
}

/// Fills a server; its memory is that of its `parts` together.
fn over_tls(
    runtime: &tokio::runtime::Runtime,
    kubeconfig: &Path,
    nursery: &process::Nursery,
    parts: &[&str],
) -> Result<Rates<f64>> {
    let memory = async || {
        tokio::time::sleep(REST).await;
        let mut bytes = 0;
        for part in parts {
            let resident = nursery.resident_bytes(part);
            bytes += resident.with_context(|| format!("failed to read the memory of {part}"))?;
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok(bytes as f64)
    };
    runtime.block_on(async {
        let client = connect(kubeconfig).await?;
        fill(&client, memory).await
    })
}
