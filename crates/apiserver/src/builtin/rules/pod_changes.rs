//! What of a pod may change: images, a shorter deadline, more tolerations, fewer gates and, before it is scheduled,
//! where it may run; and containers for debugging may be added.

use super::check::{items, shown_as, text};
use super::scheduling::{self, REQUIRED};
use super::{containers, pods};
use crate::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::{Value, json};

const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const LONGEST: i64 = 2_147_483_647;

pub(super) fn validate(object: &Value, old: &Value) -> FieldErrors {
    let (spec, old, path) = (&object["spec"], &old["spec"], Path::new("spec"));
    let mut errors = pods::validate(object);
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        if items(&spec[list]).len() != items(&old[list]).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&at, why));
            return errors;
        }
        for (index, container) in items(&spec[list]).iter().enumerate() {
            let at = at.index(index);
            if text(container, "image").is_empty() {
                errors.push(FieldError::required(&at.child("image"), ""));
            }
            containers::validate_in_pod(container, &at, &mut errors);
        }
    }
    if !validate_deadline(spec, old, &path.child("activeDeadlineSeconds"), &mut errors) {
        return errors;
    }
    validate_tolerations(spec, old, &path.child("tolerations"), &mut errors);
    validate_gates(spec, old, &path.child("schedulingGates"), &mut errors);
    let mut rest = spec.clone();
    for list in ["containers", "initContainers"] {
        let containers = rest.get_mut(list).and_then(Value::as_array_mut);
        for (container, was) in containers.into_iter().flatten().zip(items(&old[list])) {
            container["image"] = was["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put_back(&mut rest, old, field);
    }
    if !items(&old["schedulingGates"]).is_empty() {
        validate_gated(spec, old, &path, &mut errors);
        put_back(&mut rest, old, "nodeSelector");
        if rest["affinity"].is_null() && !old["affinity"]["nodeAffinity"].is_null() {
            rest["affinity"] = json!({});
        }
        put_back(&mut rest["affinity"], &old["affinity"], "nodeAffinity");
        let empty = rest["affinity"].as_object().is_none_or(serde_json::Map::is_empty);
        if empty && old["affinity"].is_null() {
            put_back(&mut rest, old, "affinity");
        }
    }
    if rest != *old {
        errors.push(FieldError::forbidden(&path, UNCHANGEABLE));
    }
    errors
}

/// Gives a field its old value.
fn put_back(object: &mut Value, old: &Value, field: &str) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match &old[field] {
        Value::Null => {
            map.remove(field);
        }
        value => {
            map.insert(field.to_owned(), value.clone());
        }
    }
}

/// A deadline may come, and come nearer. Says whether the rest is worth looking at.
fn validate_deadline(spec: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) -> bool {
    let seconds = |spec: &Value| spec["activeDeadlineSeconds"].as_i64();
    let why = match (seconds(spec), seconds(old)) {
        (Some(new), _) if !(0..=LONGEST).contains(&new) => "must be between 0 and 2147483647, inclusive",
        (Some(new), Some(was)) if new > was => "must be less than or equal to previous value",
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, &Value::Null, why));
            return true;
        }
        _ => return true,
    };
    errors.push(FieldError::invalid(path, &spec["activeDeadlineSeconds"], why));
    false
}

fn validate_tolerations(spec: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        put_back(&mut toleration, &Value::Null, "tolerationSeconds");
        toleration
    };
    let kept = items(&old["tolerations"]).iter().all(|was| {
        items(&spec["tolerations"])
            .iter()
            .any(|new| without_seconds(new) == without_seconds(was))
    });
    if kept {
        scheduling::validate_tolerations(&spec["tolerations"], path, errors);
    } else {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, why));
    }
}

fn validate_gates(spec: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, gate) in items(&spec["schedulingGates"]).iter().enumerate() {
        if !items(&old["schedulingGates"]).contains(gate) {
            let name = text(gate, "name");
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&path.index(index).child("name"), why));
        }
    }
}

/// A pod that is not scheduled yet may be told more of where it may run.
fn validate_gated(spec: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut was = old["nodeSelector"].as_object().into_iter().flatten();
    if was.any(|(name, value)| spec["nodeSelector"][name] != *value) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(
            &path.child("nodeSelector"),
            &spec["nodeSelector"],
            why,
        ));
    }
    let terms = |spec: &Value| spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].clone();
    let (new, was) = (terms(spec), terms(old));
    let (new, was) = (items(&new), items(&was));
    let at = path.child("affinity").child("nodeAffinity").child(REQUIRED);
    let at = at.child("nodeSelectorTerms");
    if !was.is_empty() && was.len() != new.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(shown_as(Kind::Invalid, &at, &list(new, internal), why));
        return;
    }
    for (index, (new, was)) in new.iter().zip(was).enumerate() {
        let lists = ["matchExpressions", "matchFields"];
        // A term that says nothing matches nothing, and keeps to that.
        let selects = |term: &Value| lists.iter().any(|list| !items(&term[*list]).is_empty());
        let only_more = selects(new) == selects(was)
            && lists
                .iter()
                .all(|list| items(&new[*list]).starts_with(items(&was[*list])));
        if !only_more {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(shown_as(Kind::Invalid, &at.index(index), &internal(new), why));
        }
    }
}

/// A term in the server's own form, which messages show.
fn internal(term: &Value) -> String {
    let requirement = |part: &Value| {
        format!(
            r#"{{"Key":{},"Operator":{},"Values":{}}}"#,
            part["key"],
            part["operator"],
            list(items(&part["values"]), Value::to_string)
        )
    };
    format!(
        r#"{{"MatchExpressions":{},"MatchFields":{}}}"#,
        list(items(&term["matchExpressions"]), requirement),
        list(items(&term["matchFields"]), requirement)
    )
}

/// A list in that form, which is nothing where it has no items.
fn list(items: &[Value], shown: impl Fn(&Value) -> String) -> String {
    if items.is_empty() {
        return "null".to_owned();
    }
    let shown: Vec<String> = items.iter().map(shown).collect();
    format!("[{}]", shown.join(","))
}

/// Containers for debugging come, and stay as they are.
pub(super) fn validate_ephemeral(object: &Value, old: &Value) -> FieldErrors {
    if old["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        let why = "static pods do not support ephemeral containers";
        return vec![FieldError::forbidden(&Path::new(""), why)];
    }
    let mut errors = pods::validate(object);
    let path = Path::new("spec").child("ephemeralContainers");
    for was in items(&old["spec"]["ephemeralContainers"]) {
        let name = text(was, "name");
        let is = items(&object["spec"]["ephemeralContainers"])
            .iter()
            .find(|container| text(container, "name") == name);
        let why = match is {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(is) if is != was => format!("existing ephemeral containers {name:?} may not be changed"),
            Some(_) => continue,
        };
        errors.push(FieldError::forbidden(&path, why));
    }
    errors
}
