//! Delete, one object or a collection.

use super::select::Selection;
use super::write::{self, Written};
use super::{Context, read, render};
use crate::metadata::rules;
use crate::registry::Served;
use crate::request::media;
use crate::request::options::{self, DeleteOptions, Propagation};
use crate::request::{body, path};
use crate::response::{self, Body};
use crate::server::Inner;
use crate::status::{ApiError, ApiResult};
use crate::store::{Changed, Entry, Unwritten};
use crate::{customs, namespaces};
use http::{Response, StatusCode};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use std::sync::Arc;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// DELETE of one object.
pub(super) fn delete(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = read_options(cx)?;
    let key = cx.path.key();
    let deletion = one(cx, &key, &cx.path.name, &options)?;
    let code = if deletion.gone || options.orphan_dependents != Some(false) {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    match deletion.shown {
        Some(object) => render::written(cx, code, &Written::Shown(object)),
        None => Ok(response::json(code, &success(cx, &cx.path.name, &deletion.uid))),
    }
}

/// DELETE of a collection: every selected object, each on its own; answered with those that were selected.
pub(super) fn delete_collection(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = read_options(cx)?;
    let listed = options::list_options(&cx.request.query, false)?;
    let selection = Selection::new(cx, &listed)?;
    let found = read::select(cx, &selection, &listed)?;
    for (key, _) in &found.items {
        let name = key.rsplit('/').next().unwrap_or_default();
        match one(cx, key, name, &options) {
            Err(error) if error.code != StatusCode::NOT_FOUND => return Err(error),
            _ => {}
        }
    }
    render::list(cx, found)
}

fn read_options(cx: &Context<'_>) -> ApiResult<DeleteOptions> {
    let request = cx.request;
    if request.body.is_empty() {
        return options::delete_options(&request.query, None);
    }
    let format = media::content_type(&request.parts.headers)?;
    let decoded = body::decode(&request.body, format).map_err(|error| {
        ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
    })?;
    let said = |key: &str| decoded.value[key].as_str().unwrap_or_default();
    if !matches!(said("kind"), "" | "DeleteOptions") {
        return Err(ApiError::bad_request(format!(
            "no kind {:?} is registered for version {:?} in scheme \"pkg/runtime/scheme.go:111\"",
            said("kind"),
            said("apiVersion")
        )));
    }
    options::delete_options(&request.query, Some(&decoded.value))
}

fn success(cx: &Context<'_>, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": cx.plural(), "uid": uid});
    if !cx.group().is_empty() {
        details["group"] = json!(cx.group());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// What came of a deletion.
pub(super) struct Deletion {
    /// Whether the object is gone rather than on its way.
    gone: bool,
    uid: String,
    /// The object, where it is the answer.
    shown: Option<Value>,
}

/// What a deletion does to an object.
enum Step {
    /// It is being deleted already, and no sooner.
    Nothing,
    /// It goes.
    Remove,
    /// It is marked and stays for its grace or its finalizers.
    Mark(Value),
    /// It is marked and goes at once.
    MarkAndRemove(Value),
}

/// Deletes one object.
pub(super) fn one(cx: &Context<'_>, key: &str, name: &str, options: &DeleteOptions) -> ApiResult<Deletion> {
    let resource = &cx.served.resource;
    let returns = resource.strategy.returns_deleted_object();
    loop {
        let entry = cx
            .served
            .shelf
            .get(key)
            .ok_or_else(|| ApiError::not_found(cx.group(), cx.plural(), name))?;
        let live = write::load(&cx.served, &entry);
        preconditions(cx, &live, options)?;
        namespaces::admit_delete(resource, name)?;
        let uid = rules::text(&live, "uid").to_owned();
        match plan(cx, &live, options) {
            Step::Nothing => {
                return Ok(Deletion {
                    gone: false,
                    uid,
                    shown: returns.then_some(live),
                });
            }
            Step::Remove => {
                let Ok(last) = remove(cx, &live, &entry, options.dry_run)? else {
                    continue;
                };
                return Ok(Deletion {
                    gone: true,
                    uid,
                    shown: returns.then(|| last.map_or(live, |last| last.value())),
                });
            }
            step @ (Step::Mark(_) | Step::MarkAndRemove(_)) => {
                let (marked, goes) = match step {
                    Step::MarkAndRemove(marked) => (marked, true),
                    Step::Mark(marked) => (marked, false),
                    _ => continue,
                };
                if options.dry_run {
                    return Ok(Deletion {
                        gone: goes,
                        uid,
                        shown: (returns || !goes).then_some(marked),
                    });
                }
                let draft = write::draft(cx, &marked)?;
                let stored = if draft.same(&entry) {
                    entry
                } else if let Ok(stored) = cx.served.shelf.put(key, Some(entry.version), &draft)? {
                    cx.inner.after_write(&cx.served, &stored);
                    stored
                } else {
                    continue;
                };
                let mut shown = stored.value();
                if goes {
                    match remove(cx, &shown, &stored, false)? {
                        Ok(Some(last)) => shown = last.value(),
                        Ok(None) => {}
                        Err(Changed) => continue,
                    }
                }
                return Ok(Deletion {
                    gone: goes,
                    uid,
                    shown: (returns || !goes).then_some(shown),
                });
            }
        }
    }
}

/// Refuses a deletion that is for another object than the one that is there.
pub(super) fn preconditions(cx: &Context<'_>, live: &Value, options: &DeleteOptions) -> ApiResult<()> {
    let kind = &cx.served.resource.kind;
    let name = rules::text(live, "name");
    let uid = rules::text(live, "uid");
    if let Some(wanted) = &options.uid
        && wanted != uid
    {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(cx.group(), kind, name, &why));
    }
    let version = rules::text(live, "resourceVersion");
    if let Some(wanted) = &options.version
        && wanted != version
    {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        );
        return Err(ApiError::conflict(cx.group(), kind, name, &why));
    }
    Ok(())
}

fn plan(cx: &Context<'_>, live: &Value, options: &DeleteOptions) -> Step {
    if customs::is_definition(&cx.served.resource) && !rules::is_deleting(live) {
        let mut marked = live.clone();
        customs::begin_deletion(&mut marked, cx.inner);
        return Step::Mark(marked);
    }
    if namespaces::is_namespace(&cx.served.resource) {
        return match namespaces::terminate(live, cx.inner.clock) {
            Some(marked) => Step::Mark(marked),
            None if rules::finalizers(live).is_empty() && namespaces::is_finalized(live) => Step::Remove,
            None => Step::Mark(live.clone()),
        };
    }
    let now = cx.inner.clock.now_seconds();
    let asked = options
        .grace_seconds
        .map(|seconds| if seconds < 0 { 1 } else { seconds });
    let mut object = live.clone();
    let mut graceful = false;
    if rules::is_deleting(live) {
        let left = live["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default();
        if left > 0 {
            match asked {
                Some(period) if period < left => {
                    shorten(&mut object, left, period, now);
                    graceful = true;
                }
                _ => return Step::Nothing,
            }
        }
    } else if let Some(default) = cx.served.resource.strategy.default_grace_seconds(live, asked) {
        let until = now.checked_add(default.seconds()).unwrap_or(now);
        rules::set(&mut object, "deletionTimestamp", json!(until.to_string()));
        rules::set(&mut object, "deletionGracePeriodSeconds", json!(default));
        raise_generation(&mut object);
        graceful = true;
    }
    let finalizers = garbage_finalizers(live, options);
    let none = finalizers.is_empty();
    rules::set(
        &mut object,
        "finalizers",
        if none { Value::Null } else { json!(finalizers) },
    );
    let waits = object["metadata"]["deletionGracePeriodSeconds"].as_i64() > Some(0);
    if graceful {
        return if none && !waits {
            Step::MarkAndRemove(object)
        } else {
            Step::Mark(object)
        };
    }
    if none {
        return Step::Remove;
    }
    mark(&mut object, now);
    Step::Mark(object)
}

fn raise_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        rules::set(object, "generation", json!(generation + 1));
    }
}

