//! Makes the tables of the built-in kinds out of the documents that Kubernetes publishes in its module's `api`
//! folder: what discovery says, and the structure of each definition of the OpenAPI documents without its prose.
//!
//! `generate-tables FOLDER [--check]`; with `--check` nothing is written and a difference is an error.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Definitions whose group-version-kinds name every group that the document's server has; they are made anew for
/// each document.
const OF_EVERY_GROUP: [&str; 2] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// A text or an error to show.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let mut folder = None;
    let mut check = false;
    for argument in std::env::args().skip(1) {
        if argument == "--check" {
            check = true;
        } else {
            folder = Some(PathBuf::from(argument));
        }
    }
    let Some(folder) = folder else {
        eprintln!(
            "usage: generate-tables FOLDER [--check], FOLDER being the api folder of k8s.io/kubernetes"
        );
        return ExitCode::from(2);
    };
    match run(&folder, check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, check: bool) -> Outcome<()> {
    if !folder.join("discovery").is_dir() {
        eprintln!("skipped: {} does not hold the documents", folder.display());
        return Ok(());
    }
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/builtin/tables");
    let versions = served(folder)?;
    settle(&tables.join("resources.jsonl"), &resources(&versions), check)?;
    settle(
        &tables.join("definitions.jsonl"),
        &definitions(folder, &versions)?,
        check,
    )
}

/// Writes `content`, or with `check` says whether the file has it.
fn settle(path: &Path, content: &str, check: bool) -> Outcome<()> {
    if !check {
        return fs::write(path, content)
            .map_err(|error| format!("failed to write {}: {error}", path.display()));
    }
    match fs::read_to_string(path) {
        Ok(there) if there == content => Ok(()),
        Ok(_) => Err(format!("{} differs from what is generated", path.display())),
        Err(error) => Err(format!("failed to read {}: {error}", path.display())),
    }
}

fn document(path: &Path) -> Outcome<Value> {
    let text = fs::read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("failed to parse {}: {error}", path.display()))
}

/// A group and version with its resources, as its own discovery document lists them.
struct Served {
    group: String,
    version: String,
    resources: Value,
}

/// What a server with default settings serves, in its order: the core group, then the groups as the aggregated
/// document has them, each with its versions that are neither alpha nor beta.
fn served(folder: &Path) -> Outcome<Vec<Served>> {
    let discovery = folder.join("discovery");
    let mut all = vec![Served {
        group: String::new(),
        version: "v1".to_owned(),
        resources: document(&discovery.join("api__v1.json"))?["resources"].take(),
    }];
    let groups = document(&discovery.join("aggregated_v2.json"))?;
    for group in groups["items"].as_array().into_iter().flatten() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().into_iter().flatten() {
            let version = version["version"].as_str().unwrap_or_default();
            if name.is_empty() || version.contains("alpha") || version.contains("beta") {
                continue;
            }
            all.push(Served {
                group: name.to_owned(),
                version: version.to_owned(),
                resources: document(&discovery.join(format!("apis__{name}__{version}.json")))?["resources"]
                    .take(),
            });
        }
    }
    Ok(all)
}

fn resources(versions: &[Served]) -> String {
    let mut text = String::new();
    for served in versions {
        let mut line = Map::new();
        line.insert("group".to_owned(), served.group.clone().into());
        line.insert("version".to_owned(), served.version.clone().into());
        line.insert("resources".to_owned(), served.resources.clone());
        let _ = writeln!(text, "{}", Value::Object(line));
    }
    text
}

/// One line for each definition: its name, a space, its structure.
fn definitions(folder: &Path, versions: &[Served]) -> Outcome<String> {
    let mut found = BTreeMap::new();
    let mut names = vec!["api".to_owned(), "apis".to_owned(), "version".to_owned()];
    for served in versions {
        if served.group.is_empty() {
            names.push(format!("api__{}", served.version));
        } else {
            names.push(format!("apis__{}", served.group));
            names.push(format!("apis__{}__{}", served.group, served.version));
        }
    }
    for name in names {
        let path = folder
            .join("openapi-spec/v3")
            .join(format!("{name}_openapi.json"));
        let mut document = document(&path)?;
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            for (name, mut schema) in schemas {
                strip(&mut schema);
                if OF_EVERY_GROUP.contains(&name.as_str())
                    && let Some(schema) = schema.as_object_mut()
                {
                    schema.remove("x-kubernetes-group-version-kind");
                }
                found.entry(name).or_insert(schema);
            }
        }
    }
    let mut text = String::new();
    for (name, schema) in found {
        let _ = writeln!(text, "{name} {schema}");
    }
    Ok(text)
}

/// Removes descriptions. A property that is named `description` is not one: its value is a schema.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !(key == "description" && value.is_string()));
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
