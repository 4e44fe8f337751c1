//! What only pods have: they are bound to nodes and evicted, and their kubelets are asked.

mod binding;
mod eviction;
mod streams;

pub(super) use binding::{bind, bind_by_name, is_binding};
pub(super) use eviction::evict;
pub(super) use streams::{is_stream, stream};

use super::{Context, decode, write};
use crate::builtin;
use crate::metadata::rules;
use crate::registry::Served;
use crate::request::options::FieldValidation;
use crate::request::path::ResourcePath;
use crate::response::{self, Body};
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// The object of another kind than the pod's in the body of a request.
fn decoded(
    cx: &Context<'_>,
    group: &str,
    version: &str,
    kind: &str,
    validation: FieldValidation,
) -> ApiResult<Value> {
    let body = Arc::new(Served {
        resource: Arc::new(builtin::body(group, version, kind)),
        ..Served::clone(&cx.served)
    });
    let cx_of_body = cx.about(body, cx.path);
    let mut object = decode::object(&cx_of_body, validation)?;
    decode::match_namespace(&cx_of_body, &mut object)?;
    for warning in cx_of_body.warnings.take() {
        cx.warn(warning);
    }
    Ok(object)
}

fn success() -> Response<Body> {
    let answer =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    response::json(StatusCode::CREATED, &answer)
}

/// Changes the pod until nobody comes between; a dry run stores nothing.
fn change(
    cx: &Context<'_>,
    dry_run: bool,
    change: &mut dyn FnMut(&mut Value) -> ApiResult<()>,
) -> ApiResult<Value> {
    let key = cx.path.key();
    loop {
        let entry = cx.entry()?;
        let mut pod = write::load(&cx.served, &entry);
        change(&mut pod)?;
        let draft = write::encode_for(&cx.served, &pod);
        if dry_run || draft.same(&entry) {
            return Ok(pod);
        }
        if let Ok(stored) = cx.served.shelf.put(&key, Some(entry.version), &draft)? {
            cx.inner.after_write(&cx.served, &stored);
            return Ok(stored.value());
        }
    }
}

/// Sets a condition of a pod.
fn set_condition(pod: &mut Value, mut condition: Value, now: &Value) {
    condition["lastProbeTime"] = Value::Null;
    rules::set_condition(&mut pod["status"], condition, now);
}

/// The path of an object of another kind in the request's namespace.
fn path_to(cx: &Context<'_>, group: &str, resource: &str, name: &str, subresource: &str) -> ResourcePath {
    ResourcePath {
        group: group.to_owned(),
        version: "v1".to_owned(),
        namespace: cx.path.namespace.clone(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        ..ResourcePath::default()
    }
}

/// An error of a kind that the real server does not send as a Status, and wraps without a reason.
fn plain_error(said: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", said)
}
