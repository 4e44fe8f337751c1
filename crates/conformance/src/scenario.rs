//! What a scenario is and how it is written down.
//!
//! A file of `scenarios/` is one area. Each step is a mapping with one key in capitals, the request, whose value is
//! the body; the other keys say more about it:
//!
//! ```yaml
//! rows: [patches]                  # the behaviours that this file's scenarios show
//! scenarios:
//! - name: merge-patch-removes-null
//!   steps:
//!   - POST configmaps: {metadata: {name: a}, data: {x: "1", y: "2"}}
//!     save: {rv: /metadata/resourceVersion}
//!   - MERGE configmaps/a: {metadata: {resourceVersion: $(rv)}, data: {x: null}}
//!   - WATCH configmaps?resourceVersion=$(rv):
//!     events: 1
//! ```
//!
//! Verbs are `GET`, `POST`, `PUT`, `DELETE`; `JSON`, `MERGE`, `STRATEGIC`, `APPLY` (the patches); `WATCH` (reads
//! until the server closes the stream, or as many `events`; `open: w` leaves it open and `READ w` reads on); and
//! `KUBECTL` (arguments; the value is standard input). Paths are those of [`resource`](crate::resource). A step acts as
//! the administrator, unless it says `as:` or has a `token:`; `claims:` shows what a token in the answer says.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fs, path::Path};

/// One area: a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    #[serde(default)]
    rows: Vec<String>,
    #[serde(default)]
    controllers: bool,
    #[serde(default)]
    managed: bool,
    /// Bodies by a name, for `$(name)` in this file.
    #[serde(default)]
    bodies: BTreeMap<String, Value>,
    scenarios: Vec<Scenario>,
}

/// A named list of steps with a namespace of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The area, which is the file's name.
    #[serde(skip)]
    pub area: String,
    /// Its name in the area.
    pub name: String,
    /// The behaviours that it shows, in addition to those of its area.
    #[serde(default)]
    pub rows: Vec<String>,
    /// Whether controllers run beside the server.
    #[serde(default)]
    pub controllers: bool,
    /// Whether transcripts keep `managedFields`.
    #[serde(default)]
    pub managed: bool,
    /// A custom resource `widgets` to set up first: fields of the CRD's spec and of its only version.
    #[serde(default)]
    pub widgets: Option<Value>,
    /// The versions of kubectl that it is run with.
    #[serde(skip)]
    pub kubectl: Option<String>,
    /// Named bodies.
    #[serde(skip)]
    pub bodies: BTreeMap<String, Value>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One request, watch or call.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Step {
    /// `POST configmaps`
    pub text: String,
    /// The verb.
    pub verb: Verb,
    /// What follows the verb.
    pub what: String,
    /// The body; a text is sent as it is.
    pub body: Value,
    /// The rest.
    pub options: Options,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A plain request with this method and content type.
    Request(&'static str, &'static str),
    /// Opens a watch.
    Watch,
    /// Reads on from an open watch.
    Read,
    /// Calls kubectl.
    Kubectl,
}

/// The keys of a step other than the request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Variables to set from the answer: name → JSON path.
    pub save: BTreeMap<String, String>,
    /// Content-Type instead of the verb's.
    #[serde(rename = "type")]
    pub content_type: Option<String>,
    /// Accept instead of `application/json`.
    pub accept: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// Fields to change in the body (RFC 7386), when the body is an earlier answer.
    pub with: Value,
    /// The body's API version and kind are not filled in.
    pub bare: bool,
    /// Another bearer token than the administrator's; empty for none.
    pub token: Option<String>,
    /// A user to impersonate.
    #[serde(rename = "as")]
    pub user: Option<String>,
    /// Asks again until the answer is so.
    pub until: Option<Until>,
    /// Keeps only these parts of the answer's body: label → JSON path.
    pub pick: Option<BTreeMap<String, String>>,
    /// Shows what the token at this JSON path says in the place of the token.
    pub claims: Option<String>,
    /// Drops fields of these names from the answer, at any depth.
    pub omit: Vec<String>,
    /// How many events to read before the client closes the stream.
    pub events: Option<usize>,
    /// Leaves the watch open under this name.
    pub open: Option<String>,
    /// A `sed` script that stands in for the user's editor.
    pub editor: Option<String>,
}

/// What a step waits for.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Until {
    /// This HTTP status.
    Status(u16),
    /// These values at these JSON paths.
    Values(BTreeMap<String, Value>),
}

impl TryFrom<Map<String, Value>> for Step {
    type Error = anyhow::Error;

