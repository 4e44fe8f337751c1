//! `Job`: pods that end.

use super::check::{IMMUTABLE, immutable, items, not_negative_fields, not_supported, qualified, text};
use super::labels::{is_valid, matches, validate_selector};
use super::{Rules, job_status, pod_spec, warnings};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names;
use crate::resource::Surroundings;
use serde_json::{Value, json};

pub(super) struct Jobs;

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
/// The same before labels had prefixes.
const LEGACY: [&str; 2] = ["controller-uid", "job-name"];
const MOST_INDEXED: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

/// Labels the pods of a job as its own and selects them by that.
fn select_by_uid(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let template = &mut job["spec"]["template"];
    if !template["metadata"].is_object() {
        template["metadata"] = json!({});
    }
    if !template["metadata"]["labels"].is_object() {
        template["metadata"]["labels"] = json!({});
    }
    let labels = &mut template["metadata"]["labels"];
    for (label, value) in [(LEGACY[1], &name), (NAME, &name), (LEGACY[0], &uid), (UID, &uid)] {
        if labels[label].is_null() {
            labels[label] = value.clone();
        }
    }
    let selector = &mut job["spec"]["selector"];
    if selector["matchLabels"][UID].is_null() {
        if !selector.is_object() {
            *selector = json!({});
        }
        if !selector["matchLabels"].is_object() {
            selector["matchLabels"] = json!({});
        }
        selector["matchLabels"][UID] = uid;
    }
}

/// A selector that was made for the job has to be the one that would be made.
fn validate_generated(job: &Value, prefixed: bool, errors: &mut FieldErrors) {
    let spec = &job["spec"];
    if spec["manualSelector"] == true || spec["selector"].is_null() {
        return;
    }
    let (uid, name) = (text(&job["metadata"], "uid"), text(&job["metadata"], "name"));
    let labels = &spec["template"]["metadata"]["labels"];
    let at = Path::new("spec")
        .child("template")
        .child("metadata")
        .child("labels");
    let mut expected = vec![(LEGACY[0], uid), (LEGACY[1], name)];
    if prefixed {
        expected.extend([(UID, uid), (NAME, name)]);
    }
    for (label, value) in &expected {
        let why = format!("must be '{value}'");
        match labels[*label].as_str() {
            None => errors.push(FieldError::required(&at.key(label), why)),
            Some(there) if there != *value => {
                errors.push(FieldError::invalid(&at.key(label), labels, why));
            }
            Some(_) => {}
        }
    }
    let expected: serde_json::Map<String, Value> = expected
        .into_iter()
        .map(|(label, value)| (label.to_owned(), json!(value)))
        .collect();
    if is_valid(&spec["selector"]) && !matches(&spec["selector"], &Value::Object(expected)) {
        let at = Path::new("spec").child("selector");
        errors.push(FieldError::invalid(
            &at,
            &spec["selector"],
            "`selector` not auto-generated",
        ));
    }
}

fn validate(job: &Value, prefixed: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    validate_generated(job, prefixed, &mut errors);
    validate_spec(&job["spec"], &Path::new("spec"), &mut errors);
    let spec = &job["spec"];
    if spec["completionMode"] == "Indexed"
        && let Some(completions) = spec["completions"].as_i64().filter(|count| *count > 0)
    {
        let name = text(&job["metadata"], "name");
        let host = format!("{name}-{}", completions - 1);
        if !names::label_1123(&host).is_empty() {
            let at = Path::new("metadata").child("name");
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(FieldError::invalid(&at, &json!(name), why));
        }
    }
    errors
}

