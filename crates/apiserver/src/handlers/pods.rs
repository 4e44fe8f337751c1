//! What only pods have: they are bound to nodes, and evicted.

use super::write;
use super::{Context, delete};
use crate::metadata::rules;
use crate::metadata::selectors::Labels;
use crate::registry::Served;
use crate::request::options::{self, DeleteOptions};
use crate::request::path::key;
use crate::request::{body, media};
use crate::response::{self, Body};
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Pods that a budget remembers as evicted at most.
const MOST_DISRUPTED: usize = 2000;

fn decoded(cx: &Context<'_>, kind: &str) -> ApiResult<Value> {
    let format = media::content_type(&cx.request.parts.headers)?;
    let decoded = body::decode(&cx.request.body, format).map_err(|error| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    Ok(decoded.value)
}

fn success() -> Response<Body> {
    let answer =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    response::json(StatusCode::CREATED, &answer)
}

/// Changes a stored object until nobody comes between; `change` says whether there is something to store.
fn change(
    served: &Served,
    key: &str,
    missing: &dyn Fn() -> ApiError,
    change: &mut dyn FnMut(&mut Value) -> ApiResult<bool>,
) -> ApiResult<Value> {
    loop {
        let entry = served.shelf.get(key).ok_or_else(missing)?;
        let mut object = write::load(served, &entry);
        if !change(&mut object)? {
            return Ok(object);
        }
        let draft = write::encode_for(served, &object);
        if let Ok(stored) = served.shelf.put(key, Some(entry.version), &draft) {
            return Ok(stored.value());
        }
    }
}

/// Sets a condition of a pod.
fn set_condition(pod: &mut Value, mut condition: Value, now: &Value) {
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = now.clone();
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|there| there["type"] == condition["type"])
    {
        Some(there) => {
            if there["status"] == condition["status"] {
                condition["lastTransitionTime"] = there["lastTransitionTime"].clone();
            }
            *there = condition;
        }
        None => conditions.push(condition),
    }
}

/// POST of a binding: the pod gets its node.
pub(super) fn bind(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let binding = decoded(cx, "Binding")?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        // The real server sends what its validation found as it is.
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "target.name: Required value",
        ));
    }
    let now = write::now(cx);
    change(&cx.served, &cx.path.key(), &|| cx.not_found(), &mut |pod| {
        let there = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let refuse = |why: String| ApiError::conflict("", "pods/binding", &cx.path.name, &why);
        if rules::is_deleting(pod) {
            return Err(refuse(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                cx.path.name
            )));
        }
        if !there.is_empty() {
            return Err(refuse(format!(
                "pod {} is already assigned to node {there:?}",
                cx.path.name
            )));
        }
        pod["spec"]["nodeName"] = json!(node);
        for (key, value) in binding["metadata"]["annotations"]
            .as_object()
            .into_iter()
            .flatten()
        {
            pod["metadata"]["annotations"][key.as_str()] = value.clone();
        }
        set_condition(pod, json!({"type": "PodScheduled", "status": "True"}), &now);
        Ok(!options.dry_run)
    })?;
    Ok(success())
}

/// POST of an eviction: a deletion that disruption budgets may refuse.
pub(super) fn evict(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let created = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let eviction = decoded(cx, "Eviction")?;
    if rules::text(&eviction, "name") != cx.path.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let said = eviction
        .get("deleteOptions")
        .filter(|options| options.is_object());
    let mut options = match said {
        Some(said) => options::delete_options(&cx.request.query, Some(said))?,
        None => DeleteOptions::default(),
    };
    options.dry_run |= created.dry_run;
    let entry = cx
        .served
        .shelf
        .get(&cx.path.key())
        .ok_or_else(|| cx.not_found())?;
    let pod = write::load(&cx.served, &entry);
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let protected = !matches!(phase, "Succeeded" | "Failed" | "Pending") && !rules::is_deleting(&pod);
    if protected {
        ask_budgets(cx, &pod, &mut options)?;
    }
    if !options.dry_run {
        mark_evicted(cx, &mut options)?;
    }
    delete::one(cx, &cx.path.key(), &cx.path.name, &options)?;
    Ok(success())
}

fn mark_evicted(cx: &Context<'_>, options: &mut DeleteOptions) -> ApiResult<()> {
    let now = write::now(cx);
    let pod = change(&cx.served, &cx.path.key(), &|| cx.not_found(), &mut |pod| {
        delete::preconditions(cx, pod, options)?;
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        set_condition(pod, condition, &now);
        Ok(true)
    })?;
    if options.version.is_some() {
        options.version = Some(rules::text(&pod, "resourceVersion").to_owned());
    }
    Ok(())
}

/// Asks the budget that covers a pod, and takes one disruption from it.
fn ask_budgets(cx: &Context<'_>, pod: &Value, options: &mut DeleteOptions) -> ApiResult<()> {
    let Some(served) = cx.table.find("policy", "v1", "poddisruptionbudgets") else {
        return Ok(());
    };
    let budgets = covering(served, &cx.path.namespace, pod);
    let name = match budgets.as_slice() {
        [] => return Ok(()),
        [budget] => {
            let count = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
            let ready = pod["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            let lenient = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
                || count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
            if !ready && lenient {
                options
                    .version
                    .get_or_insert_with(|| rules::text(pod, "resourceVersion").to_owned());
                return Ok(());
            }
            rules::text(budget, "name").to_owned()
        }
        _ => {
            return Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let missing = || ApiError::not_found("policy", "poddisruptionbudgets", &name);
    let now = write::now(cx);
    let dry_run = options.dry_run;
    let at = key(&cx.path.namespace, &name);
    change(served, &at, &missing, &mut |budget| {
        take_one(budget, &name, &cx.path.name, &now)?;
        Ok(!dry_run)
    })?;
    Ok(())
}

/// The budgets whose selector has a pod.
fn covering(served: &Arc<Served>, namespace: &str, pod: &Value) -> Vec<Value> {
    let prefix = format!("{namespace}/");
    let listing = served.shelf.list(&prefix, "", crate::store::At::Now);
    let entries = listing.map(|listing| listing.items).unwrap_or_default();
    let labels = &pod["metadata"]["labels"];
    entries
        .iter()
        .map(|(_, entry)| write::load(served, entry))
        .filter(|budget| {
            let selector = &budget["spec"]["selector"];
            selector.is_object()
                && Labels::parse(&super::scale::selector_text(selector))
                    .is_ok_and(|selector| selector.matches(|key| labels[key].as_str()))
        })
        .collect()
}

fn take_one(budget: &mut Value, name: &str, pod: &str, now: &Value) -> ApiResult<()> {
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let status = &budget["status"];
    if number(&status["observedGeneration"]) < number(&budget["metadata"]["generation"]) {
        return Err(too_many(&format!(
            "The disruption budget {name} is still being processed by the server."
        )));
    }
    let allowed = number(&status["disruptionsAllowed"]);
    let forbidden = |why: &str| ApiError::forbidden("policy", "poddisruptionbudget", name, why);
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"]
        .as_object()
        .is_some_and(|pods| pods.len() > MOST_DISRUPTED)
    {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(too_many(&format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(&status["desiredHealthy"]),
            number(&status["currentHealthy"])
        )));
    }
    budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
    if !budget["status"]["disruptedPods"].is_object() {
        budget["status"]["disruptedPods"] = json!({});
    }
    budget["status"]["disruptedPods"][pod] = now.clone();
    Ok(())
}

fn too_many(why: &str) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )
    .with_details(json!({
        "causes": [{"reason": "DisruptionBudget", "message": why}],
        "retryAfterSeconds": 10,
    }))
}