    fn try_from(mut map: Map<String, Value>) -> anyhow::Result<Self> {
        let capital = |key: &&String| key.starts_with(|first: char| first.is_ascii_uppercase());
        let keys: Vec<_> = map.keys().filter(capital).cloned().collect();
        let [text] = keys.as_slice() else {
            bail!("a step wants exactly one key with a verb in capitals, not {keys:?}");
        };
        let body = map.remove(text).unwrap_or_default();
        let (verb, what) = text.split_once(' ').unwrap_or((text, ""));
        let verb = match verb {
            "GET" => Verb::Request("GET", ""),
            "POST" => Verb::Request("POST", "application/json"),
            "PUT" => Verb::Request("PUT", "application/json"),
            "DELETE" => Verb::Request("DELETE", "application/json"),
            "OPTIONS" => Verb::Request("OPTIONS", ""),
            "JSON" => Verb::Request("PATCH", "application/json-patch+json"),
            "MERGE" => Verb::Request("PATCH", "application/merge-patch+json"),
            "STRATEGIC" => Verb::Request("PATCH", "application/strategic-merge-patch+json"),
            "APPLY" => Verb::Request("PATCH", "application/apply-patch+yaml"),
            "PATCH" => Verb::Request("PATCH", ""),
            "WATCH" => Verb::Watch,
            "READ" => Verb::Read,
            "KUBECTL" => Verb::Kubectl,
            verb => bail!("{verb} is not a verb of scenarios"),
        };
        let what = what.to_owned();
        let options = serde_json::from_value(Value::Object(map)).with_context(|| format!("step {text}"))?;
        Ok(Self {
            text: text.clone(),
            verb,
            what,
            body,
            options,
        })
    }
}

/// The versions of kubectl that drive a server.
pub const KUBECTL_VERSIONS: [&str; 2] = ["1.36.3", "1.32.3"];

impl Scenario {
    /// `area/name`, and the version of kubectl where one drives it.
    pub fn id(&self) -> String {
        let version = self
            .kubectl
            .as_ref()
            .map(|version| format!("@{version}"))
            .unwrap_or_default();
        format!("{}/{}{version}", self.area, self.name)
    }

    /// Its namespace.
    pub fn namespace(&self) -> String {
        let version = self
            .kubectl
            .as_ref()
            .map(|v| format!("-{}", v.replace('.', "-")))
            .unwrap_or_default();
        format!("{}-{}{version}", self.area, self.name)
    }

    /// Whether it shows enough to count: three requests, or a watch.
    pub fn is_whole(&self) -> bool {
        self.steps.len() >= 3 || self.steps.iter().any(|step| step.verb == Verb::Watch)
    }

    /// All paths and bodies as they are written, without what earlier answers put in.
    pub fn written(&self) -> String {
        let steps = self
            .steps
            .iter()
            .map(|step| format!("{} {} {}\n", step.what, step.body, step.options.with));
        let bodies = self.bodies.values().map(Value::to_string);
        steps.chain(bodies).collect()
    }

    fn with_kubectl(self) -> Vec<Self> {
        if !self.steps.iter().any(|step| step.verb == Verb::Kubectl) {
            return vec![self];
        }
        KUBECTL_VERSIONS
            .map(|version| Self {
                kubectl: Some(version.to_owned()),
                ..self.clone()
            })
            .into()
    }
}

/// Reads all scenarios of a folder, in the order of areas and as they stand in each.
///
/// # Errors
/// When a file cannot be read or is not a scenario file, or two scenarios have one name.
pub fn load(folder: &Path) -> anyhow::Result<Vec<Scenario>> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        all.extend(parse(&name, &text).with_context(|| format!("failed to read {}", file.display()))?);
    }
    let mut ids: Vec<_> = all.iter().map(Scenario::id).collect();
    ids.sort();
    for pair in ids.windows(2) {
        ensure!(pair[0] != pair[1], "two scenarios are called {}", pair[0]);
    }
    Ok(all)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Vec<Scenario>> {
    let strict = serde_saphyr::options! { strict_booleans: true };
    let area: Area = serde_saphyr::from_str_with_options(text, strict)?;
    let scenarios = area.scenarios.into_iter().flat_map(|scenario| {
        let rows = area.rows.iter().chain(&scenario.rows).cloned().collect();
        let whole = Scenario {
            area: name.to_owned(),
            rows,
            controllers: scenario.controllers || area.controllers,
            managed: scenario.managed || area.managed,
            bodies: area.bodies.clone(),
            ..scenario
        };
        whole.with_kubectl()
    });
    Ok(scenarios.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_its_verb_its_body_and_its_options() {
        let text = "rows: [crud]\nscenarios:\n- name: a\n  steps:\n  - POST configmaps: {x: 1}\n    save: {rv: /m}\n  - GET configmaps/a:\n    until: 200\n";
        let scenarios = parse("area", text).unwrap();
        let [scenario] = scenarios.as_slice() else {
            panic!("{scenarios:?}")
        };
        assert_eq!((scenario.id().as_str(), scenario.rows.len()), ("area/a", 1));
        let post = &scenario.steps[0];
        assert_eq!(
            (post.verb, post.what.as_str()),
            (Verb::Request("POST", "application/json"), "configmaps")
        );
        assert_eq!(post.options.save["rv"], "/m");
        assert!(matches!(
            scenario.steps[1].options.until,
            Some(Until::Status(200))
        ));
    }

    #[test]
    fn mistakes_are_named() {
        for (step, wanted) in [
            ("{FETCH x: }", "FETCH is not a verb"),
            ("{GET x: , safe: {}}", "safe"),
            ("{GET x: , PUT y: }", "exactly one key"),
        ] {
            let text = format!("scenarios:\n- name: a\n  steps: [{step}]\n");
            let error = format!("{:#}", parse("area", &text).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn kubectl_scenarios_run_with_each_version() {
        let text = "scenarios:\n- name: a\n  steps:\n  - KUBECTL get pods:\n";
        let ids: Vec<_> = parse("area", text).unwrap().iter().map(Scenario::id).collect();
        assert_eq!(ids, ["area/a@1.36.3", "area/a@1.32.3"]);
    }
}
