//! Answers: objects and lists as they are, as tables or as metadata alone, in JSON or YAML.

use super::Context;
use super::read::Found;
use super::write::{self, Written};
use crate::registry::Served;
use crate::request::media::{Accepted, Format, Transform};
use crate::resource::Resource;
use crate::response::{self, Body};
use crate::status::{ApiError, ApiResult};
use crate::store::Entry;
use crate::{table, yaml};
use bytes::Bytes;
use clusterwright_clock::Clock;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Bytes of a list that are written at a time.
const PIECE: usize = 64 * 1024;

/// The answer to a write.
pub(super) fn written(cx: &Context<'_>, code: StatusCode, written: &Written) -> ApiResult<Response<Body>> {
    match written {
        Written::Stored(stored) => entry(cx, code, stored),
        Written::Shown(object) => value(cx, code, object),
    }
}

/// An object that is stored.
pub(super) fn entry(cx: &Context<'_>, code: StatusCode, entry: &Arc<Entry>) -> ApiResult<Response<Body>> {
    let plain = cx.accepted.transform == Transform::None && cx.accepted.format == Format::Json;
    if plain && !cx.accepted.pretty && entry.form == cx.served.form {
        return Ok(response::with(code, response::JSON, Body::whole(entry.bytes())));
    }
    value(cx, code, &write::load(&cx.served, entry))
}

/// An object.
pub(super) fn value(cx: &Context<'_>, code: StatusCode, object: &Value) -> ApiResult<Response<Body>> {
    let shown = match cx.accepted.transform {
        Transform::None => return Ok(encoded(cx, code, object)),
        Transform::Table => {
            check_include(cx)?;
            tabled(cx, std::slice::from_ref(object), &list_meta_of(object))
        }
        Transform::Metadata => metadata_only(object, &cx.accepted.version),
        Transform::MetadataList => {
            return Err(wrong_transform(cx, "PartialObjectMetadataList", "not a list"));
        }
    };
    Ok(encoded(cx, code, &shown))
}

/// 406 for metadata of one where there are many, or the other way round.
fn wrong_transform(cx: &Context<'_>, target: &str, is: &str) -> ApiError {
    let resource = &cx.served.resource;
    let list = is.starts_with("a list");
    let kind = match (&resource.custom, list) {
        (Some(_), true) => "*unstructured.UnstructuredList".to_owned(),
        (Some(_), false) => "*unstructured.Unstructured".to_owned(),
        (None, _) => {
            let package = resource.group.split('.').next().filter(|group| !group.is_empty());
            let kind = if list { &resource.list_kind } else { &resource.kind };
            format!("*{}.{kind}", package.unwrap_or("core"))
        }
    };
    ApiError::new(
        StatusCode::NOT_ACCEPTABLE,
        "NotAcceptable",
        format!("you requested {target}, but the requested object is {is} ({kind})"),
    )
}

/// Refuses an `includeObject` that is none.
fn check_include(cx: &Context<'_>) -> ApiResult<()> {
    let include = cx.request.query.text("includeObject");
    if matches!(include, "" | "None" | "Metadata" | "Object") {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "Unable to convert to Table as requested: includeObject: Invalid value: {include:?}: must be 'Metadata', 'Object', 'None', or empty"
    )))
}

/// A value in the format that was asked for.
pub(super) fn encoded(cx: &Context<'_>, code: StatusCode, value: &Value) -> Response<Body> {
    in_format(&cx.accepted, code, value)
}

/// A value in the format that a client accepts.
pub(super) fn in_format(accepted: &Accepted, code: StatusCode, value: &Value) -> Response<Body> {
    match accepted.format {
        Format::Yaml => response::with(
            code,
            HeaderValue::from_static("application/yaml"),
            Body::whole(yaml::write(value)),
        ),
        Format::Json if accepted.pretty => {
            let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
            text.push('\n');
            response::with(code, response::JSON, Body::whole(text))
        }
        Format::Json => response::json(code, value),
    }
}

