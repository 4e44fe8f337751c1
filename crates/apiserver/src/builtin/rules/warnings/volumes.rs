//! Warnings about the volumes of a pod.

use super::super::check::{items, text};
use super::of_claim_spec;
use crate::field::Path;
use crate::schema::gotext::quote;
use serde_json::Value;

/// Kinds of volumes that are on their way out.
const OUTDATED: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A volume of an outdated kind, unless nothing is said of that.
pub(super) fn outdated(volume: &Value, path: &Path, unsaid: &[&str], said: &mut Vec<String>) {
    let given = OUTDATED.iter().filter(|(kind, _)| !volume[*kind].is_null());
    for (kind, why) in given.filter(|(kind, _)| !unsaid.contains(kind)) {
        // The warning spells one of them in another way than the field.
        let name = if *kind == "storageos" { "storageOS" } else { kind };
        said.push(format!("{}: {why}", path.child(name)));
    }
}

pub(super) fn warn(volumes: &Value, path: &Path, said: &mut Vec<String>) {
    for (index, volume) in items(volumes).iter().enumerate() {
        let at = path.index(index);
        outdated(volume, &at, &[], said);
        let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        let at = at.child("ephemeral").child("volumeClaimTemplate").child("spec");
        said.extend(of_claim_spec(&at, claim));
    }
    for volume in items(volumes) {
        overlaps(volume, said);
    }
}

/// A path of a file in a volume, and what puts it there.
#[derive(PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: impl Into<String>) -> Self {
        Self {
            path: path.trim_end_matches('/').to_owned(),
            source: source.into(),
        }
    }

    fn shown(&self) -> String {
        let path = quote(&self.path);
        if self.source.is_empty() {
            path
        } else {
            format!("{path} ({})", self.source)
        }
    }

    /// Whether one is the other, or a folder that it lies in.
    fn collides(&self, other: &Self) -> bool {
        let (one, two) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (one.starts_with(&two) || two.starts_with(&one))
    }
}

fn files(source: &Value, named: &str) -> Vec<File> {
    items(&source["items"])
        .iter()
        .map(|item| File::new(text(item, "path"), named))
        .collect()
}

/// Files of a volume that hide each other.
fn overlaps(volume: &Value, said: &mut Vec<String>) {
    let name = quote(text(volume, "name"));
    for (kind, what, field) in [
        ("configMap", "ConfigMap ", "name"),
        ("secret", "Secret ", "secretName"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let source = &volume[kind];
        let what = if field.is_empty() {
            what.to_owned()
        } else {
            format!("{what}{}", quote(text(source, field)))
        };
        collisions(&name, &what, files(source, ""), &mut Vec::new(), said);
    }
    let mut all = Vec::new();
    for source in items(&volume["projected"]["sources"]) {
        if source
            .as_object()
            .is_some_and(|source| source.values().all(Value::is_null))
        {
            said.push(format!("volume {name} (Projected) has no sources provided"));
            continue;
        }
        collisions(&name, "Projected", projected(source), &mut all, said);
    }
}

fn collisions(name: &str, what: &str, files: Vec<File>, before: &mut Vec<File>, said: &mut Vec<String>) {
    for file in files {
        for other in before.iter().filter(|other| file.collides(other)) {
            said.push(format!(
                "volume {name} ({what}): overlapping paths: {} with {}",
                file.shown(),
                other.shown()
            ));
        }
        before.push(file);
    }
}

/// The files of one source of a projection.
fn projected(source: &Value) -> Vec<File> {
    let named = |what: &str, source: &Value| format!("{what} {}", quote(text(source, "name")));
    for (kind, what) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if source[kind]["items"].is_array() {
            return files(&source[kind], &named(what, &source[kind]));
        }
    }
    if source["downwardAPI"]["items"].is_array() {
        return files(&source["downwardAPI"], "DownwardAPI");
    }
    let token = &source["serviceAccountToken"];
    if !token.is_null() {
        return vec![File::new(text(token, "path"), "ServiceAccountToken")];
    }
    let bundle = &source["clusterTrustBundle"];
    if !bundle.is_null() {
        let name = bundle["name"].as_str().unwrap_or(text(bundle, "signerName"));
        let named = format!("ClusterTrustBundle {}", quote(name));
        return vec![File::new(text(bundle, "path"), named)];
    }
    let certificate = &source["podCertificate"];
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .filter(|(field, _)| !text(certificate, field).is_empty())
    .map(|(field, what)| File::new(text(certificate, field), what))
    .collect()
}
