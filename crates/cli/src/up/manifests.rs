//! The objects to apply: read from files, put in order of kind, rehearsed as a whole, then applied.

use anyhow::{Context, Result, anyhow, bail};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiCapabilities, ApiResource, Scope};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Who owns the fields that we apply.
const FIELD_MANAGER: &str = "clusterwright-up";

/// The largest file that is read, in bytes: far more than a server takes in one object, far less than memory.
const MAX_FILE: u64 = 64 << 20;

/// Kinds that others need, first to last; kinds that are not named come after them, in the order of the file.
const ORDER: &[&str] = &[
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
    "PodDisruptionBudget",
    "DaemonSet",
    "Pod",
    "ReplicaSet",
    "Deployment",
    "StatefulSet",
    "Job",
    "CronJob",
];

/// One object and where it was written.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// As `cluster.yaml, document 2`.
    source: String,
    pub object: Value,
}

impl Manifest {
    /// An object that comes from `source`.
    pub fn new(source: &str, object: Value) -> Self {
        Self {
            source: source.to_owned(),
            object,
        }
    }

    fn text(&self, pointer: &str) -> &str {
        self.object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// The namespace that it is applied to, whether or not its kind lives in one.
    pub fn namespace(&self) -> &str {
        match self.text("/metadata/namespace") {
            "" => "default",
            namespace => namespace,
        }
    }

    pub fn gvk(&self) -> GroupVersionKind {
        let (group, version) = self
            .text("/apiVersion")
            .rsplit_once('/')
            .unwrap_or(("", self.text("/apiVersion")));
        GroupVersionKind::gvk(group, version, self.kind())
    }

    /// Where the kind stands among those that others need.
    fn rank(&self) -> usize {
        ORDER
            .iter()
            .position(|kind| *kind == self.kind())
            .unwrap_or(ORDER.len())
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.source, self.kind(), self.name())
    }
}

/// Reads files (`-` is standard input) and puts their objects in order of kind. Every fault of every file is told at
/// once.
pub fn read(files: &[impl AsRef<Path>]) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut faults = Vec::new();
    for file in files {
        let file = file.as_ref();
        let (name, text) = if file == Path::new("-") {
            ("standard input".to_owned(), text(std::io::stdin().lock()))
        } else {
            let opened = std::fs::File::open(file).map_err(anyhow::Error::from);
            (file.display().to_string(), opened.and_then(text))
        };
        match text.with_context(|| format!("{name}: failed to read")) {
            Ok(text) => parse(&name, &text, &mut manifests, &mut faults),
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    finish(manifests, &faults)
}

/// Takes the objects out of a text that is called `name`.
pub fn read_text(name: &str, text: &str) -> Result<Vec<Manifest>> {
    let (mut manifests, mut faults) = (Vec::new(), Vec::new());
    parse(name, text, &mut manifests, &mut faults);
    finish(manifests, &faults)
}

fn text(source: impl Read) -> Result<String> {
    let mut text = String::new();
    source.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        bail!("it is larger than {} MiB", MAX_FILE >> 20);
    }
    Ok(text)
}

fn finish(mut manifests: Vec<Manifest>, faults: &[String]) -> Result<Vec<Manifest>> {
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    if manifests.is_empty() {
        bail!("there is no object in what was given");
    }
    manifests.sort_by_key(Manifest::rank);
    Ok(manifests)
}

fn parse(name: &str, text: &str, manifests: &mut Vec<Manifest>, faults: &mut Vec<String>) {
    let documents: Vec<Value> = match serde_saphyr::from_multiple(text) {
        Ok(documents) => documents,
        Err(error) => return faults.push(format!("{name}: failed to parse as YAML: {error}")),
    };
    for (index, document) in documents.into_iter().enumerate() {
        let source = format!("{name}, document {}", index + 1);
        if document.is_null() {
            continue;
        }
        let items = if document["kind"] == "List" {
            document["items"].as_array().cloned()
        } else {
            None
        };
        for object in items.unwrap_or_else(|| vec![document]) {
            match shape(&object) {
                Ok(()) => manifests.push(Manifest {
                    source: source.clone(),
                    object,
                }),
                Err(fault) => faults.push(format!("{source}: {fault}")),
            }
        }
    }
}