/// A list.
pub(super) fn list(cx: &Context<'_>, found: Found) -> ApiResult<Response<Body>> {
    let mut metadata = json!({"resourceVersion": found.version.to_string()});
    if cx.served.resource.custom.is_some() {
        metadata["continue"] = json!("");
    }
    if !found.next.is_empty() {
        metadata["continue"] = json!(found.next);
        if let Some(remaining) = found.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let plain = cx.accepted.format == Format::Json && !cx.accepted.pretty;
    if plain && cx.accepted.transform == Transform::None {
        return Ok(response::with(
            StatusCode::OK,
            response::JSON,
            Body::pieces(Pieces::new(cx, &metadata, found)),
        ));
    }
    let objects = found
        .items
        .iter()
        .map(|(_, entry)| write::load(&cx.served, entry));
    let shown = match cx.accepted.transform {
        Transform::None => {
            let resource = &cx.served.resource;
            let items: Vec<Value> = objects.map(|object| item(&cx.served, object)).collect();
            json!({
                "kind": resource.list_kind,
                "apiVersion": resource.api_version(),
                "metadata": metadata,
                "items": items,
            })
        }
        Transform::Table => {
            check_include(cx)?;
            if found.next.is_empty()
                && let Some(metadata) = metadata.as_object_mut()
            {
                metadata.remove("continue");
            }
            let objects: Vec<Value> = objects.collect();
            tabled(cx, &objects, &metadata)
        }
        Transform::Metadata => return Err(wrong_transform(cx, "PartialObjectMetadata", "a list")),
        Transform::MetadataList => {
            let items: Vec<Value> = objects
                .map(|object| metadata_only(&object, &cx.accepted.version))
                .collect();
            json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{}", cx.accepted.version),
                "metadata": metadata,
                "items": items,
            })
        }
    };
    Ok(encoded(cx, StatusCode::OK, &shown))
}

/// An object as an item of a list: those of built-in kinds don't repeat what they are.
fn item(served: &Served, mut object: Value) -> Value {
    if served.resource.custom.is_none()
        && let Value::Object(map) = &mut object
    {
        map.remove("apiVersion");
        map.remove("kind");
    }
    object
}

fn list_meta_of(object: &Value) -> Value {
    json!({"resourceVersion": object["metadata"]["resourceVersion"]})
}

fn tabled(cx: &Context<'_>, objects: &[Value], metadata: &Value) -> Value {
    table_of(
        &cx.served.resource,
        objects,
        metadata,
        &cx.accepted.version,
        cx.request.query.text("includeObject"),
        cx.inner.clock,
        true,
    )
}

/// Objects as the rows of a table.
pub(super) fn table_of(
    resource: &Resource,
    objects: &[Value],
    metadata: &Value,
    version: &str,
    include: &str,
    clock: Clock,
    headers: bool,
) -> Value {
    table::render(
        resource,
        objects,
        &table::Options {
            version,
            include: table::Include::from_query(include),
            headers,
            metadata,
            now: clock.now(),
        },
    )
}

/// The metadata of an object as an object of its own.
pub(super) fn metadata_only(object: &Value, version: &str) -> Value {
    let mut shown = Map::new();
    shown.insert("kind".to_owned(), json!("PartialObjectMetadata"));
    shown.insert("apiVersion".to_owned(), json!(format!("meta.k8s.io/{version}")));
    shown.insert("metadata".to_owned(), object["metadata"].clone());
    Value::Object(shown)
}

/// A list written piece by piece out of the stored encodings.
struct Pieces {
    served: Arc<Served>,
    items: std::vec::IntoIter<(Arc<str>, Arc<Entry>)>,
    ready: Vec<u8>,
    first: bool,
    done: bool,
}

impl Pieces {
    fn new(cx: &Context<'_>, metadata: &Value, found: Found) -> Self {
        let resource = &cx.served.resource;
        let ready = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            resource.list_kind,
            resource.api_version()
        );
        Self {
            served: cx.served.clone(),
            items: found.items.into_iter(),
            ready: ready.into_bytes(),
            first: true,
            done: false,
        }
    }

    fn push(&mut self, entry: &Entry) {
        if !std::mem::take(&mut self.first) {
            self.ready.push(b',');
        }
        if entry.form != self.served.form {
            let object = item(&self.served, write::load(&self.served, entry));
            self.ready.extend_from_slice(object.to_string().as_bytes());
        } else if self.served.resource.custom.is_some() {
            self.ready.extend_from_slice(entry.json());
        } else {
            self.ready.push(b'{');
            self.ready.extend_from_slice(entry.untyped());
        }
    }
}

impl futures::Stream for Pieces {
    type Item = Result<Bytes, response::Cut>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.done {
            return std::task::Poll::Ready(None);
        }
        while self.ready.len() < PIECE {
            match self.items.next() {
                Some((_, entry)) => self.push(&entry),
                None => {
                    self.ready.extend_from_slice(b"]}\n");
                    self.done = true;
                    break;
                }
            }
        }
        let piece = std::mem::take(&mut self.ready);
        std::task::Poll::Ready(Some(Ok(piece.into())))
    }
}
