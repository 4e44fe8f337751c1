//! Content types: what a body is written in, and what the client accepts.

use crate::status::{ApiError, ApiResult};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

/// The list that the real server names.
const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The list for who sends protobuf, with the way out: `kubectl create` sends JSON only of what it reads from a file.
const WITHOUT_PROTOBUF: &str = "application/json, application/yaml (this server takes no protobuf; with kubectl, use \
    `kubectl create … --dry-run=client -o yaml | kubectl apply -f -`)";

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What the objects of a response are turned into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Transform {
    #[default]
    None,
    Table,
    Metadata,
    MetadataList,
}

/// What the client wants a response to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) format: Format,
    pub(crate) transform: Transform,
    /// The version of `meta.k8s.io` that was asked for.
    pub(crate) version: String,
    pub(crate) pretty: bool,
}

/// Parameters of a media type.
type Parameters = Vec<(String, String)>;

/// `text/x; a=b` as its type and its parameters.
fn parse(text: &str) -> (String, Parameters) {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect();
    (kind, parameters)
}

fn header(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn unsupported(accepted: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}

/// The format of a request's body.
pub(crate) fn content_type(headers: &HeaderMap) -> ApiResult<Format> {
    let (kind, _) = parse(header(headers, header::CONTENT_TYPE));
    match kind.as_str() {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        PROTOBUF => Err(unsupported(WITHOUT_PROTOBUF)),
        _ => Err(unsupported(SUPPORTED)),
    }
}

/// The type of a patch; `strategic` says whether the resource takes strategic merge patches.
pub(crate) fn patch_type(headers: &HeaderMap, strategic: bool) -> ApiResult<PatchType> {
    let text = header(headers, header::CONTENT_TYPE);
    // The real server cuts parameters off, and nothing else.
    match text.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" if strategic => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        // The router of built-in kinds says it, before anything is read.
        _ if strategic => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "415: Unsupported Media Type",
        )
        .with_details(json!({}))),
        _ => Err(unsupported(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

/// Whether the client would take any of the types that are served, whatever it wants made of them.
pub(crate) fn names_a_type(headers: &HeaderMap) -> bool {
    header(headers, header::ACCEPT).split(',').any(|clause| {
        matches!(
            parse(clause).0.as_str(),
            "application/json" | "application/yaml" | PROTOBUF | "application/*" | "*/*"
        )
    })
}

/// What may be answered at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Objects and lists, as they are or turned into tables or metadata.
    Objects,
    /// Nothing is turned into anything.
    Plain,
}

/// Chooses what to answer with.
pub(crate) fn accept(
    headers: &HeaderMap,
    pretty: Option<&str>,
    endpoint: Endpoint,
    watch: bool,
) -> ApiResult<Accepted> {
    let text = header(headers, header::ACCEPT);
    let pretty = match pretty {
        Some(value) if !value.is_empty() => {
            matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
        }
        _ => ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|human| header(headers, header::USER_AGENT).starts_with(human)),
    };
    if text.trim().is_empty() {
        return Ok(Accepted {
            pretty,
            ..Accepted::default()
        });
    }
    let mut clauses: Vec<(f32, String, Parameters)> = text
        .split(',')
        .map(|clause| {
            let (kind, mut parameters) = parse(clause);
            let mut quality = 1.0;
            parameters.retain(|(key, value)| {
                if key == "q" {
                    quality = value.parse().unwrap_or(1.0);
                }
                key != "q"
            });
            (quality, kind, parameters)
        })
        .collect();
    // Stable, so that of two clauses of one quality the first wins.
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, kind, parameters) in &clauses {
        let format = match kind.as_str() {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            _ => continue,
        };
        if let Some(mut accepted) = offer(format, parameters, endpoint) {
            accepted.pretty |= pretty;
            return Ok(accepted);
        }
    }
    let supported = if watch {
        "application/json;stream=watch, application/yaml;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    } else {
        SUPPORTED
    };
    Err(not_acceptable(supported))
}

/// The refusal of what no endpoint can answer.
fn not_acceptable(supported: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_ACCEPTABLE,
        "NotAcceptable",
        format!("only the following media types are accepted: {supported}"),
    )
}

fn offer(format: Format, parameters: &[(String, String)], endpoint: Endpoint) -> Option<Accepted> {
    let mut accepted = Accepted {
        format,
        ..Accepted::default()
    };
    let mut group = "";
    let mut target = "";
    let mut converts = false;
    for (key, value) in parameters {
        match key.as_str() {
            "as" => {
                target = value;
                converts = true;
            }
            "g" => {
                group = value;
                converts = true;
            }
            "v" => {
                accepted.version.clone_from(value);
                converts = true;
            }
            "pretty" => accepted.pretty = value == "1",
            "stream" if !value.is_empty() && value != "watch" => return None,
            "sv" if !value.is_empty() => return None,
            _ => {}
        }
    }
    if !converts {
        return Some(accepted);
    }
    let known = group == "meta.k8s.io" && matches!(accepted.version.as_str(), "v1" | "v1beta1");
    if !known || endpoint == Endpoint::Plain {
        return None;
    }
    accepted.transform = match target {
        "Table" => Transform::Table,
        "PartialObjectMetadata" => Transform::Metadata,
        "PartialObjectMetadataList" => Transform::MetadataList,
        _ => return None,
    };
    Some(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn accepted(value: &str) -> ApiResult<Accepted> {
        accept(&headers(header::ACCEPT, value), None, Endpoint::Objects, false)
    }

    #[test]
    fn takes_the_first_clause_of_the_best_quality_that_it_can_answer() {
        let table = accepted(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        )
        .unwrap();
        assert_eq!(
            (table.transform, table.version.as_str()),
            (Transform::Table, "v1")
        );
        assert_eq!(
            accepted("application/vnd.kubernetes.protobuf, */*")
                .unwrap()
                .format,
            Format::Json
        );
        assert_eq!(
            accepted("application/json;q=0.5, application/yaml")
                .unwrap()
                .format,
            Format::Yaml
        );
        assert_eq!(
            accepted("application/json;as=Pizza;v=v1;g=meta.k8s.io")
                .unwrap_err()
                .code,
            StatusCode::NOT_ACCEPTABLE
        );
        assert_eq!(
            accepted("text/html").unwrap_err().message,
            format!("only the following media types are accepted: {SUPPORTED}")
        );
    }

    #[test]
    fn refuses_protobuf_and_unknown_bodies() {
        let read = |value| content_type(&headers(header::CONTENT_TYPE, value));
        assert_eq!(read("application/json; charset=utf-8"), Ok(Format::Json));
        assert_eq!(
            read(PROTOBUF).unwrap_err().code,
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
        assert_eq!(
            read("text/plain").unwrap_err().code,
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
        let patch = |value| patch_type(&headers(header::CONTENT_TYPE, value), false);
        assert_eq!(patch("application/merge-patch+json"), Ok(PatchType::Merge));
        assert_eq!(
            patch("application/strategic-merge-patch+json").unwrap_err().code,
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
    }
}