fn validate_spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    not_negative_fields(path, spec, &numbers, errors);
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        let at = path.child("backoffLimitPerIndex");
        errors.push(FieldError::required(&at, "when maxFailedIndexes is specified"));
    }
    validate_mode(spec, path, errors);
    validate_failure_policy(spec, &path.child("podFailurePolicy"), errors);
    validate_success_policy(spec, &path.child("successPolicy"), errors);
    let at = path.child("podReplacementPolicy");
    if !spec["podReplacementPolicy"].is_null() {
        let known: &[&str] = if spec["podFailurePolicy"].is_null() {
            &["Failed", "TerminatingOrFailed"]
        } else {
            &["Failed"]
        };
        not_supported(&at, &spec["podReplacementPolicy"], known, errors);
    }
    let at = path.child("template");
    pod_spec::validate_template(&spec["template"], &at, errors);
    validate_restarts(spec, &at.child("spec").child("restartPolicy"), errors);
    let at = path.child("selector");
    if spec["selector"].is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        validate_selector(&at, &spec["selector"], errors);
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if is_valid(&spec["selector"]) && (spec["selector"].is_null() || !matches(&spec["selector"], labels)) {
        let at = path.child("template").child("metadata").child("labels");
        errors.push(FieldError::invalid(
            &at,
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

fn validate_restarts(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let policy = &spec["template"]["spec"]["restartPolicy"];
    match policy.as_str().unwrap_or_default() {
        "" | "Always" => errors.push(FieldError::required(
            path,
            r#"valid values: "OnFailure", "Never""#,
        )),
        "Never" => {}
        "OnFailure" => {
            if !spec["podFailurePolicy"].is_null() {
                let why = r#"only "Never" is supported when podFailurePolicy is specified"#;
                errors.push(FieldError::invalid(path, policy, why));
            }
        }
        _ => errors.push(FieldError::not_supported(path, policy, &["OnFailure", "Never"])),
    }
}

/// What goes with indexes, and what does not.
fn validate_mode(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let mode = &spec["completionMode"];
    let at = path.child("completionMode");
    not_supported(&at, mode, &["NonIndexed", "Indexed"], errors);
    if mode != "Indexed" {
        if mode == "NonIndexed" {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if !spec[field].is_null() {
                    let why = "requires indexed completion mode";
                    errors.push(FieldError::invalid(&path.child(field), &spec[field], why));
                }
            }
        }
        return;
    }
    let number = |field: &str| spec[field].as_i64();
    let mut at_most = |field: &str, most: i64, why: String| {
        if number(field).is_some_and(|number| number > most) {
            errors.push(FieldError::invalid(&path.child(field), &spec[field], why));
        }
    };
    let Some(completions) = number("completions") else {
        errors.push(FieldError::required(
            &path.child("completions"),
            "when completion mode is Indexed",
        ));
        return;
    };
    at_most(
        "parallelism",
        MOST_INDEXED,
        format!("must be less than or equal to {MOST_INDEXED} when completion mode is Indexed"),
    );
    at_most(
        "maxFailedIndexes",
        completions,
        "must be less than or equal to completions".to_owned(),
    );
    at_most(
        "maxFailedIndexes",
        MOST_INDEXED,
        format!("must be less than or equal to {MOST_INDEXED}"),
    );
    if completions > MOST_INDEXED && !spec["backoffLimitPerIndex"].is_null() {
        let why = format!(
            "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST_INDEXED} and used with backoff limit per index"
        );
        at_most("parallelism", MOST_OF_MANY, why.clone());
        at_most("maxFailedIndexes", MOST_OF_MANY, why);
        if spec["maxFailedIndexes"].is_null() {
            let why = format!("must be specified when completions is above {MOST_INDEXED}");
            errors.push(FieldError::required(&path.child("maxFailedIndexes"), why));
        }
    }
}

/// Refuses a list of more items than there may be.
fn at_most(path: &Path, list: &Value, most: usize, errors: &mut FieldErrors) {
    if items(list).len() > most {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        errors.push(FieldError::too_many(path, items(list).len(), most));
    }
}

fn valid_values(known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", known.join(" "))
}

/// A value that has to be there and known.
fn one_of(path: &Path, value: &Value, known: &[&str], errors: &mut FieldErrors) {
    if value.as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(path, valid_values(known)));
    } else {
        not_supported(path, value, known, errors);
    }
}

fn validate_failure_policy(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    if spec["podFailurePolicy"].is_null() {
        return;
    }
    let rules = &spec["podFailurePolicy"]["rules"];
    let path = path.child("rules");
    at_most(&path, rules, MOST_RULES, errors);
    for (index, rule) in items(rules).iter().enumerate() {
        let at = path.index(index);
        let action = &rule["action"];
        if action == "FailIndex" {
            if spec["backoffLimitPerIndex"].is_null() {
                let why = "requires the backoffLimitPerIndex to be set";
                errors.push(FieldError::invalid(&at.child("action"), action, why));
            }
        } else {
            one_of(&at.child("action"), action, &ACTIONS, errors);
        }
        let codes = !rule["onExitCodes"].is_null();
        if codes {
            validate_exit_codes(spec, &rule["onExitCodes"], &at.child("onExitCodes"), errors);
        }
        let conditions = items(&rule["onPodConditions"]);
        at_most(
            &at.child("onPodConditions"),
            &rule["onPodConditions"],
            MOST_RULES,
            errors,
        );
        for (index, condition) in conditions.iter().enumerate() {
            let at = at.child("onPodConditions").index(index);
            qualified(&at.child("type"), text(condition, "type"), errors);
            let known = ["False", "True", "Unknown"];
            one_of(&at.child("status"), &condition["status"], &known, errors);
        }
        let why = match (codes, conditions.is_empty()) {
            (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid(&at, &Value::Null, why).omitting_value());
    }
}

fn validate_exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut FieldErrors) {
    one_of(
        &path.child("operator"),
        &codes["operator"],
        &["In", "NotIn"],
        errors,
    );
    if let Some(name) = codes["containerName"].as_str() {
        let pod = &spec["template"]["spec"];
        let mut containers = items(&pod["containers"])
            .iter()
            .chain(items(&pod["initContainers"]));
        if !containers.any(|container| container["name"] == name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(
                &path.child("containerName"),
                &json!(name),
                why,
            ));
        }
    }
    let at = path.child("values");
    let values = items(&codes["values"]);
    if values.is_empty() {
        errors.push(FieldError::invalid(
            &at,
            &codes["values"],
            "at least one value is required",
        ));
    }
    at_most(&at, &codes["values"], MOST_CODES, errors);
    for (index, value) in values.iter().enumerate() {
        if codes["operator"] == "In" && *value == 0 {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&at.index(index), value, why));
        }
        if values[..index].contains(value) {
            errors.push(FieldError::duplicate(&at.index(index), value));
        }
    }
    if values.windows(2).any(|pair| pair[0].as_i64() > pair[1].as_i64()) {
        errors.push(FieldError::invalid(&at, &codes["values"], "must be ordered"));
    }
}