/// Marks an object as being deleted, with no grace.
pub(super) fn mark(object: &mut Value, now: Timestamp) {
    if !rules::is_deleting(object) {
        raise_generation(object);
    }
    let later = rules::text(object, "deletionTimestamp")
        .parse::<Timestamp>()
        .map_or(true, |at| at > now);
    if later {
        rules::set(object, "deletionTimestamp", json!(now.to_string()));
    }
    rules::set(object, "deletionGracePeriodSeconds", json!(0));
}

/// Brings the end of an object's grace forward.
fn shorten(object: &mut Value, left: i64, mut period: i64, now: Timestamp) {
    let at = rules::text(object, "deletionTimestamp")
        .parse::<Timestamp>()
        .unwrap_or(now);
    let mut until = at.checked_sub((left - period).seconds()).unwrap_or(now);
    if until < now {
        until = now;
        period = period.min(1);
    }
    rules::set(object, "deletionTimestamp", json!(until.to_string()));
    rules::set(object, "deletionGracePeriodSeconds", json!(period));
}

/// The finalizers that an object has while it is deleted in the way that was asked for.
fn garbage_finalizers(live: &Value, options: &DeleteOptions) -> Vec<String> {
    let there = rules::finalizers(live);
    let first = there.iter().find(|name| matches!(**name, ORPHAN | FOREGROUND));
    let orphans = match (options.orphan_dependents, options.propagation) {
        (Some(orphans), _) => orphans,
        (None, Some(policy)) => policy == Propagation::Orphan,
        (None, None) => first == Some(&ORPHAN),
    };
    let foreground = match (options.orphan_dependents, options.propagation) {
        (Some(_), _) => false,
        (None, Some(policy)) => policy == Propagation::Foreground,
        (None, None) => first == Some(&FOREGROUND),
    };
    let others = there.iter().filter(|name| !matches!(**name, ORPHAN | FOREGROUND));
    let mut wanted: Vec<String> = others.map(|name| (*name).to_owned()).collect();
    if orphans {
        wanted.push(ORPHAN.to_owned());
    }
    if foreground {
        wanted.push(FOREGROUND.to_owned());
    }
    let mut sorted = (
        wanted.clone(),
        there.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
    );
    sorted.0.sort();
    sorted.1.sort();
    if sorted.0 == sorted.1 {
        there.into_iter().map(str::to_owned).collect()
    } else {
        wanted
    }
}

