//! Patch, in all four ways.

use super::write::{self, Refused};
use super::{Context, decode, render, update};
use crate::apply;
use crate::builtin::codec::Reader;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::rules;
use crate::patch::{self, strategic};
use crate::request::body::{self, Decoded};
use crate::request::media::{self, Format, PatchType};
use crate::request::options::{self, FieldValidation, WriteOptions};
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use http::Response;
use serde_json::{Value, json};

/// PATCH.
pub(super) fn patch(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let resource = &cx.served.resource;
    let kind = media::patch_type(&cx.request.parts.headers, resource.custom.is_none())?;
    let applies = kind == PatchType::Apply;
    let options = options::write_options(&cx.request.query, "PatchOptions", applies)?;
    let decoded = read(&cx.request.body, kind)?;
    if matches!(kind, PatchType::Merge | PatchType::Strategic) && !decoded.value.is_object() {
        let found = patch::kind_name(&decoded.value);
        let prefix = if kind == PatchType::Merge {
            "error decoding patch: "
        } else {
            ""
        };
        return Err(ApiError::bad_request(format!(
            "{prefix}json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    let (code, written) = update::replace(
        cx,
        &options,
        applies && cx.path.subresource.is_empty(),
        &mut |live| {
            let Some(live) = live else {
                let mut new = configure(cx, None, &decoded, &options)?;
                decode::match_namespace(cx, &mut new)?;
                decode::match_name(cx, &mut new)?;
                if !rules::text(&new, "uid").is_empty() {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {}, and no existing object was found",
                        rules::text(&new, "uid")
                    );
                    return Err(ApiError::conflict(cx.group(), cx.plural(), &cx.path.name, &why));
                }
                return Ok(new);
            };
            let mut new = match kind {
                PatchType::Apply => configure(cx, Some(live), &decoded, &options)?,
                _ => {
                    let mut new = patched(kind, cx, live, &decoded.value)?;
                    check(cx, &mut new, &decoded, kind, options.validation)?;
                    write::track(cx, Some(live), &mut new, &options);
                    new
                }
            };
            decode::match_namespace(cx, &mut new)?;
            decode::match_name(cx, &mut new)?;
            if let Some(warning) = rules::dedup_owners(&mut new) {
                cx.warn(warning);
            }
            Ok(new)
        },
    )?;
    render::written(cx, code, &written)
}

/// Reads a patch.
pub(super) fn read(body: &[u8], kind: PatchType) -> ApiResult<Decoded> {
    match kind {
        PatchType::Apply => configuration(body)
            .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}"))),
        PatchType::Strategic => body::decode(body, Format::Json).map_err(ApiError::bad_request),
        _ => body::decode(body, Format::Json)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}"))),
    }
}

/// Reads a configuration that is applied.
fn configuration(body: &[u8]) -> Result<Decoded, String> {
    // Most are JSON, which is read more quickly as such; what is wrong is said of them as YAML.
    if body.first() == Some(&b'{')
        && let Ok(decoded) = body::decode(body, Format::Json)
        && decoded.duplicates.is_empty()
    {
        return Ok(decoded);
    }
    let decoded = body::decode(body, Format::Yaml)
        .map_err(|error| format!("error converting YAML to JSON: {error}"))?;
    if decoded.value.is_object() || decoded.value.is_null() {
        return Ok(decoded);
    }
    Err(format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
        patch::kind_name(&decoded.value)
    ))
}

/// The live object with a configuration applied to it.
fn configure(
    cx: &Context<'_>,
    live: Option<&Value>,
    decoded: &Decoded,
    options: &WriteOptions,
) -> ApiResult<Value> {
    let force = options.force.unwrap_or_default();
    let mut new = write::with_target(cx, |target| {
        apply::apply(target, live, &decoded.value, &options.manager, force)
    })?;
    if !decoded.duplicates.is_empty() {
        let said = decoded.duplicates.join(", ");
        match options.validation {
            FieldValidation::Strict => {
                return Err(ApiError::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: {said}"
                )));
            }
            FieldValidation::Warn => write::warn(cx, &said),
            FieldValidation::Ignore => {}
        }
    }
    // The configuration was refused where it names unknown fields; what is pruned here came from nowhere else.
    let _ = write::coerce(cx, &mut new, Vec::new(), FieldValidation::Ignore, Reader::Json);
    Ok(new)
}

/// The live object, patched.
fn patched(kind: PatchType, cx: &Context<'_>, live: &Value, patch: &Value) -> ApiResult<Value> {
    match kind {
        PatchType::Json => patch::json::apply(live, patch),
        PatchType::Merge => patch::merge::apply(live, patch),
        PatchType::Strategic => strategic::strategic_merge(&cx.served.resource.schema, live, patch),
        PatchType::Apply => Err(ApiError::internal("apply is no patch of JSON")),
    }
}

/// Decodes a patched object as the body of an update is decoded.
fn check(
    cx: &Context<'_>,
    new: &mut Value,
    decoded: &Decoded,
    kind: PatchType,
    validation: FieldValidation,
) -> ApiResult<()> {
    let resource = &cx.served.resource;
    let duplicates = decoded
        .duplicates
        .iter()
        .map(|said| {
            if kind == PatchType::Json {
                format!("json patch {said}")
            } else {
                said.clone()
            }
        })
        .collect();
    let shown = if kind == PatchType::Strategic {
        apply::go_text(&decoded.value)
    } else {
        shown(cx, new, &decoded.value)
    };
    let said = |key: &str| new[key].as_str().unwrap_or_default();
    if said("kind") != &*resource.kind || said("apiVersion") != resource.api_version() {
        return Err(invalid(
            &json!(shown),
            &decode::unknown_kind(cx, said("apiVersion"), said("kind")),
        ));
    }
    let reader = if kind == PatchType::Strategic {
        Reader::Converter
    } else {
        Reader::Json
    };
    write::coerce(cx, new, duplicates, validation, reader).map_err(|refused| {
        let why = match refused {
            Refused::Typed(said) => said,
            Refused::Strict(said) => format!("strict decoding error: {}", said.join(", ")),
        };
        invalid(&json!(shown), &why)
    })
}

/// A patched object as a message shows it: in the order in which the real server has its fields, as long as the
/// patch has not touched them.
fn shown(cx: &Context<'_>, object: &Value, patch: &Value) -> String {
    let touched = match patch {
        Value::Array(operations) => operations.iter().any(|operation| {
            operation["path"]
                .as_str()
                .is_some_and(|path| path.starts_with("/metadata"))
        }),
        other => other.get("metadata").is_some(),
    };
    let fields = object.as_object().into_iter().flatten().map(|(key, value)| {
        if key == "metadata" && !touched && cx.served.resource.custom.is_none() {
            format!("\"metadata\":{}", rules::in_order(value))
        } else {
            format!("{}:{value}", json!(key))
        }
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn invalid(patch: &Value, why: &str) -> ApiError {
    let error = FieldError::invalid(&Path::new("patch"), patch, why);
    ApiError::invalid("", "", "", &FieldErrors::from([error]))
}