fn validate_success_policy(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let policy = &spec["successPolicy"];
    if policy.is_null() || spec["completionMode"] != "Indexed" {
        if !policy.is_null() {
            errors.push(
                FieldError::invalid(path, policy, "requires indexed completion mode")
                    .showing(format!("{{\"Rules\":{}}}", policy["rules"])),
            );
        }
        return;
    }
    let path = path.child("rules");
    if items(&policy["rules"]).is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, why));
    }
    at_most(&path, &policy["rules"], MOST_RULES, errors);
    for (index, rule) in items(&policy["rules"]).iter().enumerate() {
        let at = path.index(index);
        let count = &rule["succeededCount"];
        if count.is_null() && rule["succeededIndexes"].is_null() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(&at, why));
        }
        not_negative_fields(&at, rule, &["succeededCount"], errors);
        let completions = spec["completions"].as_i64().unwrap_or_default();
        if count.as_i64().is_some_and(|count| count > completions) {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(FieldError::invalid(&at.child("succeededCount"), count, why));
        }
    }
}

/// What of a job never changes, and what does while it is suspended.
fn validate_changes(job: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, was, path) = (&job["spec"], &old["spec"], Path::new("spec"));
    let at = path.child("completions");
    if spec["completionMode"] != "Indexed" {
        immutable(&at, &spec["completions"], &was["completions"], errors);
    } else if spec["completions"] != was["completions"]
        && !spec["completions"].is_null()
        && spec["completions"] != spec["parallelism"]
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&at, &spec["completions"], why));
    }
    immutable(
        &path.child("selector"),
        &spec["selector"],
        &was["selector"],
        errors,
    );
    if !same_template(job, old) {
        let at = path.child("template");
        errors.push(FieldError::invalid(&at, &spec["template"], IMMUTABLE));
    }
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(&path.child(field), &spec[field], &was[field], errors);
    }
}

/// Whether the template is the same but for where pods may go and what they need, while none has started.
fn same_template(job: &Value, old: &Value) -> bool {
    let template = &job["spec"]["template"];
    let mut was = old["spec"]["template"].clone();
    let suspended = old["spec"]["suspend"] == true;
    let rests = old["status"]["startTime"].is_null() || job_status::is(old, "Suspended");
    if suspended && rests && old["status"]["active"].as_i64().unwrap_or_default() == 0 {
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            take(&mut was["spec"], &template["spec"], field);
        }
        if was["spec"]["affinity"]["nodeAffinity"] != template["spec"]["affinity"]["nodeAffinity"] {
            let node = template["spec"]["affinity"]["nodeAffinity"].clone();
            was["spec"]["affinity"]["nodeAffinity"] = node;
            if let Some(affinity) = was["spec"]["affinity"].as_object_mut() {
                affinity.retain(|_, value| !value.is_null());
            }
        }
        if was["spec"]["affinity"] == json!({}) && template["spec"]["affinity"].is_null() {
            take(&mut was["spec"], &template["spec"], "affinity");
        }
        for field in ["annotations", "labels"] {
            take(&mut was["metadata"], &template["metadata"], field);
        }
        for list in ["containers", "initContainers"] {
            let new = items(&template["spec"][list]);
            for (old, new) in was["spec"]
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .zip(new)
            {
                if old["name"] == new["name"] {
                    take(old, new, "resources");
                }
            }
        }
    }
    was == *template
}

/// Gives an object another's field.
fn take(object: &mut Value, from: &Value, field: &str) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match from.get(field) {
        Some(value) => {
            map.insert(field.to_owned(), value.clone());
        }
        None => {
            map.remove(field);
        }
    }
}

impl Rules for Jobs {
    fn prepare_create(&self, object: &mut Value, _: &dyn Surroundings) {
        select_by_uid(object);
    }

    fn validate_create(&self, object: &Value, _: &dyn Surroundings) -> FieldErrors {
        validate(object, true)
    }

    fn validate_update(&self, object: &Value, old: &Value, sub: &str, _: &dyn Surroundings) -> FieldErrors {
        if sub == "status" {
            return job_status::validate(object, old);
        }
        let labels = &old["spec"]["template"]["metadata"]["labels"];
        let mut errors = validate(object, !labels[UID].is_null() && !labels[NAME].is_null());
        // The real server judges the spec once more with the change.
        validate_spec(&object["spec"], &Path::new("spec"), &mut errors);
        validate_changes(object, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, sub: &str) -> Vec<String> {
        if sub == "status" {
            return Vec::new();
        }
        warnings::of_workload(object, old, true)
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.successful", super::at(object, "status.successful"))]
    }
}
