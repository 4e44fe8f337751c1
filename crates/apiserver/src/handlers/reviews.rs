//! Resources that are asked rather than stored: who am I, whose is this token, and who may do what.

use super::{Context, decode, render};
use crate::access::{Attributes, Rule, Target};
use crate::auth::User;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::selectors;
use crate::request::options;
use crate::resource::Resource;
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

/// Whether a resource is of these.
pub(super) fn is_review(resource: &Resource) -> bool {
    matches!(&*resource.group, "authentication.k8s.io" | "authorization.k8s.io") && resource.verbs.len() == 1
}

/// POST of a review.
pub(super) fn create(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let mut review = decode::object(cx, options.validation)?;
    decode::match_namespace(cx, &mut review)?;
    match &*cx.served.resource.plural {
        "selfsubjectreviews" => {
            review["metadata"]["creationTimestamp"] = super::write::now(cx);
            review["status"] = json!({"userInfo": user_info(&cx.request.user)});
        }
        "selfsubjectrulesreviews" => review = rules(cx, &review)?,
        "tokenreviews" => token(cx, &mut review)?,
        _ => review["status"] = access(cx, &review)?,
    }
    Ok(render::encoded(cx, StatusCode::CREATED, &review))
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Whether one may.
fn access(cx: &Context<'_>, review: &Value) -> ApiResult<Value> {
    let plural = &*cx.served.resource.plural;
    let spec = &review["spec"];
    let errors = judge(review, plural);
    if !errors.is_empty() {
        return Err(ApiError::invalid(cx.group(), "", "", &errors));
    }
    let named;
    let user = if plural == "selfsubjectaccessreviews" {
        &*cx.request.user
    } else {
        let extra = spec["extra"].as_object().into_iter().flatten();
        named = User {
            name: text(spec, "user").to_owned(),
            uid: text(spec, "uid").to_owned(),
            groups: texts(&spec["groups"]),
            extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
        };
        &named
    };
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let asked = if resource.is_null() {
        Attributes {
            user,
            verb: text(other, "verb"),
            target: Target::Path(text(other, "path")),
        }
    } else {
        Attributes {
            user,
            verb: text(resource, "verb"),
            target: Target::Resource {
                group: text(resource, "group"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                namespace: text(resource, "namespace"),
                name: text(resource, "name"),
            },
        }
    };
    let decision = cx.inner.access.decide(&asked);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    let ignored = unreadable_selectors(resource);
    if !ignored.is_empty() {
        status["evaluationError"] = json!(ignored.join("; "));
    }
    Ok(status)
}

/// What is wrong with a review of access.
fn judge(review: &Value, plural: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let at = Path::new("spec");
    let spec = &review["spec"];
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let shown = json!({"Path": text(other, "path"), "Verb": text(other, "verb")});
    match (resource.is_null(), other.is_null()) {
        (true, true) => errors.push(FieldError::invalid(
            &at.child("resourceAttributes"),
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &at.child("nonResourceAttributes"),
            &shown,
            "cannot be specified in combination with resourceAttributes",
        )),
        _ => {}
    }
    let own = plural == "selfsubjectaccessreviews";
    if !own && text(spec, "user").is_empty() && texts(&spec["groups"]).is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&at.child("user"), &json!(""), why));
    }
    for field in ["fieldSelector", "labelSelector"] {
        judge_selector(
            &resource[field],
            &at.child("resourceAttributes").child(field),
            &mut errors,
        );
    }
    let local = plural == "localsubjectaccessreviews";
    let meta = review["metadata"].as_object().into_iter().flatten();
    let mut meta = meta.filter(|(field, _)| *field != "managedFields" && !(local && *field == "namespace"));
    if meta.any(|(_, value)| !value.is_null()) {
        let why = if local {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        errors.push(FieldError::invalid(
            &Path::new("metadata"),
            &review["metadata"],
            why,
        ));
    }
    if local && !resource.is_null() && resource["namespace"] != review["metadata"]["namespace"] {
        errors.push(FieldError::invalid(
            &at.child("resourceAttributes").child("namespace"),
            &json!(text(resource, "namespace")),
            "must match metadata.namespace",
        ));
    }
    if local && !other.is_null() {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid(
            &at.child("nonResourceAttributes"),
            &shown,
            why,
        ));
    }
    errors
}

fn judge_selector(selector: &Value, at: &Path, errors: &mut FieldErrors) {
    if selector.is_null() {
        return;
    }
    let raw = text(selector, "rawSelector");
    let requirements = selector["requirements"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if !raw.is_empty() && requirements {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&at.child("rawSelector"), &json!(raw), why));
    } else if raw.is_empty() && !requirements {
        let why = format!("when {at} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&at.child("requirements"), &why));
    }
}

/// Rules know no selectors; what could not be read is told all the same.
fn unreadable_selectors(resource: &Value) -> Vec<String> {
    let raw = |field: &str| text(&resource[field], "rawSelector").to_owned();
    let mut said = Vec::new();
    if selectors::Fields::parse(&raw("fieldSelector")).is_err() {
        said.push("spec.resourceAttributes.fieldSelector ignored due to parse error".to_owned());
    }
    if selectors::Labels::parse(&raw("labelSelector")).is_err() {
        said.push("spec.resourceAttributes.labelSelector ignored due to parse error".to_owned());
    }
    said
}

/// What one may do in a namespace. The real server answers with a review of its own.
fn rules(cx: &Context<'_>, review: &Value) -> ApiResult<Value> {
    let namespace = text(&review["spec"], "namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let found = cx.inner.access.rules_of(&cx.request.user, namespace);
    let resource = |rule: &Rule| {
        let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
        if !rule.names.is_empty() {
            shown["resourceNames"] = json!(rule.names);
        }
        shown
    };
    let path = |rule: &Rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths});
    let all = || found.rules.iter();
    let mut status = json!({
        "resourceRules": all().filter(|rule| !rule.resources.is_empty()).map(resource).collect::<Value>(),
        "nonResourceRules": all().filter(|rule| !rule.paths.is_empty()).map(path).collect::<Value>(),
        "incomplete": false,
    });
    if !found.errors.is_empty() {
        status["evaluationError"] = json!(crate::access::aggregate(&found.errors));
    }
    Ok(json!({
        "kind": review["kind"],
        "apiVersion": review["apiVersion"],
        "metadata": {},
        "spec": {},
        "status": status,
    }))
}

/// Whose a token is.
fn token(cx: &Context<'_>, review: &mut Value) -> ApiResult<()> {
    let token = text(&review["spec"], "token");
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let inner = cx.inner;
    let audiences = texts(&review["spec"]["audiences"]);
    let found = inner.authenticator.of_token(
        token,
        &audiences,
        inner.clock.now(),
        &|plural, namespace, name| inner.known(plural, namespace, name),
    );
    // What the client said of the rest stays.
    let mut status = review["status"].as_object().cloned().unwrap_or_default();
    status.remove("authenticated");
    match found {
        Ok(found) => {
            status.insert("authenticated".to_owned(), json!(true));
            status.insert("user".to_owned(), user_info(&found.user));
            status.insert("audiences".to_owned(), json!(found.audiences));
        }
        Err(why) => {
            status.entry("user").or_insert_with(|| json!({}));
            status.insert("error".to_owned(), json!(why));
        }
    }
    review["status"] = Value::Object(status);
    Ok(())
}

fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), json!(user.uid));
    }
    info.insert("groups".to_owned(), json!(user.groups));
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}
