//! What the server does with a request: one function for each verb, all of them without waiting for anything.

mod create;
mod decode;
mod delete;
mod patch;
mod pods;
mod read;
mod render;
mod reviews;
mod scale;
mod select;
mod system;
mod tokens;
mod update;
mod watch;
mod write;

pub(crate) use delete::delete_for_good;
pub(crate) use system::is_public;
pub(crate) use write::in_present_form;

use crate::access::{Attributes, Target};
use crate::auth::User;
use crate::crd;
use crate::faults::Struck;
use crate::metadata::names;
use crate::registry::{Served, Table};
use crate::request::media::{self, Accepted, Endpoint};
use crate::request::path::ResourcePath;
use crate::request::query::Query;
use crate::resource::{Subresource, Surroundings};
use crate::response::{self, Body};
use crate::server::Inner;
use crate::status::{ApiError, ApiResult};
use crate::store::Entry;
use bytes::Bytes;
use clusterwright_clock::Clock;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::sync::Arc;

/// A request, its path and query taken apart.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) user: Arc<User>,
    pub(crate) path: Option<ResourcePath>,
    pub(crate) query: Query,
    /// As RBAC names it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; in lower
    /// case the HTTP method for paths that name no resource.
    pub(crate) verb: &'static str,
}

impl Request {
    pub(crate) fn new(parts: Parts, body: Bytes, user: Arc<User>) -> Self {
        let path = ResourcePath::parse(parts.uri.path());
        let query = Query::parse(parts.uri.query());
        let verb = verb(&parts.method, path.as_ref(), &query);
        Self {
            parts,
            body,
            user,
            path,
            query,
            verb,
        }
    }

    /// What the request asks leave for.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        let target = match &self.path {
            None => Target::Path(self.parts.uri.path()),
            Some(path) => {
                let mut name = &*path.name;
                if name.is_empty() && matches!(self.verb, "list" | "watch") {
                    name = named_by_selector(self.query.text("fieldSelector"));
                }
                // A namespace counts as being in itself.
                let itself = path.group.is_empty() && path.resource == "namespaces";
                Target::Resource {
                    group: &path.group,
                    resource: &path.resource,
                    subresource: &path.subresource,
                    namespace: if itself { &path.name } else { &path.namespace },
                    name,
                }
            }
        };
        Attributes {
            user: &self.user,
            verb: self.verb,
            target,
        }
    }

    /// The client's name for itself.
    pub(crate) fn user_agent(&self) -> &str {
        self.parts
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// The name that a field selector is for, where it is for one.
fn named_by_selector(selector: &str) -> &str {
    let term = selector
        .split(',')
        .find_map(|term| term.strip_prefix("metadata.name="));
    let name = term.map(|name| name.strip_prefix('=').unwrap_or(name));
    name.filter(|name| names::path_segment(name).is_empty())
        .unwrap_or_default()
}

fn verb(method: &Method, path: Option<&ResourcePath>, query: &Query) -> &'static str {
    let named = path.is_some_and(|path| !path.name.is_empty());
    match (method.as_str(), path) {
        ("GET", Some(path)) if path.watch || query.flag("watch") == Some(true) && !named => "watch",
        ("GET", Some(_)) if !named => "list",
        ("HEAD", None) => "head",
        ("GET" | "HEAD", _) => "get",
        ("POST", Some(_)) => "create",
        ("PUT", Some(_)) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", Some(_)) if !named => "deletecollection",
        ("DELETE", _) => "delete",
        ("POST", None) => "post",
        ("PUT", None) => "put",
        ("OPTIONS", _) => "options",
        _ => "",
    }
}

/// A request for a resource, with all that its handlers need.
pub(crate) struct Context<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) request: &'a Request,
    pub(crate) path: &'a ResourcePath,
    pub(crate) table: Arc<Table>,
    pub(crate) served: Arc<Served>,
    pub(crate) accepted: Accepted,
    pub(crate) warnings: RefCell<Vec<String>>,
    pub(crate) struck: &'a Struck,
}

