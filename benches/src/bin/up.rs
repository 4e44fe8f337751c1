//! `clusterwright up --once`: from the start of the process to the end, when all objects of the example are ready.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clusterwright_benches::{figure, median, programs};

const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let binary = programs::clusterwright()?;
    let (mut seconds, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (took, peak) = once(&binary)?;
        seconds.push(took.as_secs_f64());
        bytes.push(peak);
    }
    figure::at_most("up.until_ready", median(seconds), "s", 5.0);
    figure::at_most("up.peak_memory", median(bytes) / 1e6, "MB", 100.0);
    Ok(())
}

/// How long one run takes, and its largest resident memory in bytes.
fn once(binary: &Path) -> Result<(Duration, f64)> {
    let start = Instant::now();
    let mut child = Command::new(binary)
        .args(["up", "--once", "--pods", "simulated"])
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to start {}", binary.display()))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    loop {
        // The system's own high-water mark: it only has to be read once near the end.
        if let Some(kib) = std::fs::read_to_string(&status)
            .ok()
            .as_deref()
            .and_then(high_water)
        {
            peak = kib * 1024.0;
        }
        if let Some(ended) = child.try_wait().context("failed to wait for clusterwright")? {
            if !ended.success() {
                bail!("clusterwright up --once ended with {ended}");
            }
            return Ok((start.elapsed(), peak));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn high_water(status: &str) -> Option<f64> {
    status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