/// Whether an update leaves nothing for an object under deletion to wait for.
pub(super) fn empties(new: &Value, live: &Value) -> bool {
    rules::is_deleting(live)
        && rules::finalizers(new).is_empty()
        && live["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            == 0
        && (live["kind"] != "Namespace" || live["apiVersion"] != "v1" || namespaces::is_finalized(new))
}

/// Takes an object away; `last` is its last state.
pub(super) fn remove(
    cx: &Context<'_>,
    last: &Value,
    entry: &Arc<Entry>,
    dry_run: bool,
) -> Result<Result<Option<Arc<Entry>>, Changed>, Unwritten> {
    if dry_run {
        return Ok(Ok(None));
    }
    Ok(take_away(cx.inner, &cx.served, last, entry)?.map(Some))
}

fn take_away(
    inner: &Arc<Inner>,
    served: &Served,
    last: &Value,
    entry: &Entry,
) -> Result<Result<Arc<Entry>, Changed>, Unwritten> {
    let draft = write::encode_for(served, last);
    let key = path::key(rules::text(last, "namespace"), rules::text(last, "name"));
    let Ok(gone) = served.shelf.remove(&key, entry.version, &draft)? else {
        return Ok(Err(Changed));
    };
    served.resource.strategy.released(last);
    inner.after_removal(served, last);
    Ok(Ok(gone))
}

/// Deletes an object because its kind goes; finalizers still hold it.
pub(crate) fn delete_for_good(inner: &Arc<Inner>, served: &Served, key: &str) {
    while let Some(entry) = served.shelf.get(key) {
        let mut object = write::load(served, &entry);
        if rules::finalizers(&object).is_empty() {
            if let Ok(Err(Changed)) = take_away(inner, served, &object, &entry) {
                continue;
            }
            // What could not be written stays, and with it the definition.
            return;
        }
        mark(&mut object, inner.clock.now_seconds());
        let draft = write::encode_for(served, &object);
        if draft.same(&entry) {
            return;
        }
        match served.shelf.put(key, Some(entry.version), &draft) {
            Ok(Err(Changed)) => {}
            Ok(Ok(_)) | Err(_) => return,
        }
    }
}
