//! What every write has in common: objects read from the store, decoded into the served form, judged, and stored.

use super::Context;
use crate::builtin::codec::{self, Reader};
use crate::field::FieldErrors;
use crate::metadata::rules;
use crate::registry::{Served, Table};
use crate::request::options::{FieldValidation, WriteOptions};
use crate::schema;
use crate::status::{ApiError, ApiResult};
use crate::store::{Draft, Entry, encode};
use crate::{apply, crd, yaml};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of an object that are stored at most: etcd's limit of a request.
const MAX_OBJECT: usize = 1_572_864;

/// The object of an entry in the form of `served`.
pub(crate) fn load(served: &Served, entry: &Entry) -> Value {
    let mut object = entry.value();
    if entry.form == served.form {
        return object;
    }
    let hub = served.hub.as_deref().unwrap_or(served);
    let resource = &served.resource;
    if entry.form != hub.form {
        // Written by another version, or under an earlier definition.
        if resource.custom.is_none() {
            let from = object["apiVersion"].as_str().unwrap_or_default().to_owned();
            resource.strategy.convert(&mut object, &from);
        }
        object["apiVersion"] = json!(hub.resource.api_version());
        object["kind"] = json!(resource.kind);
        schema::prune(&hub.resource.schema, &mut object);
        hub.resource.strategy.default(&mut object);
    }
    if resource.custom.is_some() {
        crd::convert(&mut object, resource);
    }
    object
}

/// The same object and version, encoded as it would be today.
pub(crate) fn in_present_form(served: &Served, entry: &Entry) -> Entry {
    encode_for(served, &load(served, entry)).finish(entry.version)
}

/// Encodes an object of `served` as it is stored.
pub(crate) fn encode_for(served: &Served, object: &Value) -> Draft {
    let Some(hub) = &served.hub else {
        return encode(object, served.form);
    };
    let mut object = object.clone();
    crd::convert(&mut object, &hub.resource);
    hub.resource.strategy.default(&mut object);
    encode(&object, hub.form)
}

/// The time of now as objects carry it.
pub(crate) fn now(cx: &Context<'_>) -> Value {
    json!(cx.inner.clock.now_seconds().to_string())
}

/// Why what a client sent could not be taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It does not have the types of the kind; the decoder's text.
    Typed(String),
    /// It has fields that are unknown or there twice, and the client wants to be told by a refusal.
    Strict(Vec<String>),
}

/// Prunes, types and defaults what a client sent; unknown and duplicate fields are refused, warned of or ignored.
/// `reader` is what puts the object into a Go type in the real server.
pub(crate) fn coerce(
    cx: &Context<'_>,
    object: &mut Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
    reader: Reader,
) -> Result<(), Refused> {
    let resource = &cx.served.resource;
    let mut said = duplicates;
    said.extend(
        schema::prune(&resource.schema, object)
            .into_iter()
            .map(|path| format!("unknown field \"{path}\"")),
    );
    if resource.custom.is_none() {
        codec::typed(&resource.schema, object, reader).map_err(Refused::Typed)?;
    } else {
        crd::typed(&resource.schema, object).map_err(Refused::Typed)?;
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => said.iter().for_each(|text| warn(cx, text)),
        FieldValidation::Strict if said.is_empty() => {}
        FieldValidation::Strict => return Err(Refused::Strict(said)),
    }
    resource.strategy.default(object);
    rules::normalise(object);
    Ok(())
}

/// Warns of what strict decoding refuses, of each line by itself.
pub(crate) fn warn(cx: &Context<'_>, said: &str) {
    for line in said.strip_prefix(yaml::DUPLICATES).unwrap_or(said).lines() {
        cx.warn(line.trim());
    }
}

/// Notes the writer as the owner of the fields that it changed.
pub(crate) fn track(cx: &Context<'_>, live: Option<&Value>, new: &mut Value, options: &WriteOptions) {
    let manager = manager(cx, options);
    with_target(cx, |target| apply::track_update(target, live, new, &manager));
}

/// The name of the manager of a write.
pub(crate) fn manager(cx: &Context<'_>, options: &WriteOptions) -> String {
    if !options.manager.is_empty() {
        return options.manager.clone();
    }
    let agent = cx.request.user_agent();
    let name = agent.split('/').next().unwrap_or_default();
    name.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// Runs `work` on the description of the object that field management needs.
pub(crate) fn with_target<R>(cx: &Context<'_>, work: impl FnOnce(&apply::Target<'_>) -> R) -> R {
    let resource = &cx.served.resource;
    let versions = Versions {
        table: &cx.table,
        served: &cx.served,
    };
    work(&apply::Target {
        schema: &resource.schema,
        api_version: &resource.api_version(),
        kind: &resource.kind,
        subresource: &cx.path.subresource,
        custom: resource.custom.is_some(),
        reset: apply::reset_fields(resource, &cx.path.subresource),
        versions: &versions,
        now: cx.inner.clock.now_seconds(),
    })
}

/// The schemas of the other versions of a resource.
struct Versions<'a> {
    table: &'a Table,
    served: &'a Served,
}

impl apply::Versions for Versions<'_> {
    fn schema(&self, api_version: &str) -> Option<schema::SchemaRef> {
        let this = &self.served.resource;
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.table
            .find(group, version, &this.plural)
            .map(|served| served.resource.schema.clone())
    }
}

/// The refusal for what validation found, where it found something.
pub(crate) fn refuse(cx: &Context<'_>, name: &str, errors: &FieldErrors) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let resource = &cx.served.resource;
    // The real server names the kind that it works with.
    let group = resource
        .strategy
        .stored_as()
        .map_or(cx.group(), |(group, _)| group);
    Err(ApiError::invalid(group, &resource.kind, name, errors))
}

/// Encodes an object, where it is not too large.
pub(crate) fn draft(cx: &Context<'_>, object: &Value) -> ApiResult<Draft> {
    let draft = encode_for(&cx.served, object);
    if draft.len() > MAX_OBJECT {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "etcdserver: request is too large",
        ));
    }
    Ok(draft)
}

/// What came of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// Stored, or found to be stored already.
    Stored(Arc<Entry>),
    /// What a dry run would have stored, or what an update removed for good.
    Shown(Value),
}

/// An entry in the form of this request, for the answer to it.
pub(crate) fn version_of(entry: &Entry) -> Value {
    json!(entry.version.to_string())
}
