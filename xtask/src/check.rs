//! `cargo xtask check`: what CI runs.

use crate::{command, generate, test, tools};
use anyhow::{Context, Result};
use clap::Parser;
use std::time::Instant;

/// The version of cargo-deny that is built once, outside the work tree.
const CARGO_DENY: &str = "0.20.2";

#[derive(clap::Args)]
pub struct Args {
    /// Leave the tests out
    #[arg(long)]
    no_test: bool,
}

pub fn run(args: &Args) -> Result<bool> {
    let mut well = true;
    let mut step = |name: &str, run: &mut dyn FnMut() -> Result<bool>| -> Result<()> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let passed = run().with_context(|| format!("{name} could not run"))?;
        // The tests' own summary says it, and is the last line.
        if name != "test" {
            let said = if passed { "ok" } else { "FAILED" };
            eprintln!("<== {name}: {said} ({:.0?})", start.elapsed());
        }
        well &= passed;
        Ok(())
    };
    step("fmt", &mut || {
        command::run(command::cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("clippy", &mut || {
        let mut cargo = command::cargo();
        command::run(cargo.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("generate --check", &mut || {
        generate::run(&generate::Args::checking())
    })?;
    step("deny", &mut deny)?;
    if !args.no_test {
        // Last, so that the runner's summary ends the output.
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            test: test::Args,
        }
        step("test", &mut || test::run(&Defaults::parse_from(["test"]).test))?;
    }
    Ok(well)
}

/// Licences, bans and sources always; advisories where their database can be reached, and it says so where not.
fn deny() -> Result<bool> {
    let root = tools::cache()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let binary = root.join("bin/cargo-deny");
    if !binary.exists() {
        eprintln!("building cargo-deny {CARGO_DENY} once");
        let mut install = command::cargo();
        install
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--version",
                CARGO_DENY,
                "--root",
            ])
            .arg(&root);
        if !command::run(&mut install)? {
            return Ok(false);
        }
    }
    let deny = |what: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        command
            .current_dir(command::root())
            .args(["--log-level", "error", "check"])
            .args(what);
        command
    };
    let passed = command::run(&mut deny(&["bans", "licenses", "sources"]))?;
    let fetched = std::process::Command::new(&binary)
        .current_dir(command::root())
        .args(["--log-level", "off", "fetch", "db"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !fetched {
        println!("advisories were not checked: their database cannot be reached from here");
        return Ok(passed);
    }
    Ok(command::run(&mut deny(&["advisories"]))? && passed)
}
