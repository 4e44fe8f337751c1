//! Persistent volumes.

use super::Rules;
use super::check::{immutable, items, label, not_supported, quantity, subdomain, text};
use super::claims::{self, CLASS, protect};
use super::pods::now;
use super::scheduling::validate_node_selector;
use super::{volumes, warnings};
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use crate::status::ApiResult;
use serde_json::{Map, Value, json};

/// The fields that are sources of volumes, in the order in which they are looked at.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
/// Those that take mount options from an annotation.
const MOUNTED_WITH_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

pub(super) struct Volumes;

fn validate(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let modes = path.child("accessModes");
    if items(&spec["accessModes"]).is_empty() {
        errors.push(FieldError::required(&modes, ""));
    }
    claims::validate_modes(&spec["accessModes"], &modes, &mut errors);
    validate_capacity(&spec["capacity"], &path.child("capacity"), &mut errors);
    let policy = path.child("persistentVolumeReclaimPolicy");
    if !text(spec, "persistentVolumeReclaimPolicy").is_empty() {
        let known = ["Delete", "Recycle", "Retain"];
        not_supported(
            &policy,
            &spec["persistentVolumeReclaimPolicy"],
            &known,
            &mut errors,
        );
    }
    let affinity = &spec["nodeAffinity"];
    if !affinity.is_null() {
        let at = path.child("nodeAffinity").child("required");
        if affinity["required"].is_null() {
            errors.push(FieldError::required(
                &at,
                "must specify required node constraints",
            ));
        } else {
            validate_node_selector(&affinity["required"], &at, &mut errors);
        }
    }
    validate_source(spec, &path, &mut errors);
    if text(&spec["hostPath"], "path").trim_matches('/').is_empty()
        && text(&spec["hostPath"], "path").starts_with('/')
        && spec["persistentVolumeReclaimPolicy"] == "Recycle"
    {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&policy, why));
    }
    claims::validate_kind(spec, &path, &mut errors);
    if let Some(class) = spec["volumeAttributesClassName"].as_str() {
        let at = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&at, "an empty string is disallowed"));
        } else {
            subdomain(&at, class, &mut errors);
        }
        if spec["csi"].is_null() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), why));
        }
    }
    let takes_options = MOUNTED_WITH_OPTIONS.iter().any(|kind| !spec[*kind].is_null());
    if !takes_options && !object["metadata"]["annotations"][MOUNT_OPTIONS].is_null() {
        let at = Path::new("metadata").child("annotations").child(MOUNT_OPTIONS);
        let why = "may not specify mount options for this volume type";
        errors.push(FieldError::forbidden(&at, why));
    }
    errors
}

/// A volume has a size and nothing else.
fn validate_capacity(capacity: &Value, path: &Path, errors: &mut FieldErrors) {
    let sizes = capacity.as_object().cloned().unwrap_or_default();
    if sizes.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if sizes.len() > 1 || !sizes.contains_key("storage") {
        errors.push(FieldError::not_supported(path, &json!(sizes), &["storage"]));
    }
    for (name, size) in &sizes {
        if let Some(amount) = quantity(size).filter(|amount| amount.nanos <= 0) {
            let at = path.key(name);
            if amount.nanos < 0 {
                let whole = json!(amount.nanos / 1_000_000_000);
                errors.push(FieldError::invalid(
                    &at,
                    &whole,
                    "must be a valid resource quantity",
                ));
            }
            errors.push(FieldError::invalid(&at, size, "must be greater than zero"));
        }
    }
}

