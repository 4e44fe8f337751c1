//! Volumes of pods.

use super::check::{complaints, config_key, items, label, text};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names;
use serde_json::Value;

/// Judges volumes and says the names that containers may mount.
pub(super) fn validate<'a>(volumes: &'a Value, path: &Path, errors: &mut FieldErrors) -> Vec<&'a str> {
    let mut known: Vec<&str> = Vec::new();
    for (index, volume) in items(volumes).iter().enumerate() {
        let at = path.index(index);
        let name = text(volume, "name");
        let mut wrong = FieldErrors::new();
        validate_source(volume, &at, &mut wrong);
        if name.is_empty() {
            wrong.push(FieldError::required(&at.child("name"), ""));
        } else {
            let before = wrong.len();
            label(&at.child("name"), name, &mut wrong);
            if wrong.len() == before && known.contains(&name) {
                wrong.push(FieldError::duplicate(&at.child("name"), &Value::from(name)));
            }
        }
        if wrong.is_empty() {
            known.push(name);
        }
        errors.append(&mut wrong);
    }
    known
}

/// The order in which kinds of volumes are looked at; the first is taken, the others are one too many.
const KINDS: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flexVolume",
    "configMap",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "azureFile",
    "vsphereVolume",
    "persistentVolumeClaim",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "scaleIO",
    "projected",
    "csi",
    "ephemeral",
    "image",
    "flocker",
    "photonPersistentDisk",
    "storageOS",
];

fn validate_source(volume: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut kinds = KINDS.iter().filter(|kind| !volume[**kind].is_null());
    let Some(kind) = kinds.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    let at = path.child(kind);
    let source = &volume[*kind];
    match *kind {
        "hostPath" => host_path(source, &at, errors),
        "secret" => {
            required(source, &at, "secretName", errors);
            mode(&source["defaultMode"], &at.child("defaultMode"), errors);
            keys(source, &at, errors);
        }
        "configMap" => {
            required(source, &at, "name", errors);
            mode(&source["defaultMode"], &at.child("defaultMode"), errors);
            keys(source, &at, errors);
        }
        "persistentVolumeClaim" => required(source, &at, "claimName", errors),
        "nfs" => nfs(source, &at, errors),
        "csi" => driver(source, &at, errors),
        "projected" => {
            mode(&source["defaultMode"], &at.child("defaultMode"), errors);
            for (index, part) in items(&source["sources"]).iter().enumerate() {
                let at = at.child("sources").index(index);
                for (kind, name) in [
                    ("secret", "name"),
                    ("configMap", "name"),
                    ("serviceAccountToken", "path"),
                ] {
                    if !part[kind].is_null() {
                        required(&part[kind], &at.child(kind), name, errors);
                        keys(&part[kind], &at.child(kind), errors);
                    }
                }
            }
        }
        _ => {}
    }
    for other in kinds {
        errors.push(FieldError::forbidden(
            &path.child(other),
            "may not specify more than 1 volume type",
        ));
    }
}

/// A folder of another machine.
pub(super) fn nfs(source: &Value, path: &Path, errors: &mut FieldErrors) {
    required(source, path, "server", errors);
    required(source, path, "path", errors);
    let given = text(source, "path");
    if !given.starts_with('/') {
        let why = "must be an absolute path";
        errors.push(FieldError::invalid(&path.child("path"), &Value::from(given), why));
    }
}

/// The name of a driver.
pub(super) fn driver(source: &Value, path: &Path, errors: &mut FieldErrors) {
    let (name, at) = (text(source, "driver"), path.child("driver"));
    required(source, path, "driver", errors);
    if name.len() > 63 {
        errors.push(FieldError::too_long(&at, 63));
    }
    if !name.is_empty() {
        let wrong = names::subdomain(&name.to_lowercase());
        complaints(&at, &source["driver"], wrong, errors);
    }
}

pub(super) fn required(source: &Value, path: &Path, name: &str, errors: &mut FieldErrors) {
    if text(source, name).is_empty() {
        errors.push(FieldError::required(&path.child(name), ""));
    }
}

fn mode(value: &Value, path: &Path, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, value, why));
    }
}

pub(super) fn host_path(source: &Value, path: &Path, errors: &mut FieldErrors) {
    let given = text(source, "path");
    if given.is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
        return;
    }
    no_parents(given, &path.child("path"), errors);
    let known = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if !known.contains(&text(source, "type")) {
        errors.push(FieldError::not_supported(
            &path.child("type"),
            &source["type"],
            &known,
        ));
    }
}

pub(super) fn no_parents(given: &str, path: &Path, errors: &mut FieldErrors) {
    if given.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(
            path,
            &Value::from(given),
            "must not contain '..'",
        ));
    }
}

/// A path inside of a volume.
pub(super) fn inner_path(given: &str, path: &Path, errors: &mut FieldErrors) {
    if given.starts_with('/') {
        errors.push(FieldError::invalid(
            path,
            &Value::from(given),
            "must be a relative path",
        ));
    }
    no_parents(given, path, errors);
}

fn keys(source: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, item) in items(&source["items"]).iter().enumerate() {
        let at = path.child("items").index(index);
        let key = text(item, "key");
        if key.is_empty() {
            errors.push(FieldError::required(&at.child("key"), ""));
        } else {
            config_key(&at.child("key"), key, errors);
        }
        let target = text(item, "path");
        if target.is_empty() {
            errors.push(FieldError::required(&at.child("path"), ""));
        } else {
            inner_path(target, &at.child("path"), errors);
        }
        mode(&item["mode"], &at.child("mode"), errors);
    }
}
