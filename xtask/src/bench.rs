//! `cargo xtask bench`: runs benchmarks, each of which prints lines `name value unit goal holds|misses`.

use crate::{command, tools};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// A benchmark program and the real components that it runs beside ours.
struct Bench {
    name: &'static str,
    /// The program, where it cannot have the benchmark's name.
    program: Option<&'static str>,
    tools: &'static [&'static str],
    /// Left out unless it is asked for by name.
    by_name_only: bool,
}

const SERVER: &[&str] = &["etcd", "kube-apiserver"];

const CONTROL_PLANE: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

const BENCHES: &[Bench] = &[
    Bench {
        name: "queue",
        program: None,
        tools: &[],
        by_name_only: false,
    },
    Bench {
        name: "cache",
        program: None,
        tools: &[],
        by_name_only: false,
    },
    Bench {
        name: "apiserver",
        program: None,
        tools: SERVER,
        by_name_only: false,
    },
    Bench {
        name: "access",
        program: None,
        tools: &[],
        by_name_only: false,
    },
    Bench {
        name: "controller",
        program: None,
        tools: SERVER,
        by_name_only: false,
    },
    Bench {
        name: "up",
        program: None,
        tools: &[],
        by_name_only: false,
    },
    Bench {
        name: "podlet",
        program: None,
        tools: &[],
        by_name_only: false,
    },
    Bench {
        name: "hosted",
        program: None,
        tools: CONTROL_PLANE,
        by_name_only: false,
    },
    Bench {
        name: "roll",
        program: None,
        tools: CONTROL_PLANE,
        by_name_only: false,
    },
    Bench {
        name: "build",
        program: Some("fresh_build"),
        tools: &[],
        by_name_only: true,
    },
];

#[derive(clap::Args)]
pub struct Args {
    /// Which to run: queue, cache, apiserver, access, controller, up, podlet, hosted, roll, build (default: all but build)
    names: Vec<String>,
}

/// One figure, as it stands in target/bench.json.
#[derive(Serialize, Debug, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    /// What was aimed at; null for a figure that is only reported.
    goal: Option<String>,
    holds: bool,
}

/// Reads `name value unit goal holds|misses`; the goal of a figure that is only reported is `-`.
fn figure(line: &str) -> Option<Figure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, value, unit, goal, verdict] = words.as_slice() else {
        return None;
    };
    let holds = match *verdict {
        "holds" => true,
        "misses" => false,
        _ => return None,
    };
    let goal = (*goal != "-").then(|| (*goal).to_owned());
    Some(Figure {
        name: (*name).to_owned(),
        value: value.parse().ok()?,
        unit: (*unit).to_owned(),
        goal,
        holds,
    })
}

pub fn run(args: &Args) -> Result<bool> {
    for name in &args.names {
        if !BENCHES.iter().any(|bench| bench.name == name) {
            let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
            bail!("no benchmark is called {name:?}; there are {}", known.join(", "));
        }
    }
    let chosen = BENCHES.iter().filter(|bench| {
        if args.names.is_empty() {
            !bench.by_name_only
        } else {
            args.names.iter().any(|name| name == bench.name)
        }
    });
    let mut figures = Vec::new();
    let mut well = true;
    for bench in chosen {
        if !bench.tools.is_empty() {
            tools::provide(bench.tools)?;
        }
        let mut cargo = command::cargo();
        cargo.args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "clusterwright-benches",
            "--bin",
            bench.program.unwrap_or(bench.name),
        ]);
        let mut child = cargo
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start cargo")?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line.context("failed to read what the benchmark prints")?;
                println!("{line}");
                figures.extend(figure(&line));
            }
        }
        well &= child
            .wait()
            .context("failed to wait for the benchmark")?
            .success();
    }
    let path = command::target().join("bench.json");
    let text = serde_json::to_string_pretty(&figures).context("failed to encode the figures")?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_figures_and_passes_other_lines_over() {
        assert_eq!(figure("reading 10 000 objects"), None);
        assert_eq!(
            figure("queue.cpu_per_item 2.1 µs <=5 holds"),
            Some(Figure {
                name: "queue.cpu_per_item".into(),
                value: 2.1,
                unit: "µs".into(),
                goal: Some("<=5".into()),
                holds: true
            })
        );
        assert_eq!(figure("rate 9 1/s - holds").map(|f| f.goal), Some(None));
    }
}