fn validate_source(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut kinds = SOURCES.iter().filter(|kind| !spec[**kind].is_null());
    let Some(kind) = kinds.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    let (source, at) = (&spec[*kind], path.child(kind));
    match *kind {
        "hostPath" => volumes::host_path(source, &at, errors),
        "nfs" => volumes::nfs(source, &at, errors),
        "csi" => {
            volumes::driver(source, &at, errors);
            volumes::required(source, &at, "volumeHandle", errors);
            for secret in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                if !source[secret].is_null() {
                    validate_secret(&source[secret], &at.child(secret), errors);
                }
            }
        }
        "local" => {
            let given = text(source, "path");
            volumes::required(source, &at, "path", errors);
            volumes::no_parents(given, &at.child("path"), errors);
            if spec["nodeAffinity"].is_null() {
                let why = "Local volume requires node affinity";
                errors.push(FieldError::required(&path.child("nodeAffinity"), why));
            }
        }
        _ => {}
    }
    for other in kinds.filter(|kind| **kind != "flexVolume") {
        // The real server spells one of them in another way than the field.
        let name = if *other == "cephfs" { "cephFS" } else { other };
        let why = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(&path.child(name), why));
    }
}

fn validate_secret(secret: &Value, path: &Path, errors: &mut FieldErrors) {
    let (name, namespace) = (text(secret, "name"), text(secret, "namespace"));
    volumes::required(secret, path, "name", errors);
    if !name.is_empty() {
        subdomain(&path.child("name"), name, errors);
    }
    volumes::required(secret, path, "namespace", errors);
    if !namespace.is_empty() {
        label(&path.child("namespace"), namespace, errors);
    }
}

/// Where a volume's bytes are. A secret for growing it may still come.
fn source(object: &Value, old: &Value) -> Map<String, Value> {
    const GROWS: &str = "controllerExpandSecretRef";
    let mut source = object["spec"].as_object().cloned().unwrap_or_default();
    source.retain(|name, _| SOURCES.contains(&name.as_str()));
    if old["spec"]["csi"][GROWS].is_null()
        && let Some(csi) = source.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove(GROWS);
    }
    source
}

impl Rules for Volumes {
    fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        sub: &str,
        _: &dyn Surroundings,
    ) -> ApiResult<()> {
        if old.is_none() && sub.is_empty() {
            protect(object, "kubernetes.io/pv-protection");
        }
        Ok(())
    }

    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        object["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now(around)});
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate(object)
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, sub: &str, around: &dyn Surroundings) {
        const TIME: &str = "lastPhaseTransitionTime";
        if sub != "status" {
            return;
        }
        let (new, was) = (&object["status"], &old["status"]);
        let unsaid = new[TIME].is_null();
        if new["phase"] == was["phase"] {
            if unsaid && !was[TIME].is_null() {
                object["status"][TIME] = was[TIME].clone();
            }
        } else if unsaid || new[TIME] == was[TIME] {
            object["status"][TIME] = now(around).into();
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        if !sub.is_empty() {
            return FieldErrors::new();
        }
        // The real server judges it twice, and tells everything twice.
        let mut errors = validate(object);
        errors.extend(validate(object));
        if source(object, old) != source(old, old) {
            let at = Path::new("spec").child("persistentvolumesource");
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden(&at, why));
        }
        let modes = (&object["spec"]["volumeMode"], &old["spec"]["volumeMode"]);
        immutable(&Path::new("volumeMode"), modes.0, modes.1, &mut errors);
        let class = "volumeAttributesClassName";
        if !old["spec"][class].is_null() && object["spec"][class].is_null() {
            let why = "update from non-nil value to nil is forbidden";
            errors.push(FieldError::forbidden(&Path::new("spec").child(class), why));
        }
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>, sub: &str) -> Vec<String> {
        if !sub.is_empty() {
            return Vec::new();
        }
        let mut said = Vec::new();
        claims::warn_of_annotation(object, CLASS, "v1.8", "storageClassName", &mut said);
        claims::warn_of_annotation(object, MOUNT_OPTIONS, "v1.31", "mountOptions", &mut said);
        warnings::of_persistent_volume(&object["spec"], &mut said);
        said
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("name", text(&object["metadata"], "name").to_owned())]
    }
}