impl Context<'_> {
    /// The surroundings of the object that the request is about.
    pub(crate) fn around(&self, dry_run: bool) -> Around<'_> {
        Around {
            inner: self.inner,
            dry_run,
        }
    }

    /// The same request with another object at its centre, as a write that follows from it has.
    pub(crate) fn about<'b>(&'b self, served: Arc<Served>, path: &'b ResourcePath) -> Context<'b> {
        Context {
            inner: self.inner,
            request: self.request,
            path,
            table: self.table.clone(),
            served,
            accepted: self.accepted.clone(),
            warnings: RefCell::default(),
            struck: self.struck,
        }
    }

    /// The group of the resource.
    pub(crate) fn group(&self) -> &str {
        &self.served.resource.group
    }

    /// The plural of the resource.
    pub(crate) fn plural(&self) -> &str {
        &self.served.resource.plural
    }

    /// The subresource asked for, where there is one.
    pub(crate) fn subresource(&self) -> Option<&Subresource> {
        self.served.resource.subresource(&self.path.subresource)
    }

    /// What is stored of the object that the path names, or 404.
    pub(crate) fn entry(&self) -> ApiResult<Arc<Entry>> {
        let entry = self.served.shelf.get(&self.path.key());
        entry.ok_or_else(|| self.not_found())
    }

    /// 404 for the object at the path.
    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(self.group(), self.plural(), &self.path.name)
    }

    /// 409 for an object that changed in the meantime.
    pub(crate) fn modified(&self, name: &str) -> ApiError {
        ApiError::conflict(
            self.group(),
            self.plural(),
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
}

/// What strategies see of the server while they work on a request.
pub(crate) struct Around<'a> {
    inner: &'a Inner,
    dry_run: bool,
}

impl Surroundings for Around<'_> {
    fn clock(&self) -> Clock {
        self.inner.clock
    }

    fn dry_run(&self) -> bool {
        self.dry_run
    }

    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let table = self.inner.registry.table();
        let served = table.any_version(group, plural)?;
        let entry = served.shelf.get(&crate::request::path::key(namespace, name))?;
        Some(write::load(served, &entry))
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let table = self.inner.registry.table();
        let Some(served) = table.any_version(group, plural) else {
            return Vec::new();
        };
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        served
            .shelf
            .list(&prefix, "", crate::store::At::Now)
            .map(|listing| listing.items)
            .unwrap_or_default()
            .iter()
            .map(|(_, entry)| write::load(served, entry))
            .collect()
    }
}

/// Answers a request.
pub(crate) fn handle(inner: &Arc<Inner>, request: &Request, struck: &Struck) -> Response<Body> {
    if let Err(refusal) = inner.access.require(&request.attributes()) {
        return response::refusal(&refusal);
    }
    let Some(path) = &request.path else {
        return system::handle(inner, request);
    };
    let table = inner.registry.table();
    let Some(served) = table.find(&path.group, &path.version, &path.resource).cloned() else {
        return unknown_resource(&table, path);
    };
    let resource = &served.resource;
    let misplaced = resource.namespaced && path.namespace.is_empty() && !path.name.is_empty()
        || !resource.namespaced && !path.namespace.is_empty();
    if path.rest {
        return response::refusal(&no_such_resource());
    }
    if misplaced || !path.subresource.is_empty() && resource.subresource(&path.subresource).is_none() {
        return match &resource.custom {
            None => response::refusal(&no_such_resource()),
            Some(_) if misplaced => not_found_page(),
            Some(_) => response::refusal(&ApiError::not_found(&path.group, &path.resource, &path.name)),
        };
    }
    let endpoint = if served.resource.verbs.is_empty() {
        Endpoint::Plain
    } else {
        Endpoint::Objects
    };
    let watches = request.verb == "watch";
    let streams = pods::is_stream(resource, &path.subresource);
    let accepted = media::accept(
        &request.parts.headers,
        request.query.get("pretty"),
        endpoint,
        watches,
    );
    let accepted = match accepted {
        Ok(accepted) => accepted,
        // What a connection is upgraded to is no matter of types.
        Err(_) if streams && path.subresource != "log" => Accepted::default(),
        Err(refusal) => {
            // The router of built-in kinds looks at types alone, and before all else.
            let by_router =
                served.resource.custom.is_none() && !streams && !media::names_a_type(&request.parts.headers);
            return response::refusal(&if by_router { router_refusal() } else { refusal });
        }
    };
    let cx = Context {
        inner,
        request,
        path,
        table,
        served,
        accepted,
        warnings: RefCell::default(),
        struck,
    };
    if let Some(warning) = crd::deprecation(&cx.served.resource) {
        cx.warn(warning);
    }
    let mut response = route(&cx).unwrap_or_else(|refusal| response::refusal(&refusal));
    for warning in cx.warnings.take() {
        response::warn(&mut response, &warning);
    }
    response
}

