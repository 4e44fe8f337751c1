//! The conditions of a CRD, as the controllers inside the real server keep them: names accepted, then established;
//! on deletion, the clean-up of its objects.

use super::paths::{list, text};
use crate::metadata::rules;
use clusterwright_clock::Clock;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The finalizer that holds a CRD until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether objects of this CRD are served.
pub fn is_established(crd: &Value) -> bool {
    condition_status(crd, "Established") == Some("True")
}

/// The CRD with the status that would be written next, or none where all is said. Each step is an update of its own;
/// `all` are the CRDs there are. After a CRD has changed or gone, the others of its group may have a next step too.
pub fn next_status(crd: &Value, all: &[Value], clock: &Clock) -> Option<Value> {
    name(crd, all, clock)
        .or_else(|| approve(crd, clock))
        .or_else(|| establish(crd, clock))
}

fn condition_status<'a>(crd: &'a Value, kind: &str) -> Option<&'a str> {
    find_condition(crd, kind)?.get("status")?.as_str()
}

fn find_condition<'a>(crd: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&crd["status"]["conditions"])
        .iter()
        .find(|condition| text(condition, "type") == kind)
}

/// A condition without its time.
fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

/// Sets a condition; its time changes only when its status does.
fn set_condition(crd: &mut Value, new: &Value, clock: &Clock) {
    let now = json!(clock.now_seconds().to_string());
    rules::set_condition(&mut crd["status"], new.clone(), &now);
}

fn is_equivalent(new: &Value, there: Option<&Value>) -> bool {
    there.is_some_and(|there| {
        ["status", "reason", "message"]
            .iter()
            .all(|key| new[key] == there[key])
    })
}

/// Names that others of the group hold, as (resource names, kinds).
fn taken(crd: &Value, all: &[Value]) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut resources = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for other in all {
        if other["spec"]["group"] != crd["spec"]["group"] {
            continue;
        }
        let names = &other["status"]["acceptedNames"];
        resources.extend([text(names, "plural"), text(names, "singular")].map(str::to_owned));
        resources.extend(
            list(&names["shortNames"])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned),
        );
        kinds.extend([text(names, "kind"), text(names, "listKind")].map(str::to_owned));
    }
    (resources, kinds)
}

fn in_use(wanted: &str, accepted: &str, taken: &BTreeSet<String>) -> Option<String> {
    (wanted != accepted && taken.contains(wanted)).then(|| format!("{wanted:?} is already in use"))
}

fn name(crd: &Value, all: &[Value], clock: &Clock) -> Option<Value> {
    let wanted = &crd["spec"]["names"];
    let accepted = &crd["status"]["acceptedNames"];
    if wanted == accepted {
        return None;
    }
    let (resources, kinds) = taken(crd, all);
    let mut names: Map<String, Value> = accepted.as_object().cloned().unwrap_or_default();
    let mut conflict: Option<(&str, String)> = None;
    for (key, taken, reason) in [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("shortNames", &resources, "ShortNamesConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let problem = if key == "shortNames" {
            short_names_in_use(wanted, accepted, taken)
        } else {
            in_use(text(wanted, key), text(accepted, key), taken)
        };
        match problem {
            Some(problem) => conflict = Some((reason, problem)),
            None => copy(&mut names, key, wanted),
        }
    }
    copy(&mut names, "categories", wanted);
    // The API has both as required fields.
    for key in ["plural", "kind"] {
        names.entry(key).or_insert_with(|| json!(""));
    }
    let naming = match &conflict {
        Some((reason, message)) => condition("NamesAccepted", "False", reason, message),
        None => condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
    };
    let names = Value::Object(names);
    if &names == accepted && is_equivalent(&naming, find_condition(crd, "NamesAccepted")) {
        return None;
    }
    let established = match find_condition(crd, "Established") {
        Some(there) if conflict.is_some() || text(there, "status") == "True" => there.clone(),
        _ if conflict.is_none() => condition(
            "Established",
            "False",
            "Installing",
            "the initial names have been accepted",
        ),
        _ => condition(
            "Established",
            "False",
            "NotAccepted",
            "not all names are accepted",
        ),
    };
    let mut next = crd.clone();
    set_condition(&mut next, &naming, clock);
    set_condition(&mut next, &established, clock);
    next["status"]["acceptedNames"] = names;
    Some(next)
}

fn short_names_in_use(wanted: &Value, accepted: &Value, taken: &BTreeSet<String>) -> Option<String> {
    let wanted = list(&wanted["shortNames"]);
    let accepted = list(&accepted["shortNames"]);
    let mut said: Vec<String> = wanted
        .iter()
        .filter(|name| !accepted.contains(name))
        .filter_map(|name| in_use(name.as_str().unwrap_or_default(), "", taken))
        .collect();
    match said.len() {
        0 => None,
        1 => said.pop(),
        _ => Some(format!("[{}]", said.join(", "))),
    }
}

