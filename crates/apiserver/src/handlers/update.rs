//! Update, and what patches share with it: a new object computed from the one that is there, judged and stored.

use super::write::{self, Written};
use super::{Around, Context, create, decode, delete, render};
use crate::access;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::rules;
use crate::request::options::{self, WriteOptions};
use crate::resource::NameRule;
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use crate::store::Changed;
use http::{Response, StatusCode};
use serde_json::{Value, json};

/// PUT.
pub(super) fn update(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::write_options(&cx.request.query, "UpdateOptions", false)?;
    let mut object = decode::object(cx, options.validation)?;
    decode::match_namespace(cx, &mut object)?;
    decode::match_name(cx, &mut object)?;
    if let Some(warning) = rules::dedup_owners(&mut object) {
        cx.warn(warning);
    }
    let uid = rules::text(&object, "uid").to_owned();
    let creates = cx.path.subresource.is_empty() && cx.served.resource.strategy.allows_create_on_update();
    let (code, written) = replace(cx, &options, creates, &mut |live| {
        let mut new = object.clone();
        if let Some(live) = live {
            precondition(cx, &uid, live)?;
        }
        write::track(cx, live, &mut new, &options);
        Ok(new)
    })?;
    render::written(cx, code, &written)
}

/// Refuses an update that names another incarnation of the object.
fn precondition(cx: &Context<'_>, uid: &str, live: &Value) -> ApiResult<()> {
    let there = rules::text(live, "uid");
    if uid.is_empty() || uid == there {
        return Ok(());
    }
    let group = cx
        .served
        .resource
        .custom
        .as_ref()
        .map(|_| format!("{}/", cx.group()));
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}{}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {there}",
        group.unwrap_or_default(),
        cx.plural(),
        cx.path.key()
    );
    Err(ApiError::conflict(cx.group(), cx.plural(), &cx.path.name, &why))
}

/// Computes a new object of what is there until it can be stored with nobody having come between.
pub(super) fn replace(
    cx: &Context<'_>,
    options: &WriteOptions,
    creates: bool,
    compute: &mut dyn FnMut(Option<&Value>) -> ApiResult<Value>,
) -> ApiResult<(StatusCode, Written)> {
    let key = cx.path.key();
    let resource = &cx.served.resource;
    let strategy = &resource.strategy;
    let around = cx.around(options.dry_run);
    loop {
        let Some(entry) = cx.served.shelf.get(&key) else {
            if !creates {
                return Err(cx.not_found());
            }
            let object = compute(None)?;
            match create::store(cx, object, options) {
                // Somebody else created it just now.
                Err(error) if error.reason == "AlreadyExists" => continue,
                other => return other.map(|written| (StatusCode::CREATED, written)),
            }
        };
        let live = write::load(&cx.served, &entry);
        let mut new = compute(Some(&live))?;
        access::guard(cx, &new, Some(&live))?;
        check_version(cx, &mut new, entry.version)?;
        strategy.admit(&mut new, Some(&live), &cx.path.subresource, &around)?;
        prepare(cx, &mut new, &live, &around);
        let mut errors = rules::validate(&new, resource.namespaced, NameRule::PathSegment);
        errors.extend(rules::validate_update(&new, &live));
        // The strategy of the real server judges metadata once more.
        errors.extend(rules::validate_update(&new, &live));
        errors.extend(strategy.validate_update(&new, &live, &cx.path.subresource, &around));
        write::refuse(cx, rules::text(&new, "name"), &errors)?;
        for warning in strategy.warnings(&new, Some(&live), &cx.path.subresource) {
            cx.warn(warning);
        }
        crate::apply::keep_times(&live, &mut new);
        rules::normalise(&mut new);
        if delete::empties(&new, &live) {
            match delete::remove(cx, &live, &entry, options.dry_run)? {
                Ok(_) => return Ok((StatusCode::OK, Written::Shown(new))),
                Err(Changed) => continue,
            }
        }
        let draft = write::draft(cx, &new)?;
        if draft.same(&entry) {
            return Ok((StatusCode::OK, Written::Stored(entry)));
        }
        if options.dry_run {
            return Ok((StatusCode::OK, Written::Shown(new)));
        }
        if let Ok(entry) = cx.served.shelf.put(&key, Some(entry.version), &draft)? {
            cx.inner.after_write(&cx.served, &entry);
            return Ok((StatusCode::OK, Written::Stored(entry)));
        }
    }
}

/// Refuses an update of another version than the one that is there; one that names none takes that.
fn check_version(cx: &Context<'_>, new: &mut Value, version: u64) -> ApiResult<()> {
    let there = version.to_string();
    let said = rules::text(new, "resourceVersion");
    if said == there {
        return Ok(());
    }
    if said.is_empty() || said == "0" {
        if cx.served.resource.strategy.allows_unconditional_update() {
            rules::set(new, "resourceVersion", json!(there));
            return Ok(());
        }
        let error = FieldError::invalid(
            &Path::new("metadata").child("resourceVersion"),
            &json!(0),
            "must be specified for an update",
        );
        return Err(ApiError::invalid(
            cx.group(),
            cx.plural(),
            &cx.path.name,
            &FieldErrors::from([error]),
        ));
    }
    if said.parse::<u64>().is_err() {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            format!("strconv.ParseUint: parsing {said:?}: invalid syntax"),
        ));
    }
    Err(cx.modified(&cx.path.name))
}

/// Puts back what an update may not change.
fn prepare(cx: &Context<'_>, new: &mut Value, live: &Value, around: &Around<'_>) {
    let old = &live["metadata"];
    rules::set(new, "generation", old["generation"].clone());
    cx.served
        .resource
        .strategy
        .prepare_update(new, live, &cx.path.subresource, around);
    if rules::text(new, "uid").is_empty() {
        rules::set(new, "uid", old["uid"].clone());
    }
    rules::set(new, "creationTimestamp", old["creationTimestamp"].clone());
    if rules::is_deleting(live) {
        rules::set(new, "deletionTimestamp", old["deletionTimestamp"].clone());
        if new["metadata"]["deletionGracePeriodSeconds"].is_null() {
            rules::set(
                new,
                "deletionGracePeriodSeconds",
                old["deletionGracePeriodSeconds"].clone(),
            );
        }
    }
}
