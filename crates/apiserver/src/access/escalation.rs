//! Nobody grants what they do not hold.

use super::{Access, Attributes, GROUP, Rule, Target, aggregate, is_master};
use crate::auth::quoted;
use crate::handlers::Context;
use crate::metadata::rules::text;
use crate::status::{ApiError, ApiResult};
use serde_json::Value;

/// Refuses a role or a binding that grants its writer more than it holds. `live` is none where it is new.
pub(crate) fn guard(cx: &Context<'_>, new: &Value, live: Option<&Value>) -> ApiResult<()> {
    let access = &cx.inner.access;
    let user = &*cx.request.user;
    if cx.group() != GROUP || !matches!(access, Access::Rbac(_)) || is_master(user) {
        return Ok(());
    }
    if live.is_some_and(|live| is_housekeeping(new, live)) {
        return Ok(());
    }
    let may = |verb, resource, name| {
        let target = Target::Resource {
            group: GROUP,
            resource,
            subresource: "",
            namespace: &cx.path.namespace,
            name,
        };
        access.decide(&Attributes { user, verb, target }).allowed
    };
    if cx.plural().ends_with("roles") {
        if may("escalate", cx.plural(), &cx.path.name) {
            return Ok(());
        }
        let rules = new["rules"].as_array().into_iter().flatten();
        let rules: Vec<Rule> = rules.map(Rule::read).collect();
        holds(cx, new, &rules)?;
        let aggregates = |role: &Value| {
            let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
            selectors.is_some_and(|selectors| !selectors.is_empty())
        };
        if aggregates(new) || live.is_some_and(aggregates) {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            holds(cx, new, &Rule::everything()).map_err(|_| refusal(cx, new, why))?;
        }
        return Ok(());
    }
    let role = |field: &str| new["roleRef"][field].as_str().unwrap_or_default();
    let cluster = role("kind") == "ClusterRole";
    let plural = if cluster { "clusterroles" } else { "roles" };
    if may("bind", plural, role("name")) {
        return Ok(());
    }
    let Access::Rbac(policy) = access else {
        return Ok(());
    };
    let found = policy
        .read()
        .role(cluster, &cx.path.namespace, role("name"))
        .map(<[Rule]>::to_vec);
    match found {
        Ok(rules) => holds(cx, new, &rules),
        // The real server takes the role's absence for the binding's.
        Err(_) => Err(ApiError::not_found(GROUP, cx.plural(), text(new, "name"))),
    }
}

/// Whether an update changes only what the garbage collector changes.
fn is_housekeeping(new: &Value, live: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(meta) = object["metadata"].as_object_mut() {
            for field in [
                "ownerReferences",
                "finalizers",
                "selfLink",
                "managedFields",
                // The writer may leave them to the server.
                "resourceVersion",
                "uid",
                "creationTimestamp",
            ] {
                meta.remove(field);
            }
        }
        object
    };
    rest(new) == rest(live)
}

/// Refuses rules of which the writer does not hold all.
fn holds(cx: &Context<'_>, new: &Value, rules: &[Rule]) -> ApiResult<()> {
    let user = &*cx.request.user;
    let own = cx.inner.access.rules_of(user, &cx.path.namespace);
    let atoms = rules.iter().flat_map(Rule::atoms);
    let missing: Vec<Rule> = atoms
        .filter(|atom| !own.rules.iter().any(|rule| rule.covers(atom)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = Rule::compact(missing).iter().map(Rule::to_string).collect();
    shown.sort();
    shown.dedup();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        shown.join("\n")
    );
    if !own.errors.is_empty() {
        why.push_str("; resolution errors: [");
        why.push_str(&aggregate(&own.errors));
        why.push(']');
    }
    Err(refusal(cx, new, &why))
}

fn refusal(cx: &Context<'_>, new: &Value, why: &str) -> ApiError {
    ApiError::forbidden(GROUP, cx.plural(), text(new, "name"), why)
}
