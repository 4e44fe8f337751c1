//! The scale subresource of built-in and custom kinds: an `autoscaling/v1` Scale that is made of its parent.

use super::write::{self, Written};
use super::{Context, render, update};
use crate::apply::{self, ReplicasPath};
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::rules;
use crate::patch;
use crate::request::media::{self, PatchType};
use crate::request::{body, options};
use crate::resource::ScalePaths;
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

/// GET, PUT and PATCH of the scale.
pub(super) fn scale(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let paths = cx
        .subresource()
        .and_then(|sub| sub.scale.clone())
        .ok_or_else(|| cx.not_found())?;
    match cx.request.verb {
        "get" => {
            let entry = cx.entry()?;
            let parent = write::load(&cx.served, &entry);
            let replicas = at(&parent, &paths.spec_replicas);
            if cx.served.resource.custom.is_some() && replicas.is_null() {
                return Err(ApiError::internal(format!(
                    "the spec replicas field {:?} does not exist",
                    paths.spec_replicas
                )));
            }
            render::value(cx, StatusCode::OK, &of(cx, &parent, &paths))
        }
        "update" => {
            let options = options::write_options(&cx.request.query, "UpdateOptions", false)?;
            let format = media::content_type(&cx.request.parts.headers)?;
            let decoded = body::decode(&cx.request.body, format).map_err(|error| {
                ApiError::bad_request(format!(
                    "the object provided is unrecognized (must be of type Scale): couldn't get version/kind; json parse error: {error}"
                ))
            })?;
            set(
                cx,
                &paths,
                &options,
                &Change::Make(&|_| Ok(decoded.value.clone())),
            )
        }
        _ => {
            let kind = media::patch_type(&cx.request.parts.headers, cx.served.resource.custom.is_none())?;
            let options =
                options::write_options(&cx.request.query, "PatchOptions", kind == PatchType::Apply)?;
            let decoded = super::patch::read(&cx.request.body, kind)?;
            let change: &dyn Fn(&Value) -> ApiResult<Value> = &|scale| match kind {
                PatchType::Json => patch::json::apply(scale, &decoded.value),
                // A Scale has no lists, so that all other patches come to the same.
                _ => patch::merge::apply(scale, &decoded.value),
            };
            match kind {
                PatchType::Apply => set(cx, &paths, &options, &Change::Apply(&decoded.value)),
                _ => set(cx, &paths, &options, &Change::Make(change)),
            }
        }
    }
}

/// The steps of a path such as `.spec.replicas`.
fn steps(path: &str) -> Vec<&str> {
    path.split('.').filter(|step| !step.is_empty()).collect()
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    steps(path).into_iter().fold(object, |at, step| &at[step])
}

/// The scale of an object.
fn of(cx: &Context<'_>, parent: &Value, paths: &ScalePaths) -> Value {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        let value = &parent["metadata"][key];
        if !value.is_null() {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let number = |path: &str| at(parent, path).as_i64().unwrap_or_default();
    let mut spec = json!({});
    if number(&paths.spec_replicas) != 0 {
        spec["replicas"] = json!(number(&paths.spec_replicas));
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = match &paths.selector {
        Some(path) => at(parent, path).as_str().unwrap_or_default().to_owned(),
        None if cx.served.resource.custom.is_none() => selector_text(&parent["spec"]["selector"]),
        None => String::new(),
    };
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    })
}

/// A label selector as text: of a map of labels, or with `matchLabels` and `matchExpressions`.
pub(super) fn selector_text(selector: &Value) -> String {
    let empty = Map::new();
    let map = selector.as_object().unwrap_or(&empty);
    let structured = map.contains_key("matchLabels") || map.contains_key("matchExpressions");
    let labels = if structured {
        selector["matchLabels"].as_object().unwrap_or(&empty)
    } else {
        map
    };
    let mut terms: Vec<(String, String)> = labels
        .iter()
        .map(|(key, value)| {
            (
                key.clone(),
                format!("{key}={}", value.as_str().unwrap_or_default()),
            )
        })
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    let terms: Vec<String> = terms.into_iter().map(|(_, term)| term).collect();
    terms.join(",")
}

