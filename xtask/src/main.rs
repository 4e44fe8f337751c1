//! The project's own commands, run as `cargo xtask <command>`.

mod bench;
mod check;
mod command;
mod generate;
mod test;
mod tools;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test there is; ends with `N passed, N failed, N skipped` and a reason for each skip
    Test(test::Args),
    /// What CI runs: fmt, clippy, generate --check, deny, test
    Check(check::Args),
    /// Write the generated files: CRDs, install manifests, tables of built-in kinds
    Generate(generate::Args),
    /// Build or find the pinned real components (etcd, kube-apiserver, kubectl, …)
    Tools(tools::Args),
    /// Compare the in-process API server with the real one, scenario by scenario
    #[command(disable_help_flag = true)]
    Conformance(Passed),
    /// Measure; results land in target/bench.json
    Bench(bench::Args),
}

/// Arguments that go to the program behind the command as they are.
#[derive(clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Tools(args) => tools::run(&args),
        Command::Conformance(passed) => conformance(&passed.rest),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the conformance program, with the real components that it needs built first.
fn conformance(rest: &[String]) -> anyhow::Result<bool> {
    let offline = rest
        .iter()
        .any(|arg| arg == "--ours-only" || arg == "--help" || arg == "-h");
    if !offline {
        tools::provide(tools::CONFORMANCE)?;
    }
    let mut cargo = command::cargo();
    cargo.args(["run", "--quiet", "--package", "clusterwright-conformance", "--"]);
    let has_command = rest.first().is_some_and(|arg| !arg.starts_with('-'));
    if !has_command && !offline {
        cargo.arg("run");
    }
    command::run(cargo.args(rest))
}
