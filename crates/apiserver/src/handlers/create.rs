//! Create.

use super::write::{self, Written};
use super::{Context, decode, render};
use crate::access::{self, Attributes};
use crate::field::FieldErrors;
use crate::metadata::rules;
use crate::request::options::{self, WriteOptions};
use crate::request::path::key;
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use crate::{customs, namespaces};
use http::{Response, StatusCode};
use rand::Rng;
use serde_json::{Value, json};

/// POST to a collection.
pub(super) fn create(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    if customs::is_terminating(cx.inner, &cx.served.resource) {
        return Err(terminating(cx));
    }
    let options = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let mut object = decode::object(cx, options.validation)?;
    wipe_system_fields(&mut object);
    decode::match_namespace(cx, &mut object)?;
    if let Some(warning) = rules::dedup_owners(&mut object) {
        cx.warn(warning);
    }
    write::track(cx, None, &mut object, &options);
    let written = store(cx, object, &options)?;
    render::written(cx, StatusCode::CREATED, &written)
}

/// The refusal of objects whose definition is on its way out.
fn terminating(cx: &Context<'_>) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "create not allowed while custom resource definition is terminating",
    )
    .with_details(json!({"group": cx.group(), "kind": cx.plural()}))
}

/// Forgets what only the server may set.
fn wipe_system_fields(object: &mut Value) {
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        rules::set(object, key, Value::Null);
    }
}

/// Completes, judges and stores a new object; used too where an apply or an update creates.
pub(super) fn store(cx: &Context<'_>, mut object: Value, options: &WriteOptions) -> ApiResult<Written> {
    let resource = &cx.served.resource;
    let strategy = &resource.strategy;
    namespaces::admit_create(cx.inner, resource, &cx.path.namespace, &object)?;
    rules::set(&mut object, "uid", json!(uuid::Uuid::new_v4().to_string()));
    rules::set(&mut object, "creationTimestamp", write::now(cx));
    let prefix = rules::text(&object, "generateName").to_owned();
    let generates = rules::text(&object, "name").is_empty() && !prefix.is_empty();
    let mut tries = if generates { 8 } else { 1 };
    let around = cx.around(options.dry_run);
    loop {
        let mut object = object.clone();
        if generates {
            rules::set(&mut object, "name", json!(generate(&prefix)));
        }
        strategy.admit(&mut object, None, "", &around)?;
        access::guard(cx, &object, None)?;
        strategy.prepare_create(&mut object, &around);
        if strategy.has_generation() {
            rules::set(&mut object, "generation", json!(1));
        }
        let name = rules::text(&object, "name").to_owned();
        let mut errors: FieldErrors = rules::validate(&object, resource.namespaced, strategy.name_rule());
        if resource.custom.is_none() {
            errors.extend(rules::validate_builtin_finalizers(&object));
        }
        errors.extend(strategy.validate_create(&object, &around));
        write::refuse(cx, &name, &errors)?;
        if cx.request.verb != "create" {
            cx.inner.access.require(&Attributes {
                verb: "create",
                ..cx.request.attributes()
            })?;
        }
        for warning in strategy.warnings(&object, None, "") {
            cx.warn(warning);
        }
        let version = rules::text(&object, "resourceVersion").parse::<u64>();
        if version.is_ok_and(|version| version != 0) {
            return Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let key = key(&cx.path.namespace, &name);
        let draft = write::draft(cx, &object)?;
        let existing = cx.served.shelf.get(&key);
        if options.dry_run && existing.is_none() {
            return Ok(Written::Shown(object));
        }
        if existing.is_none()
            && let Ok(entry) = cx.served.shelf.put(&key, None, &draft)?
        {
            cx.inner.after_write(&cx.served, &entry);
            return Ok(Written::Stored(entry));
        }
        tries -= 1;
        if tries == 0 {
            strategy.released(&object);
            return Err(exists(
                cx,
                &name,
                generates,
                existing.is_some_and(|entry| rules::is_deleting(&entry.value())),
            ));
        }
    }
}

fn exists(cx: &Context<'_>, name: &str, generated: bool, deleting: bool) -> ApiError {
    let mut error = ApiError::already_exists(cx.group(), cx.plural(), name);
    if generated {
        error.message = format!(
            "{}, the server was not able to generate a unique name for the object",
            error.message
        );
        if let Some(details) = error.details.as_object_mut() {
            details.insert("retryAfterSeconds".to_owned(), json!(1));
        }
    }
    if deleting {
        error.message = format!("object is being deleted: {}", error.message);
    }
    error
}

/// A name from its prefix: five letters that make no words are appended.
fn generate(prefix: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LONGEST: usize = 63 - 5;
    let mut name: String = prefix.chars().take(LONGEST).collect();
    let mut rng = rand::rng();
    for _ in 0..5 {
        let letter = LETTERS.get(rng.random_range(0..LETTERS.len())).copied();
        name.push(letter.unwrap_or(b'b').into());
    }
    name
}