fn copy(names: &mut Map<String, Value>, key: &str, from: &Value) {
    match from.get(key) {
        Some(value) => names.insert(key.to_owned(), value.clone()),
        None => names.remove(key),
    };
}

/// For groups of the Kubernetes project: whether the CRD's annotation says that its API was approved.
fn approve(crd: &Value, clock: &Clock) -> Option<Value> {
    if !super::validation::is_protected(text(&crd["spec"], "group")) {
        return None;
    }
    let (status, reason, message) = super::validation::approval(crd).condition();
    let new = condition("KubernetesAPIApprovalPolicyConformant", status, reason, &message);
    if is_equivalent(&new, find_condition(crd, "KubernetesAPIApprovalPolicyConformant")) {
        return None;
    }
    let mut next = crd.clone();
    set_condition(&mut next, &new, clock);
    Some(next)
}

fn establish(crd: &Value, clock: &Clock) -> Option<Value> {
    if condition_status(crd, "NamesAccepted") != Some("True") || is_established(crd) {
        return None;
    }
    let mut next = crd.clone();
    set_condition(
        &mut next,
        &condition(
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        ),
        clock,
    );
    Some(next)
}

/// Marks a CRD for deletion: time, finalizer, condition. One update.
pub fn begin_deletion(crd: &mut Value, clock: &Clock) {
    let now = clock.now_seconds().to_string();
    if let Some(metadata) = crd.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("deletionTimestamp").or_insert_with(|| json!(now));
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Value::Array(finalizers) = finalizers
            && !finalizers.contains(&json!(FINALIZER))
        {
            finalizers.push(json!(FINALIZER));
        }
    }
    terminating(
        crd,
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        clock,
    );
}

/// Says that objects are being deleted. One status update.
pub fn deletion_in_progress(crd: &mut Value, clock: &Clock) {
    terminating(
        crd,
        "True",
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
        clock,
    );
}

/// Says that no objects are left, and takes the finalizer away. One status update, after which the CRD goes unless
/// it has other finalizers.
pub fn finish_deletion(crd: &mut Value, clock: &Clock) {
    if is_established(crd) {
        terminating(
            crd,
            "False",
            "InstanceDeletionCompleted",
            "removed all instances",
            clock,
        );
    } else {
        terminating(
            crd,
            "False",
            "NeverEstablished",
            "resource was never established",
            clock,
        );
    }
    if let Some(metadata) = crd.get_mut("metadata").and_then(Value::as_object_mut) {
        let empty = match metadata.get_mut("finalizers") {
            Some(Value::Array(finalizers)) => {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                finalizers.is_empty()
            }
            _ => false,
        };
        if empty {
            metadata.remove("finalizers");
        }
    }
}

fn terminating(crd: &mut Value, status: &str, reason: &str, message: &str, clock: &Clock) {
    set_condition(crd, &condition("Terminating", status, reason, message), clock);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.a.b")}, "spec": {"group": "a.b", "names":
            {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")}}})
    }

    fn settle(mut crd: Value, all: &[Value]) -> (Value, usize) {
        let clock = Clock::system();
        let mut steps = 0;
        while let Some(next) = next_status(&crd, all, &clock) {
            crd = next;
            steps += 1;
        }
        (crd, steps)
    }

    #[test]
    fn names_are_accepted_and_then_it_is_established() {
        let (crd, steps) = settle(crd("foos", "Foo"), &[]);
        assert_eq!(steps, 2);
        assert!(is_established(&crd));
        assert_eq!(crd["status"]["acceptedNames"], crd["spec"]["names"]);
        assert_eq!(crd["status"]["conditions"][0]["reason"], "NoConflicts");
        assert_eq!(crd["status"]["conditions"][1]["reason"], "InitialNamesAccepted");
    }

    #[test]
    fn a_taken_name_is_not_accepted() {
        let (first, _) = settle(crd("foos", "Foo"), &[]);
        let (second, steps) = settle(crd("bars", "Foo"), std::slice::from_ref(&first));
        assert_eq!(steps, 1);
        assert!(!is_established(&second));
        let conditions = &second["status"]["conditions"];
        assert_eq!(conditions[0]["reason"], "ListKindConflict");
        assert_eq!(conditions[0]["message"], r#""FooList" is already in use"#);
        assert_eq!(conditions[1]["reason"], "NotAccepted");
        let (second, _) = settle(second, &[]);
        assert!(is_established(&second));
    }

    #[test]
    fn deletion_is_marked_and_finished() {
        let clock = Clock::system();
        let (mut crd, _) = settle(crd("foos", "Foo"), &[]);
        begin_deletion(&mut crd, &clock);
        assert_eq!(crd["metadata"]["finalizers"], json!([FINALIZER]));
        deletion_in_progress(&mut crd, &clock);
        finish_deletion(&mut crd, &clock);
        assert!(crd["metadata"].get("finalizers").is_none());
        assert_eq!(
            find_condition(&crd, "Terminating").unwrap()["reason"],
            "InstanceDeletionCompleted"
        );
    }
}
