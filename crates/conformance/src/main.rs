//! `clusterwright-conformance record | run`: see the library.

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use clusterwright_conformance::{
    run::{self, Transcript},
    scenario::Scenario,
    suite::Suite,
    target::Real,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::Arc,
};

#[derive(Parser)]
#[command(
    name = "clusterwright-conformance",
    about = "Compares the in-process API server with the real one"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the real server and writes down what it answers.
    Record(Selection),
    /// Lists scenarios.
    List(Selection),
}

#[derive(Args)]
struct Selection {
    /// Only scenarios whose id contains this; may be given several times.
    #[arg(long)]
    filter: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let mut suite = Suite::load()?;
    let all: BTreeSet<_> = suite.scenarios.iter().map(Scenario::id).collect();
    match cli.command {
        Command::Record(selection) => {
            suite.filter(&selection.filter);
            let mut one = real(&suite.scenarios).await?;
            let two = real(&suite.scenarios).await?;
            let report = suite.compare(&one, &two);
            print!("{}", report.text(&BTreeSet::new()));
            let mut broken = 0;
            one.retain(|id, transcript| {
                let error = transcript.iter().find(|entry| entry.get("error").is_some());
                if let Some(error) = error {
                    broken += 1;
                    println!("BROKEN {id}\n  {error}\n");
                }
                error.is_none()
            });
            suite.record(&one, &all)?;
            println!(
                "{} recorded, {broken} broken, {} not the same twice",
                one.len(),
                report.failed.len()
            );
            if broken + report.failed.len() > 0 {
                bail!("not all of them can be relied on");
            }
        }
        Command::List(selection) => {
            suite.filter(&selection.filter);
            suite
                .scenarios
                .iter()
                .for_each(|scenario| println!("{}", scenario.id()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs scenarios on a real server of their own: those with controllers after the others.
async fn real(scenarios: &[Scenario]) -> anyhow::Result<BTreeMap<String, Transcript>> {
    let real = Arc::new(Real::start().await?);
    let (controlled, plain): (Vec<_>, Vec<_>) = scenarios
        .iter()
        .cloned()
        .partition(|scenario| scenario.controllers);
    let mut transcripts = run::all(real.clone(), &plain).await;
    if !controlled.is_empty() {
        real.start_controllers().await?;
        transcripts.extend(run::all(real, &controlled).await);
    }
    Ok(transcripts)
}
