//! Binding: a pod gets its node, once.

use super::{change, decoded, path_to, plain_error, set_condition, success};
use crate::field::{FieldError, FieldErrors, Path, aggregate};
use crate::handlers::{Context, write};
use crate::metadata::rules;
use crate::namespaces;
use crate::request::options::{self, WriteOptions};
use crate::resource::Resource;
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use http::Response;
use serde_json::{Value, json};

/// Whether a resource is that of bindings, which are made and never kept.
pub(in crate::handlers) fn is_binding(resource: &Resource) -> bool {
    resource.group.is_empty() && &*resource.plural == "bindings"
}

/// POST to the binding of a pod.
pub(in crate::handlers) fn bind(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let binding = decoded(cx, "", "v1", "Binding", options.validation)?;
    namespaces::admit_create(cx.inner, &cx.served.resource, &cx.path.namespace, &binding)?;
    if rules::text(&binding, "name") != cx.path.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    assign(cx, &binding, &options)
}

/// POST to the collection of bindings: the pod is that of the binding's name.
pub(in crate::handlers) fn bind_by_name(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let binding = decoded(cx, "", "v1", "Binding", options.validation)?;
    namespaces::admit_create(cx.inner, &cx.served.resource, &cx.path.namespace, &binding)?;
    let pods = cx.table.find("", "v1", "pods").ok_or_else(|| cx.not_found())?;
    let path = path_to(cx, "", "pods", rules::text(&binding, "name"), "binding");
    assign(&cx.about(pods.clone(), &path), &binding, &options)
}

fn validate(binding: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let target = Path::new("target");
    let text = |field: &str| binding["target"][field].as_str().unwrap_or_default();
    if !matches!(text("kind"), "" | "Node") {
        let supported = ["Node", "<empty>"];
        errors.push(FieldError::not_supported(
            &target.child("kind"),
            &binding["target"]["kind"],
            &supported,
        ));
    }
    if text("name").is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    errors
}

/// Writes a binding into its pod.
fn assign(cx: &Context<'_>, binding: &Value, options: &WriteOptions) -> ApiResult<Response<Body>> {
    let errors = validate(binding);
    if !errors.is_empty() {
        return Err(plain_error(aggregate(&errors)));
    }
    let name = &cx.path.name;
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let now = write::now(cx);
    change(cx, options.dry_run, &mut |pod| {
        preconditions(cx, binding, pod)?;
        if let Some(why) = obstacle(pod, name) {
            return Err(ApiError::conflict("", "pods/binding", name, &why));
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        if let Some(status) = pod["status"].as_object_mut() {
            // It was a hint for where the pod might go.
            status.remove("nominatedNodeName");
        }
        for field in ["annotations", "labels"] {
            for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
                pod["metadata"][field][key.as_str()] = value.clone();
            }
        }
        set_condition(pod, json!({"type": "PodScheduled", "status": "True"}), &now);
        Ok(())
    })?;
    Ok(success())
}

/// Why a pod cannot be bound.
fn obstacle(pod: &Value, name: &str) -> Option<String> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let gates = pod["spec"]["schedulingGates"].as_array();
    if rules::is_deleting(pod) {
        Some(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ))
    } else if !node.is_empty() {
        Some(format!("pod {name} is already assigned to node {node:?}"))
    } else if gates.is_some_and(|gates| !gates.is_empty()) {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    }
}

/// Refuses a binding that is for another state of the pod, or another pod of its name.
fn preconditions(cx: &Context<'_>, binding: &Value, pod: &Value) -> ApiResult<()> {
    for (field, shown) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, there) = (rules::text(binding, field), rules::text(pod, field));
        if !wanted.is_empty() && wanted != there {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/pods/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {shown} in precondition: {wanted}, {shown} in object meta: {there}",
                cx.path.key()
            );
            return Err(ApiError::conflict("", "pods", &cx.path.name, &why));
        }
    }
    Ok(())
}
