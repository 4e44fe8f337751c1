//! Resources that are asked rather than stored: who am I, and what may I do.
//!
//! This server authorizes everything, and its reviews say so.

use super::{Context, decode, render};
use crate::auth::User;
use crate::field::{FieldError, FieldErrors, Path};
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
    judge(cx, &review)?;
    review["status"] = match &*cx.served.resource.plural {
        "selfsubjectreviews" => {
            review["metadata"]["creationTimestamp"] = super::write::now(cx);
            json!({"userInfo": user_info(&cx.request.user)})
        }
        "selfsubjectrulesreviews" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        "tokenreviews" => token_status(cx, &review),
        _ => json!({"allowed": true}),
    };
    Ok(render::encoded(cx, StatusCode::CREATED, &review))
}

/// Refuses a review of access that asks for nothing, or for two things.
fn judge(cx: &Context<'_>, review: &Value) -> ApiResult<()> {
    if !cx.served.resource.plural.ends_with("accessreviews") {
        return Ok(());
    }
    let spec = Path::new("spec");
    let (resource, other) = (
        &review["spec"]["resourceAttributes"],
        &review["spec"]["nonResourceAttributes"],
    );
    let error = match (resource.is_null(), other.is_null()) {
        (true, true) => FieldError::invalid(
            &spec.child("resourceAttributes"),
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (false, false) => {
            let shown = json!({"Path": other["path"].as_str().unwrap_or_default(), "Verb": other["verb"].as_str().unwrap_or_default()});
            FieldError::invalid(
                &spec.child("nonResourceAttributes"),
                &shown,
                "cannot be specified in combination with resourceAttributes",
            )
        }
        _ => return Ok(()),
    };
    Err(ApiError::invalid(cx.group(), "", "", &FieldErrors::from([error])))
}

fn token_status(cx: &Context<'_>, review: &Value) -> Value {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    match cx.inner.tokens.get(token) {
        Some(user) => json!({"authenticated": true, "user": user_info(user)}),
        None => json!({"user": {}, "error": "[invalid bearer token]"}),
    }
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
