//! `clusterwright-conformance record | run | list`: see the library.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clusterwright_conformance::{
    ours::Ours,
    run::{self, Transcript},
    scenario::Scenario,
    suite::{Report, Suite, transcripts_json},
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
    about = "Compares the in-process API server with the real one",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Runs both servers and compares them with each other and with the recordings (the default).
    Run(Run),
    /// Runs the real server twice and writes down what it answers.
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

#[derive(Args)]
struct Run {
    #[command(flatten)]
    selection: Selection,
    /// Compares ours with the recordings, without the real server.
    #[arg(long)]
    ours_only: bool,
    /// What is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Writes the list of scenarios that ours does not pass.
    #[arg(long)]
    update_pending: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Failures, and a last line `N passed, N failed`.
    #[default]
    Text,
    /// All transcripts; the last line goes to standard error.
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    match command().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn command() -> anyhow::Result<bool> {
    let cli = Cli::parse();
    let mut suite = Suite::load()?;
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(options) => {
            suite.filter(&options.selection.filter);
            compare(&suite, &options).await
        }
        Command::Record(selection) => record(suite, &selection).await,
        Command::List(selection) => {
            suite.filter(&selection.filter);
            suite
                .scenarios
                .iter()
                .for_each(|scenario| println!("{}", scenario.id()));
            Ok(true)
        }
    }
}

async fn compare(suite: &Suite, options: &Run) -> anyhow::Result<bool> {
    let mut text = String::new();
    let mut untrue = Report::default();
    let real = if options.ours_only {
        suite.recordings.clone()
    } else {
        let mut real = real(&suite.scenarios).await?;
        untrue = suite.compare_real(&real);
        if !untrue.failed.is_empty() {
            // What differs may hang on the moment (a second's change between two writes): it gets another try.
            let again: Vec<_> = suite
                .scenarios
                .iter()
                .filter(|scenario| untrue.failed.contains_key(&scenario.id()))
                .cloned()
                .collect();
            real.extend(self::real(&again).await?);
            untrue = suite.compare_real(&real);
        }
        for (id, failure) in &untrue.failed {
            text.push_str("NO LONGER TRUE (the recording against the real server) ");
            text.push_str(id);
            text.push('\n');
            text.push_str(failure);
            text.push('\n');
        }
        real
    };
    let ours = ours(&suite.scenarios).await?;
    let mut report = suite.compare(&real, &ours);
    text += &report.text(&BTreeSet::new());
    if options.update_pending {
        suite.save_pending(&report)?;
    }
    for (id, failure) in untrue.failed {
        report.passed.remove(&id);
        report.failed.entry(id).or_insert(failure);
    }
    match options.output {
        Output::Text => println!("{text}{}", report.summary()),
        Output::Json => {
            println!("{:#}", transcripts_json(&report, &real, &ours));
            eprintln!("{}", report.summary());
        }
    }
    Ok(report.failed.is_empty())
}

async fn record(mut suite: Suite, selection: &Selection) -> anyhow::Result<bool> {
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
    suite.record(&one)?;
    println!(
        "{} recorded, {broken} broken, {} not the same twice",
        one.len(),
        report.failed.len()
    );
    Ok(broken + report.failed.len() == 0)
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

/// Runs scenarios on our server.
async fn ours(scenarios: &[Scenario]) -> anyhow::Result<BTreeMap<String, Transcript>> {
    let (controlled, plain): (Vec<_>, Vec<_>) = scenarios
        .iter()
        .cloned()
        .partition(|scenario| scenario.controllers);
    let listen = plain.iter().any(|scenario| scenario.kubectl.is_some());
    let mut transcripts = run::all(Arc::new(Ours::start(listen).await?), &plain).await;
    transcripts.extend(run::all(Arc::new(Ours::start_with_controllers()), &controlled).await);
    Ok(transcripts)
}
