//! The object in a request's body.

use super::Context;
use super::write::{self, Refused};
use crate::builtin::codec::Reader;
use crate::metadata::rules;
use crate::request::body::{self, Decoded};
use crate::request::options::FieldValidation;
use crate::request::{media, protobuf};
use crate::status::{ApiError, ApiResult};
use serde_json::{Value, json};

/// What the object of a request should be.
struct Expected<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl Expected<'_> {
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Reads, prunes and defaults the object in the body of a create or an update.
pub(crate) fn object(cx: &Context<'_>, validation: FieldValidation) -> ApiResult<Value> {
    let resource = &cx.served.resource;
    let expected = Expected {
        group: &resource.group,
        version: &resource.version,
        kind: &resource.kind,
    };
    let decoded = match protobuf::question(&cx.request.body) {
        Some(value) => Decoded {
            value,
            duplicates: Vec::new(),
        },
        None => {
            let format = media::content_type(&cx.request.parts.headers)?;
            body::decode(&cx.request.body, format).map_err(|error| unreadable(cx, &error))?
        }
    };
    let mut object = decoded.value;
    if !object.is_object() {
        return Err(unreadable(cx, &not_an_object(&object)));
    }
    let said = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (said("apiVersion"), said("kind"));
    if resource.custom.is_some() {
        if kind.is_empty() {
            return Err(unrecognised(
                cx,
                &format!(
                    "Object 'Kind' is missing in '{}'",
                    String::from_utf8_lossy(&cx.request.body)
                ),
            ));
        }
        if api_version.is_empty() {
            return Err(unrecognised(
                cx,
                &format!(
                    "Object 'apiVersion' is missing in '{}'",
                    String::from_utf8_lossy(&cx.request.body)
                ),
            ));
        }
    }
    let wanted = expected.api_version();
    if !kind.is_empty() && kind != expected.kind || !api_version.is_empty() && api_version != wanted {
        return Err(wrong_kind(cx, &api_version, &kind, &wanted));
    }
    object["apiVersion"] = json!(wanted);
    object["kind"] = json!(expected.kind);
    write::coerce(cx, &mut object, decoded.duplicates, validation, Reader::Json).map_err(|refused| {
        match refused {
            Refused::Typed(said) => handled_as(cx, &said),
            Refused::Strict(said) => handled_as(cx, &format!("strict decoding error: {}", said.join(", "))),
        }
    })?;
    Ok(object)
}

/// `ConfigMap in version "v1" cannot be handled as a ConfigMap: …`
pub(crate) fn handled_as(cx: &Context<'_>, why: &str) -> ApiError {
    let resource = &cx.served.resource;
    ApiError::bad_request(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: {why}",
        resource.version,
        kind = resource.kind
    ))
}

/// The refusal of an object of another kind or version.
fn wrong_kind(cx: &Context<'_>, api_version: &str, kind: &str, wanted: &str) -> ApiError {
    let resource = &cx.served.resource;
    let kind = if kind.is_empty() { &*resource.kind } else { kind };
    let said = if api_version.is_empty() {
        wanted
    } else {
        api_version
    };
    let known = cx
        .table
        .all
        .iter()
        .find(|served| *served.resource.kind == *kind && served.resource.api_version() == said);
    let same_kind = kind == &*resource.kind;
    if resource.custom.is_some() || same_kind && known.is_some() {
        if !same_kind {
            return ApiError::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {}: no kind registered",
                said.rsplit('/').next().unwrap_or_default(),
                resource.kind
            ));
        }
        return ApiError::bad_request(format!(
            "the API version in the data ({said}) does not match the expected API version ({wanted})"
        ));
    }
    let version = said.rsplit('/').next().unwrap_or_default();
    let why = unknown_kind(cx, said, kind);
    ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {}: {why}",
        resource.kind
    ))
}

/// Why an object of this kind is none of the resource's.
pub(super) fn unknown_kind(cx: &Context<'_>, api_version: &str, kind: &str) -> String {
    let resource = &cx.served.resource;
    let known = cx.table.all.iter().any(|served| {
        let other = &served.resource;
        other.custom.is_none()
            && other.api_version() == api_version
            && (*other.kind == *kind || *other.list_kind == *kind || kind == "List" && api_version == "v1")
    });
    if known {
        format!(
            "converting ({}.{kind}) to ({}.{}): unknown conversion",
            go_package(api_version),
            hub_package(&resource.group),
            resource.kind
        )
    } else {
        format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\""
        )
    }
}

/// The name of the Go package of a version, as conversions show it.
fn go_package(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

/// The name of the Go package of a group's internal version.
fn hub_package(group: &str) -> &str {
    match group.split('.').next() {
        Some("") | None => "core",
        Some(name) => name,
    }
}

fn not_an_object(value: &Value) -> String {
    let kind = match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        _ => "null",
    };
    format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {kind} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

fn unreadable(cx: &Context<'_>, error: &str) -> ApiError {
    if error.starts_with("couldn't") || error.starts_with("yaml: ") {
        return unrecognised(cx, error);
    }
    unrecognised(
        cx,
        &format!("couldn't get version/kind; json parse error: {error}"),
    )
}

/// The refusal of a body that is no object of a kind; it shows how the body starts.
fn unrecognised(cx: &Context<'_>, why: &str) -> ApiError {
    const SHOWN: usize = 30;
    let body = &cx.request.body;
    let start = body.get(..SHOWN).unwrap_or(body);
    let more = if body.len() > SHOWN { " ..." } else { "" };
    let shown = match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => {
            let hex: Vec<String> = start.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{more}", hex.concat())
        }
    };
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({shown})",
        cx.served.resource.kind
    ))
}

/// Makes the object's namespace that of the request, where it says none; refuses another.
pub(crate) fn match_namespace(cx: &Context<'_>, object: &mut Value) -> ApiResult<()> {
    let requested = &cx.path.namespace;
    let said = rules::text(object, "namespace");
    if said.is_empty() {
        if !requested.is_empty() {
            rules::set(object, "namespace", json!(requested));
        }
        return Ok(());
    }
    if said == requested {
        return Ok(());
    }
    if !cx.served.resource.namespaced {
        // What says nothing for a kind of the cluster is dropped.
        rules::set(object, "namespace", Value::Null);
        return Ok(());
    }
    Err(ApiError::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// Refuses an object of another name than that of the request.
pub(crate) fn match_name(cx: &Context<'_>, object: &mut Value) -> ApiResult<()> {
    let name = rules::text(object, "name");
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            cx.path.name
        )));
    }
    if name != cx.path.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            cx.path.name
        )));
    }
    Ok(())
}
