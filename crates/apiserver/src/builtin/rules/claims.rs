//! Claims of volumes.

use super::Rules;
use super::check::{immutable, items, not_supported, quantity, subdomain, text};
use super::labels::validate_selector;
use super::warnings;
use crate::field::{FieldError, FieldErrors, Path};
use crate::resource::Surroundings;
use crate::status::ApiResult;
use serde_json::{Value, json};

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// The annotation that was there before the field for a storage class.
pub(super) const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct Claims;

/// Adds a finalizer that keeps a volume or claim while it is used.
pub(super) fn protect(object: &mut Value, finalizer: &str) {
    let metadata = &mut object["metadata"];
    if !metadata["finalizers"].is_array() {
        metadata["finalizers"] = json!([]);
    }
    if let Some(list) = metadata["finalizers"].as_array_mut()
        && !list.iter().any(|there| there == finalizer)
    {
        list.push(json!(finalizer));
    }
}

/// How a volume is used: a volume for one pod is for nothing else.
pub(super) fn validate_modes(modes: &Value, path: &Path, errors: &mut FieldErrors) {
    const ONE_POD: &str = "ReadWriteOncePod";
    let modes = items(modes);
    for mode in modes {
        not_supported(path, mode, &MODES, errors);
    }
    let others = |mode: &Value| mode != ONE_POD && MODES.iter().any(|known| mode == known);
    if modes.iter().any(|mode| mode == ONE_POD) && modes.iter().any(others) {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(path, why));
    }
}

/// What claims and volumes say alike: which class they are of, and whether they hold files or blocks.
pub(super) fn validate_kind(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    if !text(spec, "storageClassName").is_empty() {
        let at = path.child("storageClassName");
        subdomain(&at, text(spec, "storageClassName"), errors);
    }
    if !spec["volumeMode"].is_null() {
        let at = path.child("volumeMode");
        not_supported(&at, &spec["volumeMode"], &["Block", "Filesystem"], errors);
    }
}

/// Warns of an annotation that a field has replaced.
pub(super) fn warn_of_annotation(
    object: &Value,
    name: &str,
    since: &str,
    instead: &str,
    said: &mut Vec<String>,
) {
    if !object["metadata"]["annotations"][name].is_null() {
        let at = Path::new("metadata").child("annotations").key(name);
        said.push(format!(
            r#"{at}: deprecated since {since}; use "{instead}" attribute instead"#
        ));
    }
}

/// The rules for the spec of a claim; also for those in templates.
pub(super) fn validate_spec(spec: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let modes = path.child("accessModes");
    if items(&spec["accessModes"]).is_empty() {
        errors.push(FieldError::required(&modes, "at least 1 access mode is required"));
    }
    validate_selector(&path.child("selector"), &spec["selector"], &mut errors);
    validate_modes(&spec["accessModes"], &modes, &mut errors);
    let size_path = path.child("resources").key("storage");
    let size = &spec["resources"]["requests"]["storage"];
    match quantity(size) {
        None => errors.push(FieldError::required(&size_path, "")),
        Some(amount) if amount.nanos <= 0 => {
            errors.push(FieldError::invalid(&size_path, size, "must be greater than zero"));
        }
        Some(_) => {}
    }
    validate_kind(spec, path, &mut errors);
    errors
}

impl Rules for Claims {
    fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        sub: &str,
        around: &dyn Surroundings,
    ) -> ApiResult<()> {
        if old.is_some() || !sub.is_empty() {
            return Ok(());
        }
        if object["spec"]["storageClassName"].is_null()
            && let Some(class) = default_class(around)
        {
            object["spec"]["storageClassName"] = class.into();
        }
        protect(object, "kubernetes.io/pvc-protection");
        Ok(())
    }

    fn prepare_create(&self, object: &mut Value, _: &dyn Surroundings) {
        object["status"] = json!({"phase": "Pending"});
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate_spec(&object["spec"], &Path::new("spec"))
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        let path = Path::new("spec");
        if !sub.is_empty() {
            return FieldErrors::new();
        }
        let mut errors = validate_spec(&object["spec"], &path);
        let mut allowed = old["spec"].clone();
        let (new, was) = (&object["spec"], &old["spec"]);
        // A volume is bound once; a class is given once; a bound claim may grow.
        if text(was, "volumeName").is_empty() && !new["volumeName"].is_null() {
            allowed["volumeName"] = new["volumeName"].clone();
        }
        if was["storageClassName"].is_null() && !new["storageClassName"].is_null() {
            allowed["storageClassName"] = new["storageClassName"].clone();
        }
        if object["status"]["phase"] == "Bound" {
            allowed["resources"]["requests"]["storage"] = new["resources"]["requests"]["storage"].clone();
            if !new["volumeAttributesClassName"].is_null() {
                allowed["volumeAttributesClassName"] = new["volumeAttributesClassName"].clone();
            }
        }
        if *new != allowed {
            errors.push(FieldError::forbidden(
                &path,
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ));
        }
        let size = |claim: &Value| quantity(&claim["resources"]["requests"]["storage"]).map(|q| q.nanos);
        let capacity = quantity(&old["status"]["capacity"]["storage"]).map_or(0, |q| q.nanos);
        if size(new) < size(was) && size(new) <= Some(capacity) {
            let at = path.child("resources").child("requests").child("storage");
            errors.push(FieldError::forbidden(
                &at,
                "field can not be less than status.capacity",
            ));
        }
        immutable(
            &Path::new("volumeMode"),
            &new["volumeMode"],
            &was["volumeMode"],
            &mut errors,
        );
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>, sub: &str) -> Vec<String> {
        if !sub.is_empty() {
            return Vec::new();
        }
        let mut said = Vec::new();
        warn_of_annotation(object, CLASS, "v1.8", "storageClassName", &mut said);
        said.extend(warnings::of_claim_spec(&Path::new("spec"), &object["spec"]));
        said
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("name", text(&object["metadata"], "name").to_owned())]
    }
}

/// The storage class that claims get which name none: the newest that is marked as the default.
fn default_class(around: &dyn Surroundings) -> Option<String> {
    let mut classes: Vec<Value> = around
        .list("storage.k8s.io", "storageclasses", "")
        .into_iter()
        .filter(|class| {
            class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
        })
        .collect();
    classes.sort_by(|a, b| {
        let created = |class: &Value| text(&class["metadata"], "creationTimestamp").to_owned();
        let name = |class: &Value| text(&class["metadata"], "name").to_owned();
        created(b).cmp(&created(a)).then_with(|| name(a).cmp(&name(b)))
    });
    Some(text(&classes.first()?["metadata"], "name").to_owned())
}
