//! Get and list.

use super::select::Selection;
use super::{Context, render};
use crate::request::gojson;
use crate::request::options::{self, ListOptions, Match};
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use crate::store::{At, Entry};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// GET of one object.
pub(super) fn get(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let version = cx.request.query.text("resourceVersion");
    if !version.is_empty() {
        check_known(cx, parse_version(version).map_err(bad_version)?)?;
    }
    let entry = cx.entry()?;
    render::entry(cx, StatusCode::OK, &entry)
}

/// GET of a collection.
pub(super) fn list(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::list_options(&cx.request.query, false)?;
    let selection = Selection::new(cx, &options)?;
    render::list(cx, select(cx, &selection, &options)?)
}

/// What a list found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) version: u64,
    pub(super) items: Vec<(Arc<str>, Arc<Entry>)>,
    /// The token for the rest, where there is one.
    pub(super) next: String,
    pub(super) remaining: Option<usize>,
}

/// Finds what a list asks for.
pub(super) fn select(cx: &Context<'_>, selection: &Selection, options: &ListOptions) -> ApiResult<Found> {
    let start = start(options, &selection.prefix)?;
    if let At::Version(version) = start.at {
        check_known(cx, version)?;
    } else if !options.version.is_empty() && options.continue_token.is_empty() {
        check_known(cx, list_version(&options.version)?)?;
    }
    let listing = cx
        .served
        .shelf
        .list(&selection.prefix, &start.key, start.at)
        .map_err(|_| expired(options, &start, &selection.prefix))?;
    let everything = selection.is_everything();
    let limit = if options.limit == 0 || options.version == "0" {
        usize::MAX
    } else {
        options.limit
    };
    let mut items = Vec::new();
    let mut remaining = None;
    let mut next = String::new();
    let total = listing.items.len();
    for (index, (key, entry)) in listing.items.into_iter().enumerate() {
        if items.len() == limit {
            let last: &Arc<str> = items.last().map_or(&key, |(key, _): &(Arc<str>, Arc<Entry>)| key);
            next = token(listing.version, last, &selection.prefix);
            remaining = everything.then_some(total - index);
            break;
        }
        if everything || selection.matches(&key, &entry) {
            items.push((key, entry));
        }
    }
    Ok(Found {
        version: listing.version,
        items,
        next,
        remaining,
    })
}

/// Where and in which state a list starts.
struct Start {
    at: At,
    key: String,
}

fn start(options: &ListOptions, prefix: &str) -> ApiResult<Start> {
    if options.continue_token.is_empty() {
        let at = if options.matching == Match::Exact {
            At::Version(list_version(&options.version)?)
        } else {
            At::Now
        };
        return Ok(Start {
            at,
            key: String::new(),
        });
    }
    if !options.version.is_empty() && options.version != "0" {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let invalid = |why: &str| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let decoded = URL_SAFE_NO_PAD
        .decode(options.continue_token.trim_end_matches('='))
        .map_err(|_| invalid("illegal base64 data at input byte 0"))?;
    let token: Value = serde_json::from_slice(&decoded)
        .map_err(|error| invalid(&gojson::syntax_error(&decoded).unwrap_or_else(|| error.to_string())))?;
    if token["v"] != "meta.k8s.io/v1" {
        return Err(invalid(&format!(
            "server does not recognize this encoded version {}",
            token["v"]
        )));
    }
    let key = token["start"].as_str().unwrap_or_default();
    if key.is_empty() || key.contains("..") {
        return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
    }
    let version = token["rv"].as_i64().unwrap_or_default();
    Ok(Start {
        // A negative version asks for the rest as it is now.
        at: u64::try_from(version).map_or(At::Now, At::Version),
        key: format!("{prefix}{key}"),
    })
}

/// The token for what comes after `last`.
fn token(version: u64, last: &str, prefix: &str) -> String {
    let start = last.strip_prefix(prefix).unwrap_or(last);
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": format!("{start}\0")});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn expired(options: &ListOptions, start: &Start, prefix: &str) -> ApiError {
    if options.continue_token.is_empty() {
        return ApiError::expired("The resourceVersion for the provided list is too old.");
    }
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let key = start.key.strip_prefix(prefix).unwrap_or(&start.key);
    let token = json!({"v": "meta.k8s.io/v1", "rv": -1, "start": key});
    error.continue_token = URL_SAFE_NO_PAD.encode(token.to_string());
    error
}

/// A resource version that a client sent; the error is what the real server says of one that is none.
pub(super) fn parse_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        )
    })
}

/// A resource version in the options of a list.
fn list_version(text: &str) -> ApiResult<u64> {
    parse_version(text).map_err(|said| ApiError::bad_request(format!("invalid resource version: {said}")))
}

/// The refusal of a version that is none, of a get or a watch.
pub(super) fn bad_version(said: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", said)
}

/// Refuses a version that is yet to come.
fn check_known(cx: &Context<'_>, version: u64) -> ApiResult<()> {
    let current = cx.inner.store.version();
    if version <= current {
        return Ok(());
    }
    Err(too_large(version, current))
}

/// 504 for a version that is yet to come.
fn too_large(version: u64, current: u64) -> ApiError {
    ApiError::new(
        StatusCode::GATEWAY_TIMEOUT,
        "Timeout",
        format!("Timeout: Too large resource version: {version}, current: {current}"),
    )
    .with_details(json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }))
}
