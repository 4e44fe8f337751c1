//! OpenAPI. In version 3, an index of documents, and one document for each group and version. Documents of built-in kinds are
//! rebuilt from the tables, which hold structure and no prose; where the published documents are at hand, their
//! descriptions are put back, for `kubectl explain`. In version 2, the definitions.

mod paths;
mod schemas;
mod v2;

use crate::builtin::KUBERNETES_VERSION;
use crate::resource::Resource;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// What the paths of documents start with.
const ROOT: &str = "/openapi/v3";

/// A document that is served.
struct Document<'a> {
    /// The group; none for documents that are of no group.
    group: Option<&'a str>,
    version: &'a str,
    resources: Vec<&'a Resource>,
}

/// The answer to a GET of `path` (with the part after `?` in `query`), or none where it is no path of OpenAPI.
/// `documents` is the folder of the published documents (`openapi-spec/v3`), where there is one.
pub fn answer(
    path: &str,
    query: &str,
    accept: &str,
    resources: &[Arc<Resource>],
    documents: Option<&Path>,
) -> Option<Response<Bytes>> {
    if path == "/openapi/v2" {
        return v2::answer(&all(resources), accept, documents);
    }
    let name = path.strip_prefix(ROOT)?.trim_start_matches('/');
    let all = all(resources);
    if name.is_empty() {
        return Some(index(&all, documents));
    }
    let Some(document) = all.get(name) else {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Some(response);
    };
    let hash = document.hash(name, documents.is_some());
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("hash="));
    let etag = format!("\"{hash}\"");
    if asked.is_some_and(|asked| asked != hash) {
        let location = format!("{ROOT}/{name}?hash={hash}");
        return respond(
            StatusCode::MOVED_PERMANENTLY,
            &etag,
            Some(&location),
            false,
            Bytes::new(),
        );
    }
    let body = document.body(name, documents).to_string();
    respond(StatusCode::OK, &etag, None, asked.is_some(), Bytes::from(body))
}

fn respond(
    code: StatusCode,
    etag: &str,
    location: Option<&str>,
    lasting: bool,
    body: Bytes,
) -> Option<Response<Bytes>> {
    let caching = if lasting {
        "public, immutable"
    } else {
        "no-cache, private"
    };
    let mut builder = Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json")
        .header(CACHE_CONTROL, caching)
        .header(ETAG, etag);
    if let Some(location) = location {
        builder = builder.header(LOCATION, location);
    }
    builder.body(body).ok()
}

fn plain(code: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// All documents by name, as `apis/apps/v1`.
fn all(resources: &[Arc<Resource>]) -> BTreeMap<String, Document<'_>> {
    let mut all: BTreeMap<String, Document<'_>> = BTreeMap::new();
    for name in ["api", "apis", "version"] {
        let empty = Document {
            group: None,
            version: "",
            resources: Vec::new(),
        };
        all.insert(name.to_owned(), empty);
    }
    for resource in resources {
        let name = if resource.group.is_empty() {
            format!("api/{}", resource.version)
        } else {
            let group = format!("apis/{}", resource.group);
            if resource.custom.is_none() {
                all.entry(group.clone()).or_insert_with(|| Document {
                    group: Some(&resource.group),
                    version: "",
                    resources: Vec::new(),
                });
            }
            format!("{group}/{}", resource.version)
        };
        all.entry(name)
            .or_insert_with(|| Document {
                group: Some(&resource.group),
                version: &resource.version,
                resources: Vec::new(),
            })
            .resources
            .push(resource);
    }
    all
}

/// Upper-case hexadecimal digits.
fn digits(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

fn hash_of(body: &[u8]) -> String {
    digits(&Sha512::digest(body))
}

fn index(all: &BTreeMap<String, Document<'_>>, documents: Option<&Path>) -> Response<Bytes> {
    let mut paths = Map::new();
    for (name, document) in all {
        let hash = document.hash(name, documents.is_some());
        let url = format!("{ROOT}/{name}?hash={hash}");
        paths.insert(name.clone(), json!({"serverRelativeURL": url}));
    }
    plain(StatusCode::OK, Bytes::from(json!({"paths": paths}).to_string()))
}

impl Document<'_> {
    fn is_custom(&self) -> bool {
        self.resources.iter().any(|resource| resource.custom.is_some())
    }

    /// A hash of all that the document is made of; the document itself need not be made for it.
    fn hash(&self, name: &str, described: bool) -> String {
        let mut digest = Sha512::new();
        digest.update(format!(
            "{KUBERNETES_VERSION} {} {name} {described}",
            env!("CARGO_PKG_VERSION")
        ));
        for custom in self
            .resources
            .iter()
            .filter_map(|resource| resource.custom.as_ref())
        {
            digest.update(custom.definition["spec"].to_string());
        }
        digits(&digest.finalize())
    }

    fn paths(&self, name: &str) -> Value {
        match self.group {
            Some(group) if !self.version.is_empty() => paths::of(group, self.version, &self.resources),
            _ => paths::of_discovery(name),
        }
    }

    fn body(&self, name: &str, documents: Option<&Path>) -> Value {
        let paths = self.paths(name);
        let schemas = schemas::of(self, &paths, name, documents);
        if self.is_custom() {
            return json!({
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
                "paths": paths,
                "components": {"schemas": schemas},
            });
        }
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "unversioned"},
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}},
            },
        })
    }
}

#[cfg(test)]
mod tests;