/// What every object must have, and the one form of another time that many still write.
fn shape(object: &Value) -> Result<()> {
    if !object.is_object() {
        bail!(
            "an object is expected, with apiVersion, kind and metadata; this is {}",
            sort_of(object)
        );
    }
    for (pointer, field) in [
        ("/apiVersion", "apiVersion"),
        ("/kind", "kind"),
        ("/metadata/name", "metadata.name"),
    ] {
        match object.pointer(pointer) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(other) if !other.is_null() => bail!("{field} must be a text, not {}", sort_of(other)),
            _ => bail!("{field} is missing"),
        }
    }
    if object["kind"] == "Cluster" && object["apiVersion"] == "cluster.x-k8s.io/v1beta1" {
        bail!("{}", newer_cluster(object)?);
    }
    Ok(())
}

fn sort_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// The v1beta2 form of a v1beta1 Cluster: references name the API group instead of a version, and no namespace, and the
/// class of a topology is a reference.
fn newer_cluster(old: &Value) -> Result<String> {
    let mut new = old.clone();
    new["apiVersion"] = Value::from("cluster.x-k8s.io/v1beta2");
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
        for reference in ["controlPlaneRef", "infrastructureRef"] {
            let Some(Value::Object(fields)) = spec.get_mut(reference) else {
                continue;
            };
            if let Some(Value::String(version)) = fields.remove("apiVersion") {
                let group = version.rsplit_once('/').map_or("", |(group, _)| group);
                fields.insert("apiGroup".to_owned(), Value::from(group));
            }
            fields.retain(|field, _| ["apiGroup", "kind", "name"].contains(&field.as_str()));
        }
        if let Some(Value::Object(topology)) = spec.get_mut("topology")
            && let Some(class) = topology.remove("class")
        {
            let mut reference = Map::from_iter([("name".to_owned(), class)]);
            reference.extend(
                topology
                    .remove("classNamespace")
                    .map(|it| ("namespace".to_owned(), it)),
            );
            topology.insert("classRef".to_owned(), reference.into());
        }
    }
    let form = serde_saphyr::to_string(&new).context("failed to print the v1beta2 form")?;
    Ok(format!(
        "cluster.x-k8s.io/v1beta1 is not served; write this Cluster as v1beta2, where references have apiGroup, kind \
         and name, and a topology has a classRef:\n\n{}\n",
        indent(form.trim_end())
    ))
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Applies objects to one server. It remembers which kinds the server has.
pub struct Applier {
    client: Client,
    kinds: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
}

