//! `cargo xtask test`: every test, one summary.

use crate::{command, tools};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

#[derive(clap::Args)]
pub struct Args {
    /// Only these packages (default: all)
    #[arg(short, long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Build the real components first, so that nothing is skipped
    #[arg(long)]
    tools: bool,
    /// Passed to `cargo test`, as a test's name
    #[arg(last = true)]
    rest: Vec<String>,
}

/// What the runners said, added up.
#[derive(Default, Debug, PartialEq, Eq)]
struct Sum {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Sum {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            if let (Some(count), Some(what)) =
                (words.next().and_then(|n| n.parse::<usize>().ok()), words.next())
            {
                match what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }
}

pub fn run(args: &Args) -> Result<bool> {
    if args.tools || std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        // With CI=true a skip fails, so what the tests need is provided first; where that fails, the tests that need
        // it say so themselves.
        if let Err(error) = tools::provide(&[]) {
            eprintln!("not all components could be provided: {error:#}");
        }
    }
    let skips = command::target().join("skipped-tests.txt");
    if let Some(folder) = skips.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    std::fs::write(&skips, "").with_context(|| format!("failed to write {}", skips.display()))?;

    let mut cargo = command::cargo();
    cargo
        .args(["test", "--no-fail-fast"])
        .env("CLUSTERWRIGHT_SKIP_LOG", &skips)
        .stdout(Stdio::piped());
    if args.packages.is_empty() {
        cargo.arg("--workspace");
    }
    for package in &args.packages {
        cargo.args(["--package", package]);
    }
    if !args.rest.is_empty() {
        cargo.arg("--").args(&args.rest);
    }
    let mut child = cargo.spawn().context("failed to start cargo test")?;
    let mut sum = Sum::default();
    let mut out = std::io::stdout();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("failed to read what cargo test prints")?;
            sum.add(&line);
            writeln!(out, "{line}").context("failed to print")?;
        }
    }
    let ended_well = child.wait().context("failed to wait for cargo test")?.success();

    let said = std::fs::read_to_string(&skips).unwrap_or_default();
    let skipped: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    println!();
    for skip in &skipped {
        println!("skipped {skip}");
    }
    // A test that found nothing to run on counts as skipped, not as passed.
    let passed = sum.passed.saturating_sub(skipped.len());
    let failed = if ended_well { sum.failed } else { sum.failed.max(1) };
    println!(
        "{passed} passed, {failed} failed, {} skipped",
        skipped.len() + sum.ignored
    );
    Ok(ended_well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_runners_lines_and_nothing_else() {
        let mut sum = Sum::default();
        sum.add("running 3 tests");
        sum.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        sum.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s");
        assert_eq!(
            sum,
            Sum {
                passed: 4,
                failed: 2,
                ignored: 1
            }
        );
    }
}
