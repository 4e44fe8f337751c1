//! Eviction: a deletion that disruption budgets may refuse.

use super::{change, decoded, path_to, plain_error, set_condition, success};
use crate::field::{FieldError, FieldErrors, Path};
use crate::handlers::{Context, delete, update, write};
use crate::metadata::rules;
use crate::metadata::selectors::Labels;
use crate::namespaces;
use crate::registry::Served;
use crate::request::options::{self, DeleteOptions, WriteOptions};
use crate::request::{body, media};
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Pods that a budget remembers as evicted at most.
const MOST_DISRUPTED: usize = 2000;
/// Who writes the status of a budget: the server itself.
const MANAGER: &str = "kube-apiserver";

/// POST of an eviction.
pub(in crate::handlers) fn evict(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let created = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let eviction = decoded(cx, "policy", version(cx), "Eviction", created.validation)?;
    namespaces::admit_create(cx.inner, &cx.served.resource, &cx.path.namespace, &eviction)?;
    if rules::text(&eviction, "name") != cx.path.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = delete_options(cx, &eviction, &created)?;
    loop {
        match attempt(cx, &options) {
            // Somebody changed the pod since it was looked at.
            Err(error) if error.code == StatusCode::CONFLICT && options.version.is_none() => {
                if options.uid.is_some() {
                    return Err(error);
                }
            }
            done => return done.map(|()| success()),
        }
    }
}

/// The version of the eviction in the body: what came before `policy/v1` is the same object.
fn version(cx: &Context<'_>) -> &'static str {
    let said = media::content_type(&cx.request.parts.headers)
        .ok()
        .and_then(|format| body::decode(&cx.request.body, format).ok());
    match said {
        Some(said) if said.value["apiVersion"] == "policy/v1beta1" => "v1beta1",
        _ => "v1",
    }
}

/// The options of the deletion: those of the eviction, and the request's dry run.
fn delete_options(cx: &Context<'_>, eviction: &Value, created: &WriteOptions) -> ApiResult<DeleteOptions> {
    let said = &eviction["deleteOptions"];
    if !said.is_object() {
        return Ok(DeleteOptions {
            dry_run: created.dry_run,
            ..DeleteOptions::default()
        });
    }
    if said["ignoreStoreReadErrorWithClusterBreakingPotential"] == true {
        let at = Path::new("deleteOptions").child("ignoreStoreReadErrorWithClusterBreakingPotential");
        let why = "can not be set for pod eviction, try after removing the option";
        let errors = FieldErrors::from([FieldError::invalid(&at, &json!(true), why)]);
        return Err(ApiError::invalid("policy", "Eviction", &cx.path.name, &errors));
    }
    let asked: Vec<&str> = cx.request.query.all("dryRun");
    let inner: Vec<&str> = said["dryRun"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !asked.is_empty() && !inner.is_empty() && asked != inner {
        return Err(plain_error(format!(
            "Non-matching dry-run options in request and content: [{}] and [{}]",
            asked.join(" "),
            inner.join(" ")
        )));
    }
    let mut options = options::delete_options(&cx.request.query, Some(said))?;
    options.dry_run |= created.dry_run;
    Ok(options)
}

/// Deletes the pod where nothing protects it.
fn attempt(cx: &Context<'_>, asked: &DeleteOptions) -> ApiResult<()> {
    let entry = cx.entry()?;
    let pod = write::load(&cx.served, &entry);
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let ends = matches!(phase, "Succeeded" | "Failed") || rules::is_deleting(&pod);
    let mut options = asked.clone();
    // A pod that no budget counts goes as long as it is as it was seen.
    let as_seen = |options: &mut DeleteOptions| {
        options
            .version
            .get_or_insert_with(|| rules::text(&pod, "resourceVersion").to_owned());
    };
    if ends {
        return remove(cx, &mut options);
    }
    if phase == "Pending" {
        as_seen(&mut options);
        return remove(cx, &mut options);
    }
    match ask_budgets(cx, &pod, options.dry_run)? {
        Leave::Given => remove(cx, &mut options),
        Leave::WhileUnhealthy(budget) => {
            as_seen(&mut options);
            match remove(cx, &mut options) {
                Err(error) if error.code == StatusCode::CONFLICT && asked.version.is_none() => {
                    Err(still_processed(&budget))
                }
                done => done,
            }
        }
    }
}

/// Marks the pod as evicted and deletes it.
fn remove(cx: &Context<'_>, options: &mut DeleteOptions) -> ApiResult<()> {
    if !options.dry_run {
        let now = write::now(cx);
        let pod = change(cx, false, &mut |pod| {
            delete::preconditions(cx, pod, options)?;
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            });
            set_condition(pod, condition, &now);
            Ok(())
        })?;
        if options.version.is_some() {
            options.version = Some(rules::text(&pod, "resourceVersion").to_owned());
        }
    }
    delete::one(cx, &cx.path.key(), &cx.path.name, options).map(drop)
}

