//! Paths that name no resource: version, health, discovery and OpenAPI.

use super::{Request, no_such_resource, not_found_page, render};
use crate::auth::ISSUER;
use crate::request::media::{self, Endpoint};
use crate::resource::Resource;
use crate::response::{self, Body};
use crate::server::Inner;
use crate::status::{ApiError, ApiResult};
use crate::{discovery, openapi};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// The version that this server answers as.
pub(crate) const VERSION: &str = "v1.36.3";

/// Paths that everybody may read.
pub(crate) fn is_public(path: &str) -> bool {
    ["/healthz", "/livez", "/readyz", "/version"]
        .iter()
        .any(|public| {
            path == *public
                || path
                    .strip_prefix(public)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
}

/// Answers what names no resource.
pub(super) fn handle(inner: &Arc<Inner>, request: &Request) -> Response<Body> {
    if !matches!(request.parts.method, Method::GET | Method::HEAD) {
        return not_found_page();
    }
    match request.parts.uri.path() {
        "/version" | "/version/" => response::json(StatusCode::OK, &version()),
        path if is_public(path) => health(path, request),
        "/openid/v1/jwks" => keys(inner, request).unwrap_or_else(|refusal| response::refusal(&refusal)),
        "/.well-known/openid-configuration" => response::json(StatusCode::OK, &issuer(request)),
        path => discover(inner, request, path),
    }
}

fn header(request: &Request, name: HeaderName) -> &str {
    let value = request.parts.headers.get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The keys that tokens of service accounts are checked with.
fn keys(inner: &Arc<Inner>, request: &Request) -> ApiResult<Response<Body>> {
    const KIND: &str = "application/jwk-set+json";
    let accept = header(request, ACCEPT);
    let accepted = |clause: &str| {
        let kind = clause.split(';').next().unwrap_or_default().trim();
        [KIND, "application/*", "*/*", ""].contains(&kind)
    };
    if !accept.split(',').any(accepted) {
        let said = format!("406: Not Acceptable\n\nAvailable representations: {KIND}");
        return Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", said).with_details(json!({})));
    }
    let mut response = response::json(StatusCode::OK, &inner.authenticator.keys()?);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(KIND));
    Ok(response)
}

/// Who issues tokens of service accounts.
fn issuer(request: &Request) -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("https://{}/openid/v1/jwks", address(request)),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// Where the client found this server.
fn address(request: &Request) -> &str {
    let authority = request.parts.uri.authority().map(http::uri::Authority::as_str);
    match (header(request, HOST), authority) {
        ("", authority) => authority.unwrap_or("127.0.0.1:443"),
        (host, _) => host,
    }
}

/// Discovery and OpenAPI.
fn discover(inner: &Arc<Inner>, request: &Request, path: &str) -> Response<Body> {
    let table = inner.registry.table();
    let resources: Vec<Arc<Resource>> = table.all.iter().map(|served| served.resource.clone()).collect();
    let query = request.parts.uri.query().unwrap_or_default();
    let accept = header(request, ACCEPT);
    if let Some(answer) = openapi::answer(path, query, accept, &resources, inner.documents.as_deref()) {
        return answer.map(Body::whole);
    }
    let Some(answer) = discovery::answer(path, accept, &resources, address(request)) else {
        return unknown(path, &resources);
    };
    let tag = answer.etag.as_deref().unwrap_or_default();
    if !tag.is_empty() && header(request, IF_NONE_MATCH) == tag {
        let mut response = response::with(StatusCode::NOT_MODIFIED, response::JSON, Body::whole(""));
        // Caches copy the headers of a 304 over those of what they hold; kubectl's would forget what it holds.
        response.headers_mut().remove(CONTENT_TYPE);
        if let Ok(tag) = HeaderValue::from_str(tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        return response;
    }
    let Some(content_type) = answer.content_type else {
        let pretty = request.query.get("pretty");
        return match media::accept(&request.parts.headers, pretty, Endpoint::Plain, false) {
            Ok(accepted) => render::in_format(&accepted, StatusCode::OK, &answer.body),
            Err(refusal) => response::refusal(&refusal),
        };
    };
    let mut response = response::json(StatusCode::OK, &answer.body);
    for (name, text) in [(CONTENT_TYPE, content_type), (ETAG, tag)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// What the real server says of versions that a known group does not have, and of all else.
fn unknown(path: &str, resources: &[Arc<Resource>]) -> Response<Body> {
    let mut parts = path.trim_matches('/').split('/');
    let group = match parts.next() {
        Some("api") => Some(""),
        Some("apis") => parts.next(),
        _ => None,
    };
    if parts.next().is_some()
        && resources
            .iter()
            .any(|resource| resource.custom.is_none() && group == Some(&resource.group))
    {
        return response::refusal(&no_such_resource());
    }
    not_found_page()
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
    })
}

/// What `?verbose` names; nothing here can be unhealthy while it answers.
const CHECKS: [&str; 2] = ["ping", "log"];

fn health(path: &str, request: &Request) -> Response<Body> {
    let mut parts = path.trim_matches('/').split('/');
    let endpoint = parts.next().unwrap_or_default();
    let body = match parts.next() {
        Some(check) if CHECKS.contains(&check) => "ok".to_owned(),
        Some(_) => return not_found_page(),
        None if request.query.get("verbose").is_some() => {
            let mut text = String::new();
            for check in CHECKS {
                text.push_str("[+]");
                text.push_str(check);
                text.push_str(" ok\n");
            }
            text.push_str(endpoint);
            text.push_str(" check passed\n");
            text
        }
        None => "ok".to_owned(),
    };
    response::with(StatusCode::OK, response::PLAIN, Body::whole(body))
}