/// Where each served version of the kind has its replicas.
fn replicas_paths(cx: &Context<'_>) -> Vec<ReplicasPath> {
    let this = &cx.served.resource;
    cx.table
        .all
        .iter()
        .map(|served| &served.resource)
        .filter(|resource| resource.group == this.group && resource.plural == this.plural)
        .map(|resource| ReplicasPath {
            api_version: resource.api_version(),
            path: resource
                .subresource("scale")
                .and_then(|sub| sub.scale.as_ref())
                .map(|paths| {
                    steps(&paths.spec_replicas)
                        .into_iter()
                        .map(str::to_owned)
                        .collect()
                }),
        })
        .collect()
}

/// How a scale is written: by applying a configuration, or as a new scale made of the old.
enum Change<'a> {
    Apply(&'a Value),
    Make(&'a dyn Fn(&Value) -> ApiResult<Value>),
}

/// Writes the replicas of a scale into its parent.
fn set(
    cx: &Context<'_>,
    paths: &ScalePaths,
    options: &options::WriteOptions,
    change: &Change<'_>,
) -> ApiResult<Response<Body>> {
    let replicas = replicas_paths(cx);
    let (code, written) = update::replace(cx, options, false, &mut |live| {
        let live = live.ok_or_else(|| cx.not_found())?;
        let before = of(cx, live, paths);
        let write = apply::ScaleWrite {
            parent: live,
            api_version: &cx.served.resource.api_version(),
            paths: &replicas,
            before: &before,
            manager: &write::manager(cx, options),
            now: cx.inner.clock.now_seconds(),
        };
        let (scale, managed) = match change {
            Change::Apply(config) => {
                let (scale, managed) = write.apply(config, options.force.unwrap_or_default())?;
                check(cx, &scale)?;
                (scale, managed)
            }
            Change::Make(make) => {
                let scale = make(&write.tracked_before())?;
                check(cx, &scale)?;
                write.track(scale)
            }
        };
        let mut new = live.clone();
        let wanted = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        put(&mut new, &steps(&paths.spec_replicas), json!(wanted));
        let version = rules::text(&scale, "resourceVersion");
        rules::set(&mut new, "resourceVersion", json!(version));
        rules::set(&mut new, "managedFields", managed.unwrap_or_default());
        Ok(new)
    })?;
    let parent = match &written {
        Written::Stored(entry) => write::load(&cx.served, entry),
        Written::Shown(object) => object.clone(),
    };
    render::value(cx, code, &of(cx, &parent, paths))
}

/// Judges a scale that is to be written.
fn check(cx: &Context<'_>, scale: &Value) -> ApiResult<()> {
    judge(cx, scale)?;
    let replicas = &scale["spec"]["replicas"];
    if replicas.is_null() || replicas.is_i64() {
        Ok(())
    } else {
        Err(wrong_type(scale, replicas))
    }
}

fn put(object: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut slot = object;
    for step in parents {
        slot = &mut slot[*step];
        if !slot.is_object() {
            *slot = json!({});
        }
    }
    slot[*last] = value;
}

/// The refusal of replicas that are no number, as the decoder of a patched scale says it.
fn wrong_type(scale: &Value, replicas: &Value) -> ApiError {
    let shown = format!(
        "{{\"apiVersion\":\"autoscaling/v1\",\"kind\":\"Scale\",\"metadata\":{},\"spec\":{},\"status\":{}}}",
        rules::in_order(&scale["metadata"]),
        scale["spec"],
        scale["status"]
    );
    let why = format!(
        "json: cannot unmarshal {} into Go struct field ScaleSpec.spec.replicas of type int32",
        patch::kind_name(replicas)
    );
    let error = FieldError::invalid(&Path::new("patch"), &json!(shown), why);
    ApiError::invalid("", "", "", &FieldErrors::from([error]))
}

/// Refuses a scale that is none.
fn judge(cx: &Context<'_>, scale: &Value) -> ApiResult<()> {
    let name = rules::text(scale, "name");
    if name != cx.path.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            cx.path.name
        )));
    }
    let replicas = &scale["spec"]["replicas"];
    // Of custom resources, the strategy judges the parent.
    if cx.served.resource.custom.is_none() && replicas.as_i64().is_some_and(|n| n < 0) {
        let error = FieldError::invalid(
            &Path::new("spec").child("replicas"),
            replicas,
            "must be greater than or equal to 0",
        );
        return Err(ApiError::invalid(
            "autoscaling",
            "Scale",
            name,
            &FieldErrors::from([error]),
        ));
    }
    Ok(())
}
