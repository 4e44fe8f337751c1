//! The committed suite: scenarios, recordings, known differences and what still fails.

use crate::{
    compare::{self, Difference},
    recording,
    run::Transcript,
    scenario::{self, Scenario},
};
use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// How many known differences there may be.
const MOST_KNOWN: usize = 10;

/// All of it.
#[derive(Debug)]
pub struct Suite {
    folder: PathBuf,
    /// The ids of all scenarios.
    all: BTreeSet<String>,
    /// The scenarios that were chosen.
    pub scenarios: Vec<Scenario>,
    /// The real server's transcripts, by the scenario's id.
    pub recordings: BTreeMap<String, Transcript>,
    known: Vec<Known>,
    /// The ids of scenarios that our server does not pass yet.
    pub pending: BTreeSet<String>,
}

/// A difference that is meant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The scenarios' ids; `*` stands for any text.
    scenarios: String,
    /// The places in a step, such as `$.body.metadata`; `*` stands for any text.
    at: String,
    /// Where given: ours is the same text, but ends before this one.
    from: Option<String>,
    /// Why.
    reason: String,
}

impl Suite {
    /// Reads the suite that lies beside this program's source.
    ///
    /// # Errors
    /// When a file cannot be read, or there are too many known differences.
    pub fn load() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
        let known: Vec<Known> = serde_saphyr::from_str(&read(&folder.join("differences.yaml"))?)?;
        ensure!(
            known.len() <= MOST_KNOWN,
            "more than {MOST_KNOWN} known differences"
        );
        ensure!(
            known.iter().all(|known| !known.reason.is_empty()),
            "each known difference needs its reason"
        );
        let pending = read(&folder.join("pending.txt"))?;
        let pending = pending
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let scenarios = scenario::load(&folder.join("scenarios"))?;
        Ok(Self {
            all: scenarios.iter().map(Scenario::id).collect(),
            scenarios,
            recordings: recording::load(&folder.join("recordings"))?,
            known,
            pending: pending.map(str::to_owned).collect(),
            folder,
        })
    }

    /// Keeps the scenarios whose id contains one of the words; with no words, all.
    pub fn filter(&mut self, words: &[String]) {
        if !words.is_empty() {
            self.scenarios
                .retain(|scenario| words.iter().any(|word| scenario.id().contains(word.as_str())));
        }
    }

    /// Compares ours with what is expected, for the suite's scenarios; known differences do not count.
    pub fn compare(
        &self,
        expected: &BTreeMap<String, Transcript>,
        got: &BTreeMap<String, Transcript>,
    ) -> Report {
        self.report(expected, got, &self.known)
    }

    /// Compares the real server with its recordings.
    pub fn compare_real(&self, got: &BTreeMap<String, Transcript>) -> Report {
        self.report(&self.recordings, got, &[])
    }

    fn report(
        &self,
        expected: &BTreeMap<String, Transcript>,
        got: &BTreeMap<String, Transcript>,
        known: &[Known],
    ) -> Report {
        let mut report = Report::default();
        for id in self.scenarios.iter().map(Scenario::id) {
            let Some(got) = got.get(&id) else { continue };
            let failure = match expected.get(&id) {
                Some(expected) => compare::transcripts(expected, got, |difference| {
                    known.iter().any(|known| known.covers(&id, difference))
                })
                .map(|failure| failure.to_string()),
                None => Some("  it has no recording: run `record`\n".to_owned()),
            };
            if let Some(failure) = failure {
                report.failed.insert(id, failure);
            } else {
                report.passed.insert(id);
            }
        }
        report
    }

    /// Commits transcripts of the real server as recordings. Recordings of what is no scenario go.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn record(&self, transcripts: &BTreeMap<String, Transcript>) -> anyhow::Result<()> {
        recording::save(&self.folder.join("recordings"), transcripts, &self.all)
    }

    /// Writes the list of scenarios that fail; of those that `report` says nothing about, it stays as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_pending(&self, report: &Report) -> anyhow::Result<()> {
        let mut text =
            "# Scenarios that the in-process server does not pass yet; the aim is an empty list.\n"
                .to_owned();
        let kept = self
            .pending
            .intersection(&self.all)
            .filter(|id| !report.passed.contains(*id));
        let ids: BTreeSet<_> = report.failed.keys().chain(kept).collect();
        for id in ids {
            writeln!(text, "{id}")?;
        }
        fs::write(self.folder.join("pending.txt"), text).context("failed to write pending.txt")
    }
}

impl Known {
    fn covers(&self, id: &str, difference: &Difference) -> bool {
        let ends = |from: &String| {
            let expected = difference.expected.as_ref().and_then(Value::as_str);
            let shortened = expected.and_then(|text| text.split_once(from.as_str()));
            shortened.is_some_and(|(start, _)| difference.got == Some(Value::from(start)))
        };
        matches(&self.scenarios, id)
            && matches(&self.at, &difference.path)
            && self.from.as_ref().is_none_or(ends)
    }
}

/// Whether a pattern with `*` covers a whole text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

/// What a comparison gave.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The ids of scenarios without a difference.
    pub passed: BTreeSet<String>,
    /// The ids of the others, and where they differ.
    pub failed: BTreeMap<String, String>,
}

impl Report {
    /// The failures as text, but for those of `except`.
    pub fn text(&self, except: &BTreeSet<String>) -> String {
        let told = self.failed.iter().filter(|(id, _)| !except.contains(*id));
        let told: Vec<_> = told
            .map(|(id, failure)| format!("FAILED {id}\n{failure}\n"))
            .collect();
        told.concat()
    }

    /// `N passed, N failed`
    pub fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed.len(), self.failed.len())
    }
}

/// Transcripts side by side, for `-o json`.
pub fn transcripts_json(
    report: &Report,
    real: &BTreeMap<String, Transcript>,
    ours: &BTreeMap<String, Transcript>,
) -> Value {
    let entry = |id: &String| {
        let passed = report.passed.contains(id);
        json!({"scenario": id, "passed": passed, "real": real.get(id), "ours": ours.get(id)})
    };
    ours.keys()
        .chain(real.keys().filter(|id| !ours.contains_key(*id)))
        .map(entry)
        .collect()
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("tables/*", "tables/of-pods"));
        assert!(matches("$.body.columns[*].x", "$.body.columns[12].x"));
        assert!(!matches("$.body.columns[*].x", "$.body.columns[12].xy"));
        assert!(!matches("tables/of", "tables/of-pods"));
        assert!(matches("*", ""));
    }

    #[test]
    fn what_ends_early_is_covered_only_where_it_ends() {
        let known: Known = serde_saphyr::from_str(
            "{scenarios: '*', at: $.body.*message, from: \"\\n@@ \", reason: internal structs}",
        )
        .unwrap();
        let covers = |path: &str, expected: &str, got: Option<&str>| {
            let difference = Difference {
                path: path.to_owned(),
                expected: Some(expected.into()),
                got: got.map(Value::from),
            };
            known.covers("pods/a", &difference)
        };
        let message = "$.body.details.causes[0].message";
        assert!(covers(message, "immutable\n@@ -1 +1 @@", Some("immutable")));
        assert!(!covers(message, "immutable\n@@ -1 +1 @@", Some("mutable")));
        assert!(!covers(message, "immutable\n@@ -1 +1 @@", None));
        assert!(!covers(message, "immutable", Some("")));
        assert!(!covers(
            "$.body.reason",
            "immutable\n@@ -1 +1 @@",
            Some("immutable")
        ));
    }
}