/// What the budgets say to an eviction.
enum Leave {
    /// None covers the pod, or one gave a disruption for it.
    Given,
    /// The pod counts for nothing as long as it is not healthy, says this budget.
    WhileUnhealthy(String),
}

/// Asks the budget that covers a pod, and takes one disruption from it.
fn ask_budgets(cx: &Context<'_>, pod: &Value, dry_run: bool) -> ApiResult<Leave> {
    let Some(served) = cx.table.find("policy", "v1", "poddisruptionbudgets") else {
        return Ok(Leave::Given);
    };
    let budgets = covering(served, &cx.path.namespace, pod);
    let budget = match budgets.as_slice() {
        [] => return Ok(Leave::Given),
        [budget] => budget,
        _ => {
            return Err(plain_error(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = rules::text(budget, "name");
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let lenient = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
    if !ready && lenient {
        return Ok(Leave::WhileUnhealthy(name.to_owned()));
    }
    let path = path_to(cx, "policy", "poddisruptionbudgets", name, "status");
    let of_budget = cx.about(served.clone(), &path);
    let options = WriteOptions {
        dry_run,
        manager: MANAGER.to_owned(),
        ..WriteOptions::default()
    };
    let now = write::now(cx);
    update::replace(&of_budget, &options, false, &mut |live| {
        let live = live.ok_or_else(|| of_budget.not_found())?;
        let mut budget = live.clone();
        take_one(&mut budget, &cx.path.name, &now)?;
        write::track(&of_budget, Some(live), &mut budget, &options);
        Ok(budget)
    })?;
    Ok(Leave::Given)
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
                && Labels::parse(&crate::handlers::scale::selector_text(selector))
                    .is_ok_and(|selector| selector.matches(|key| labels[key].as_str()))
        })
        .collect()
}

/// Takes a disruption from a budget for a pod, or says why there is none.
fn take_one(budget: &mut Value, pod: &str, now: &Value) -> ApiResult<()> {
    let name = rules::text(budget, "name").to_owned();
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let status = &budget["status"];
    let observed = number(&status["observedGeneration"]);
    if observed < number(&budget["metadata"]["generation"]) {
        return Err(still_processed(&name));
    }
    let allowed = number(&status["disruptionsAllowed"]);
    let forbidden = |why: &str| ApiError::forbidden("policy", "poddisruptionbudget", &name, why);
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    let disrupted = status["disruptedPods"].as_object();
    if disrupted.is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(too_many(&why_none(status, &name), None));
    }
    let status = &mut budget["status"];
    status["disruptionsAllowed"] = json!(allowed - 1);
    if allowed == 1 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": observed,
        });
        rules::set_condition(status, condition, now);
    }
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = now.clone();
    Ok(())
}

/// Why a budget has no disruption to give.
fn why_none(status: &Value, name: &str) -> String {
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let refusal = conditions
        .find(|condition| condition["type"] == "DisruptionAllowed")
        .filter(|condition| condition["status"] == "False");
    let said = |field: &str| {
        refusal
            .and_then(|condition| condition[field].as_str())
            .unwrap_or_default()
    };
    let (reason, message) = (said("reason"), said("message"));
    if reason == "SyncFailed" && !message.is_empty() {
        format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        )
    } else if healthy <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    } else if !message.is_empty() {
        format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    }
}

fn still_processed(budget: &str) -> ApiError {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    too_many(&why, Some(10))
}

fn too_many(why: &str, retry_after: Option<u64>) -> ApiError {
    let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
    if let Some(seconds) = retry_after {
        details["retryAfterSeconds"] = json!(seconds);
    }
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )
    .with_details(details)
}
