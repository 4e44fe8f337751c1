//! What a user waits for first: `cargo build --release` of a fresh clone, with nothing compiled before.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clusterwright_benches::figure;
use serde_json::Value;

/// How many of the costliest crates are named.
const NAMED: usize = 10;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().context("failed to make a folder for the clone")?;
    let clone = folder.path().join("clone");
    run(Command::new("git")
        .args(["clone", "--quiet"])
        .arg(&root)
        .arg(&clone))?;
    let target = folder.path().join("target");
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&clone).env("CARGO_TARGET_DIR", &target);
        cargo
    };
    // The wait for the network is not ours to measure.
    run(cargo().args(["fetch", "--quiet", "--locked"]))?;
    let start = Instant::now();
    run(cargo().args(["build", "--release", "--locked", "--quiet", "--timings"]))?;
    figure::at_most("build.release", start.elapsed().as_secs_f64() / 60.0, "min", 6.0);
    let binary = target.join("release/clusterwright");
    let size = std::fs::metadata(&binary)
        .with_context(|| format!("failed to find {}", binary.display()))?
        .len();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    figure::report("build.binary_size", size as f64 / 1e6, "MB");
    let report = target.join("cargo-timings/cargo-timing.html");
    let report =
        std::fs::read_to_string(&report).with_context(|| format!("failed to read {}", report.display()))?;
    for (name, seconds) in costliest(&report)? {
        figure::report(&format!("build.crate.{name}"), seconds, "s");
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    if !command
        .status()
        .with_context(|| format!("failed to start {program}"))?
        .success()
    {
        bail!("{program} failed");
    }
    Ok(())
}

/// Reads the data in cargo's report: the seconds of each unit, summed by crate, largest first.
fn costliest(report: &str) -> Result<Vec<(String, f64)>> {
    let data = report
        .split_once("const UNIT_DATA = ")
        .context("cargo's report has no UNIT_DATA")?
        .1;
    let mut units = serde_json::Deserializer::from_str(data).into_iter::<Vec<Value>>();
    let units = units
        .next()
        .context("cargo's UNIT_DATA is empty")?
        .context("failed to read cargo's UNIT_DATA")?;
    let mut by_crate: Vec<(String, f64)> = Vec::new();
    for unit in &units {
        let name = unit["name"].as_str().unwrap_or_default();
        let seconds = unit["duration"].as_f64().unwrap_or_default();
        match by_crate.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += seconds,
            None => by_crate.push((name.to_owned(), seconds)),
        }
    }
    by_crate.sort_by(|a, b| b.1.total_cmp(&a.1));
    by_crate.truncate(NAMED);
    Ok(by_crate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_a_crate_are_summed() {
        let report = r#"x const UNIT_DATA = [{"name": "a", "duration": 1.0}, {"name": "b", "duration": 1.5},
            {"name": "a", "duration": 2.0}]; y"#;
        assert_eq!(
            costliest(report).unwrap(),
            [("a".to_owned(), 3.0), ("b".to_owned(), 1.5)]
        );
    }
}