impl Applier {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kinds: HashMap::new(),
        }
    }

    /// Applies all of them, and tells every fault. On a server that is thrown away this is the rehearsal.
    pub async fn apply_all(&mut self, manifests: &[Manifest]) -> Result<()> {
        let mut faults = Vec::new();
        for manifest in manifests {
            if let Err(error) = self.apply(manifest).await {
                faults.push(format!("{manifest}: {error:#}"));
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(anyhow!("{}", faults.join("\n")))
        }
    }

    async fn apply(&mut self, manifest: &Manifest) -> Result<()> {
        let (resource, capabilities) = self.resource(&manifest.gvk()).await?;
        let mut object = manifest.object.clone();
        let api: Api<DynamicObject> = if capabilities.scope == Scope::Namespaced {
            let namespace = manifest.text("/metadata/namespace");
            let namespace = if namespace.is_empty() {
                "default"
            } else {
                namespace
            }
            .to_owned();
            object["metadata"]["namespace"] = Value::from(namespace.as_str());
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        match api.patch(manifest.name(), &params, &Patch::Apply(&object)).await {
            Ok(_) => Ok(()),
            // The server's own words; the rest of the error says only that it is one.
            Err(kube::Error::Api(status)) => bail!("{}", status.message),
            Err(error) => Err(error.into()),
        }
    }

    async fn resource(&mut self, gvk: &GroupVersionKind) -> Result<(ApiResource, ApiCapabilities)> {
        if let Some(known) = self.kinds.get(gvk) {
            return Ok(known.clone());
        }
        let found = match discovery::pinned_kind(&self.client, gvk).await {
            Ok(found) => found,
            Err(error) => return Err(self.unknown(gvk, error).await),
        };
        self.kinds.insert(gvk.clone(), found.clone());
        Ok(found)
    }

    /// Says which versions of the kind there are instead.
    async fn unknown(&self, gvk: &GroupVersionKind, error: kube::Error) -> anyhow::Error {
        let mut served = Vec::new();
        if let Ok(group) = discovery::group(&self.client, &gvk.group).await {
            for version in group.versions() {
                if group
                    .versioned_resources(version)
                    .iter()
                    .any(|(resource, _)| resource.kind == gvk.kind)
                {
                    served.push(version.to_owned());
                }
            }
        }
        match served.as_slice() {
            [] if matches!(&error, kube::Error::Api(_) | kube::Error::Discovery(_)) => {
                anyhow!("the server has no kind {} in {}", gvk.kind, gvk.api_version())
            }
            [] => error.into(),
            _ => anyhow!(
                "the server has no kind {} in {}; it has it in {}",
                gvk.kind,
                gvk.api_version(),
                served
                    .iter()
                    .map(|version| format!("{}/{version}", gvk.group))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";

    #[test]
    fn orders_by_kind_and_skips_empty_documents() {
        let read = read_text("x.yaml", &format!("---\n{TWO}---\n# nothing\n")).unwrap();
        let names: Vec<&str> = read.iter().map(Manifest::name).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn flattens_lists() {
        let list =
            "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n";
        assert_eq!(read_text("l.yaml", list).unwrap()[0].name(), "s");
    }

    #[test]
    fn tells_every_fault_with_its_place() {
        let error = read_text(
            "bad.yaml",
            "kind: Pod\n---\n- 1\n---\napiVersion: v1\nkind: 7\nmetadata: {}\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad.yaml, document 1: apiVersion is missing\n\
             bad.yaml, document 2: an object is expected, with apiVersion, kind and metadata; this is a list\n\
             bad.yaml, document 3: kind must be a text, not a number"
        );
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let error = read_text("no.yaml", "a: [1,\nb: }").unwrap_err().to_string();
        assert!(error.starts_with("no.yaml: failed to parse as YAML: "), "{error}");
        let twice = read_text("twice.yaml", "kind: Pod\nkind: Pod\n")
            .unwrap_err()
            .to_string();
        assert!(twice.contains("duplicate"), "{twice}");
    }

    #[test]
    fn nothing_is_an_error() {
        assert!(read_text("empty.yaml", "# only words\n").is_err());
        assert!(
            read(&["/nonexistent/file.yaml"])
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/file.yaml: failed to read")
        );
    }

    #[test]
    fn an_old_cluster_is_shown_in_its_new_form() {
        let old = "apiVersion: cluster.x-k8s.io/v1beta1\nkind: Cluster\nmetadata: {name: c}\nspec:\n  controlPlaneRef:\n    \
                   apiVersion: controlplane.cluster.x-k8s.io/v1alpha1\n    kind: HostedControlPlane\n    name: h\n    namespace: x\n";
        let error = read_text("old.yaml", old).unwrap_err().to_string();
        for part in [
            "apiVersion: cluster.x-k8s.io/v1beta2",
            "apiGroup: controlplane.cluster.x-k8s.io",
            "name: h",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("namespace: x"), "{error}");

        let old = "apiVersion: cluster.x-k8s.io/v1beta1\nkind: Cluster\nmetadata: {name: c}\nspec:\n  topology: {class: \
                   small, classNamespace: shared, version: v1.33.0}\n";
        let error = read_text("old.yaml", old).unwrap_err().to_string();
        let new = error.split_once("\n\n").unwrap().1;
        let new: Value = serde_saphyr::from_str(new).unwrap();
        let topology =
            serde_json::json!({"classRef": {"name": "small", "namespace": "shared"}, "version": "v1.33.0"});
        assert_eq!(new["spec"]["topology"], topology);
    }
}
