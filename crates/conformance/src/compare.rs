//! Finds where two transcripts differ.

use crate::run::Transcript;
use serde_json::Value;
use std::fmt;

/// How many differences of one step are told.
const TOLD: usize = 12;

/// One place where the transcripts differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The place in the step's entry, such as `$.body.details.causes[0].message`.
    pub path: String,
    /// What the recording has; none when it has nothing there.
    pub expected: Option<Value>,
    /// What came; none when nothing came.
    pub got: Option<Value>,
}

/// The first step where the transcripts differ, and where in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its place in the list of steps, from 1.
    pub step: usize,
    /// The step as the scenario has it.
    pub text: String,
    /// Where it differs.
    pub differences: Vec<Difference>,
    /// How many steps after it differ too.
    pub later: usize,
}

/// Compares transcripts; `known` tells which differences do not count.
pub fn transcripts(
    expected: &Transcript,
    got: &Transcript,
    known: impl Fn(&Difference) -> bool,
) -> Option<Failure> {
    let null = Value::Null;
    let steps = expected.len().max(got.len());
    let differing = (0..steps).filter_map(|step| {
        let (one, two) = (expected.get(step), got.get(step));
        let mut differences = Vec::new();
        compare("$", one, two, &mut differences);
        differences.retain(|difference| !known(difference));
        // How the request ended explains the rest.
        differences.sort_by_key(|difference| {
            !matches!(
                difference.path.as_str(),
                "$.status" | "$.error" | "$.body.message"
            )
        });
        let text = one.or(two).unwrap_or(&null)["step"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (!differences.is_empty()).then_some((step + 1, text, differences))
    });
    let mut differing: Vec<_> = differing.collect();
    if differing.is_empty() {
        return None;
    }
    let later = differing.len() - 1;
    let (step, text, differences) = differing.swap_remove(0);
    Some(Failure {
        step,
        text,
        differences,
        later,
    })
}

fn compare(path: &str, one: Option<&Value>, two: Option<&Value>, found: &mut Vec<Difference>) {
    match (one, two) {
        (Some(Value::Object(one)), Some(Value::Object(two))) => {
            let new = two.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(new) {
                let plain = key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
                let path = if plain {
                    format!("{path}.{key}")
                } else {
                    format!("{path}[{key:?}]")
                };
                compare(&path, one.get(key), two.get(key), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(two))) => {
            for place in 0..one.len().max(two.len()) {
                compare(&format!("{path}[{place}]"), one.get(place), two.get(place), found);
            }
        }
        (one, two) if one != two => {
            found.push(Difference {
                path: path.to_owned(),
                expected: one.cloned(),
                got: two.cloned(),
            });
        }
        _ => {}
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  step {}: {}", self.step, self.text)?;
        for difference in self.differences.iter().take(TOLD) {
            writeln!(out, "    {}", difference.path)?;
            for (word, value) in [("expected", &difference.expected), ("got     ", &difference.got)] {
                match value {
                    Some(value) => writeln!(out, "      {word} {value}")?,
                    None => writeln!(out, "      {word} nothing")?,
                }
            }
        }
        if self.differences.len() > TOLD {
            writeln!(out, "    and {} more", self.differences.len() - TOLD)?;
        }
        if self.later > 0 {
            writeln!(out, "  {} later steps differ too", self.later)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_step_that_differs_is_told_with_its_paths() {
        let expected = vec![
            json!({"step": "GET a"}),
            json!({"step": "GET b", "body": {"x": [1, 2], "a/b": 1}}),
            json!({"n": 1}),
        ];
        let got = vec![
            json!({"step": "GET a"}),
            json!({"step": "GET b", "body": {"x": [1, 3, 4]}}),
        ];
        let failure = transcripts(&expected, &got, |_| false).unwrap();
        let paths: Vec<_> = failure
            .differences
            .iter()
            .map(|difference| difference.path.as_str())
            .collect();
        assert_eq!(paths, ["$.body[\"a/b\"]", "$.body.x[1]", "$.body.x[2]"]);
        assert_eq!((failure.step, failure.later), (2, 1));
        assert!(failure.to_string().contains("step 2: GET b"), "{failure}");
    }

    #[test]
    fn known_differences_do_not_count() {
        let (expected, got) = (vec![json!({"a": 1})], vec![json!({"a": 2})]);
        assert_eq!(
            transcripts(&expected, &got, |difference| difference.path == "$.a"),
            None
        );
    }
}
