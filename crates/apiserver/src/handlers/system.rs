//! Paths that name no resource: version, health, discovery and OpenAPI.

use super::{Request, not_found_page};
use crate::response::{self, Body};
use crate::server::Inner;
use http::{Method, Response, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// The version that this server answers as.
pub(crate) const VERSION: &str = "v1.36.3";

/// Paths that everybody may read.
pub(super) fn is_public(path: &str) -> bool {
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
pub(super) fn handle(_inner: &Arc<Inner>, request: &Request) -> Response<Body> {
    if !matches!(request.parts.method, Method::GET | Method::HEAD) {
        return not_found_page();
    }
    match request.parts.uri.path() {
        "/version" | "/version/" => response::json(StatusCode::OK, &version()),
        path if is_public(path) => health(path, request),
        _ => not_found_page(),
    }
}

fn version() -> serde_json::Value {
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
            let mut text: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
            text.push_str(endpoint);
            text.push_str(" check passed\n");
            text
        }
        None => "ok".to_owned(),
    };
    response::with(StatusCode::OK, response::PLAIN, Body::whole(body))
}
