//! The options of writes, lists and deletions, and what is wrong with them.

use super::query::Query;
use crate::field::{FieldError, FieldErrors, Path};
use crate::status::{ApiError, ApiResult};
use serde_json::{Value, json};

/// What to do with unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) manager: String,
    pub(crate) validation: FieldValidation,
    pub(crate) force: Option<bool>,
}

/// The refusal for bad options of this kind (as `CreateOptions`).
fn invalid(kind: &str, errors: &FieldErrors) -> ApiError {
    ApiError::invalid("meta.k8s.io", kind, "", errors)
}

fn check_dry_run(values: &[&str], errors: &mut FieldErrors) -> bool {
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported(
            &Path::new("dryRun"),
            &json!(values),
            &["All"],
        ));
    }
    !values.is_empty()
}

/// Options of a write; `kind` is the options' kind and `apply` whether they are of a server-side apply.
pub(crate) fn write_options(query: &Query, kind: &str, apply: bool) -> ApiResult<WriteOptions> {
    let mut errors = FieldErrors::new();
    let manager = query.text("fieldManager");
    let at = Path::new("fieldManager");
    let force = query.flag("force");
    if apply && manager.is_empty() {
        errors.push(FieldError::required(&at, "is required for apply patch"));
    }
    if !apply && kind == "PatchOptions" && force.is_some() {
        errors.push(FieldError::forbidden(
            &Path::new("force"),
            "may not be specified for non-apply patch",
        ));
    }
    crate::apply::validate_field_manager(manager, &at, &mut errors);
    let dry_run = check_dry_run(&query.all("dryRun"), &mut errors);
    let validation = match query.text("fieldValidation") {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            errors.push(FieldError::not_supported(
                &Path::new("fieldValidation"),
                &json!(other),
                &["", "Ignore", "Strict", "Warn"],
            ));
            FieldValidation::Ignore
        }
    };
    if !errors.is_empty() {
        return Err(invalid(kind, &errors));
    }
    Ok(WriteOptions {
        dry_run,
        manager: manager.to_owned(),
        validation,
        force,
    })
}

/// Which versions of a list will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Match {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) labels: String,
    pub(crate) fields: String,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) version: String,
    pub(crate) matching: Match,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
}

/// Reads the options of a list or watch.
pub(crate) fn list_options(query: &Query, watch: bool) -> ApiResult<ListOptions> {
    let mut errors = FieldErrors::new();
    let version = query.text("resourceVersion").to_owned();
    let continue_token = query.text("continue").to_owned();
    let watch = watch || query.flag("watch") == Some(true);
    let bookmarks = query.flag("allowWatchBookmarks") == Some(true);
    let mut said = query.text("resourceVersionMatch");
    let mut initial_events = query.flag("sendInitialEvents");
    if watch && initial_events.is_none() && said.is_empty() && (version.is_empty() || version == "0") {
        // A watch from any version starts with the state.
        initial_events = Some(true);
        said = "NotOlderThan";
    }
    let at = Path::new("resourceVersionMatch");
    let initial_at = Path::new("sendInitialEvents");
    let not_supported = |values: &[&str]| FieldError::not_supported(&at, &json!(said), values);
    if watch {
        if initial_events.is_some() && said != "NotOlderThan" {
            errors.push(FieldError::forbidden(
                &at,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if !said.is_empty() {
            if initial_events.is_none() {
                errors.push(FieldError::forbidden(
                    &at,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            if said != "NotOlderThan" {
                errors.push(not_supported(&["NotOlderThan"]));
            }
        }
    } else if !said.is_empty() {
        if version.is_empty() {
            errors.push(FieldError::forbidden(
                &at,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !continue_token.is_empty() {
            errors.push(FieldError::forbidden(
                &at,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if said != "Exact" && said != "NotOlderThan" {
            errors.push(not_supported(&["Exact", "NotOlderThan", ""]));
        }
        if said == "Exact" && version == "0" {
            errors.push(FieldError::forbidden(
                &at,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if watch && !said.is_empty() && !continue_token.is_empty() {
        errors.push(FieldError::forbidden(
            &at,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    if !watch && initial_events.is_some() {
        errors.push(FieldError::forbidden(
            &initial_at,
            "sendInitialEvents is forbidden for list",
        ));
    }
    let limit = query.number("limit")?;
    let timeout = query.number("timeoutSeconds")?;
    if !errors.is_empty() {
        return Err(invalid("ListOptions", &errors));
    }
    Ok(ListOptions {
        labels: query.text("labelSelector").to_owned(),
        fields: query.text("fieldSelector").to_owned(),
        limit: limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or_default(),
        continue_token,
        matching: match said {
            "Exact" => Match::Exact,
            "NotOlderThan" => Match::NotOlderThan,
            _ => Match::Unset,
        },
        version,
        bookmarks,
        initial_events,
        timeout_seconds: timeout
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|s| *s > 0),
    })
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// The deprecated way to say it.
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
}

/// Reads the options of a deletion from its body, or where there is none from the query.
pub(crate) fn delete_options(query: &Query, body: Option<&Value>) -> ApiResult<DeleteOptions> {
    let mut errors = FieldErrors::new();
    let (dry_run, policy, orphan, grace, uid, version): (Vec<String>, _, _, _, _, _) = match body {
        Some(body) => {
            let preconditions = body.get("preconditions");
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
            (
                body.get("dryRun")
                    .and_then(Value::as_array)
                    .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                    .unwrap_or_default(),
                text(body.get("propagationPolicy")),
                body.get("orphanDependents").and_then(Value::as_bool),
                body.get("gracePeriodSeconds").and_then(Value::as_i64),
                text(preconditions.and_then(|p| p.get("uid"))),
                text(preconditions.and_then(|p| p.get("resourceVersion"))),
            )
        }
        None => (
            query.all("dryRun").into_iter().map(str::to_owned).collect(),
            query.get("propagationPolicy").map(str::to_owned),
            query.flag("orphanDependents"),
            query.number("gracePeriodSeconds")?,
            None,
            None,
        ),
    };
    let at = Path::new("propagationPolicy");
    if let (Some(policy), Some(_)) = (&policy, orphan) {
        errors.push(FieldError::invalid(
            &at,
            &json!(policy),
            "orphanDependents and deletionPropagation cannot be both set",
        ));
    }
    let propagation = match policy.as_deref() {
        None => None,
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Background") => Some(Propagation::Background),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(&at, &json!(other), &supported));
            None
        }
    };
    let dry_run: Vec<&str> = dry_run.iter().map(String::as_str).collect();
    let dry_run = check_dry_run(&dry_run, &mut errors);
    if !errors.is_empty() {
        return Err(invalid("DeleteOptions", &errors));
    }
    Ok(DeleteOptions {
        dry_run,
        grace_seconds: grace,
        propagation,
        orphan_dependents: orphan,
        uid,
        version,
    })
}
