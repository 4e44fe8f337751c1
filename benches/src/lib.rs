//! What every benchmark needs: figures in the form that `cargo xtask bench` reads, and the process's CPU time.

pub mod figure;
pub mod myapp;

use std::time::Duration;

use anyhow::{Context, Result};

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

/// The middle of an odd number of values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
