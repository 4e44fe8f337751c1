//! What every benchmark needs: figures in the form that `cargo xtask bench` reads, and the process's CPU time.

pub mod figure;
pub mod load;
pub mod myapp;
pub mod programs;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The CPU time that this process's threads have used so far, from the scheduler's own count in nanoseconds. Threads
/// that have ended are not counted: measure between two points of a runtime that keeps its threads.
pub fn cpu_time() -> Result<Duration> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").context("failed to list threads")? {
        let path = task.context("failed to list threads")?.path().join("schedstat");
        // A thread may end in between.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let nanos = text.split_whitespace().next().context("an empty schedstat")?;
        total += nanos.parse::<u64>().context("failed to read a schedstat")?;
    }
    Ok(Duration::from_nanos(total))
}

/// A client for the kubeconfig's current context, which sends each request once: what fails is not hidden in a rate.
pub async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("failed to read the kubeconfig")?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// The middle of an odd number of values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