fn route(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let resource = &cx.served.resource;
    let verb = cx.request.verb;
    if cx.path.subresource.is_empty() {
        let allowed = resource.verbs.iter().any(|allowed| **allowed == *verb)
            || verb == "list" && resource.verbs.iter().any(|allowed| &**allowed == "list");
        let well_placed = match verb {
            "create" => cx.path.name.is_empty() && resource.namespaced != cx.path.namespace.is_empty(),
            "update" | "patch" => !cx.path.name.is_empty(),
            "deletecollection" => resource.namespaced != cx.path.namespace.is_empty(),
            _ => true,
        };
        if !allowed || !well_placed {
            // What is only asked has no path outside of namespaces.
            let nowhere = resource.namespaced && cx.path.namespace.is_empty() && reviews::is_review(resource);
            return Err(if nowhere {
                no_such_resource()
            } else {
                not_allowed()
            });
        }
        return match verb {
            "get" => read::get(cx),
            "list" => read::list(cx),
            "watch" => watch::watch(cx),
            "create" if reviews::is_review(resource) => reviews::create(cx),
            "create" if pods::is_binding(resource) => pods::bind_by_name(cx),
            "create" => create::create(cx),
            "update" => update::update(cx),
            "patch" => patch::patch(cx),
            "delete" => delete::delete(cx),
            "deletecollection" => delete::delete_collection(cx),
            _ => Err(not_allowed()),
        };
    }
    let allowed = cx
        .subresource()
        .is_some_and(|sub| sub.verbs.iter().any(|allowed| **allowed == *verb));
    if !allowed || cx.path.name.is_empty() {
        return Err(not_allowed());
    }
    if pods::is_stream(resource, &cx.path.subresource) {
        return pods::stream(cx);
    }
    match (&*cx.path.subresource, verb) {
        ("scale", _) => scale::scale(cx),
        (_, "get") => read::get(cx),
        (_, "update") => update::update(cx),
        (_, "patch") => patch::patch(cx),
        ("eviction", "create") => pods::evict(cx),
        ("binding", "create") => pods::bind(cx),
        ("token", "create") => tokens::create(cx),
        _ => Err(not_allowed()),
    }
}

/// What the router of built-in kinds says where no type will do.
fn router_refusal() -> ApiError {
    ApiError::new(
        StatusCode::NOT_ACCEPTABLE,
        "NotAcceptable",
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
    .with_details(json!({}))
}

fn not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )
    .with_details(json!({}))
}

/// What the real server says of a resource that it does not know: built-in groups say so themselves.
fn unknown_resource(table: &Table, path: &ResourcePath) -> Response<Body> {
    let builtin = |served: &Arc<Served>| {
        served.resource.custom.is_none()
            && *served.resource.group == path.group
            && *served.resource.version == path.version
    };
    if table.all.iter().any(builtin) {
        response::refusal(&no_such_resource())
    } else {
        not_found_page()
    }
}

/// 404 of a path below a known one.
pub(crate) fn no_such_resource() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        "the server could not find the requested resource",
    )
    .with_details(json!({}))
}

/// What the real server says of paths that it does not know.
pub(crate) fn not_found_page() -> Response<Body> {
    response::with(
        StatusCode::NOT_FOUND,
        response::PLAIN,
        Body::whole("404 page not found\n"),
    )
}
