//! `serviceaccounts/NAME/token`: tokens of service accounts.

use super::{Context, decode, render, write};
use crate::auth::{Bound, Claims, ISSUER, Known, Reference};
use crate::builtin;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::rules::{self, text};
use crate::registry::Served;
use crate::request::options;
use crate::response::Body;
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a token lasts at least, in seconds.
const SHORTEST: i64 = 10 * 60;
/// The seconds that clients of old ask for in a pod's volume …
const PROJECTED: i64 = 60 * 60 + 7;
/// … and what they get, because they do not read the file again.
const EXTENDED: i64 = 365 * 24 * 60 * 60;

/// POST of a request for a token.
pub(super) fn create(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let served = Served {
        resource: Arc::new(builtin::token_request()),
        shelf: cx.served.shelf.clone(),
        form: cx.served.form,
        hub: None,
    };
    let asking = cx.about(Arc::new(served), cx.path);
    let answer = answer(&asking);
    for warning in asking.warnings.take() {
        cx.warn(warning);
    }
    answer
}

fn answer(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::write_options(&cx.request.query, "CreateOptions", false)?;
    let mut asked = decode::object(cx, options.validation)?;
    decode::match_namespace(cx, &mut asked)?;
    let (namespace, name) = (&*cx.path.namespace, &*cx.path.name);
    let said = text(&asked, "name");
    if !said.is_empty() && said != name {
        let why = "must match the service account name if specified";
        let error = FieldError::invalid(&Path::new("metadata").child("name"), &json!(said), why);
        return Err(invalid(cx, name, error));
    }
    let account = known(cx, "serviceaccounts", namespace, name)?;
    let said = text(&asked, "uid");
    if !said.is_empty() && said != account.uid {
        let why = format!(
            "the UID in the token request ({said}) does not match the UID of the service account ({})",
            account.uid
        );
        let kind = &cx.served.resource.kind;
        return Err(ApiError::conflict(cx.group(), kind, name, &why));
    }
    let now = cx.inner.clock.now();
    rules::set(&mut asked, "name", json!(name));
    rules::set(&mut asked, "uid", json!(account.uid));
    rules::set(&mut asked, "creationTimestamp", write::now(cx));
    if asked["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        asked["spec"]["audiences"] = json!([ISSUER]);
    }
    let seconds = judge(cx, &asked)?;
    let mut bound = Bound {
        namespace: namespace.to_owned(),
        serviceaccount: Reference {
            name: name.to_owned(),
            uid: account.uid,
        },
        ..Bound::default()
    };
    bind(cx, &asked["spec"]["boundObjectRef"], &mut bound)?;
    let audiences = asked["spec"]["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences.filter_map(Value::as_str).map(str::to_owned).collect();
    let mut lasts = seconds;
    if bound.pod.is_some() && seconds == PROJECTED && audiences.iter().all(|audience| audience == ISSUER) {
        lasts = EXTENDED;
        bound.warnafter = Some(now.as_second().saturating_add(seconds));
    }
    let token = cx
        .inner
        .authenticator
        .issue(&Claims::new(bound, audiences, now, lasts))?;
    asked["status"] = json!({"token": token, "expirationTimestamp": after(now, seconds)});
    Ok(render::encoded(cx, StatusCode::CREATED, &asked))
}

/// The time so many seconds from now, as objects carry it.
fn after(now: Timestamp, seconds: i64) -> String {
    let then = now.saturating_add(SignedDuration::from_secs(seconds));
    let seconds = then.unwrap_or(Timestamp::MAX).as_second();
    Timestamp::from_second(seconds).unwrap_or(now).to_string()
}

fn invalid(cx: &Context<'_>, name: &str, error: FieldError) -> ApiError {
    ApiError::invalid(
        cx.group(),
        &cx.served.resource.kind,
        name,
        &FieldErrors::from([error]),
    )
}

/// How long the token is to last, in seconds.
fn judge(cx: &Context<'_>, asked: &Value) -> ApiResult<i64> {
    let said = &asked["spec"]["expirationSeconds"];
    let seconds = said.as_i64().unwrap_or_default();
    let why = if seconds < SHORTEST {
        "may not specify a duration less than 10 minutes"
    } else if seconds > 1 << 32 {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let at = Path::new("spec").child("expirationSeconds");
    Err(invalid(cx, "", FieldError::invalid(&at, said, why)))
}

fn known(cx: &Context<'_>, plural: &str, namespace: &str, name: &str) -> ApiResult<Known> {
    let found = cx.inner.known(plural, namespace, name);
    found.ok_or_else(|| ApiError::not_found("", plural, name))
}

/// Ties the token to the object that it is to live as long as.
fn bind(cx: &Context<'_>, asked: &Value, bound: &mut Bound) -> ApiResult<()> {
    if asked.is_null() {
        return Ok(());
    }
    let said = |field: &str| asked[field].as_str().unwrap_or_default();
    let (version, kind, name) = (said("apiVersion"), said("kind"), said("name"));
    let namespace = &*cx.path.namespace;
    let core = !version.contains('/');
    let (plural, namespace) = match kind {
        "Pod" if core => ("pods", namespace),
        "Secret" if core => ("secrets", namespace),
        "Node" if core => ("nodes", ""),
        _ => {
            let slash = if core { "/" } else { "" };
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {slash}{version}, Kind={kind}"
            )));
        }
    };
    let there = known(cx, plural, namespace, name)?;
    if plural == "pods" {
        bound.node = node_of(cx, namespace, name)?;
    }
    let uid = said("uid");
    if !uid.is_empty() && uid != there.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", kind, name, &why));
    }
    let reference = Some(Reference {
        name: name.to_owned(),
        uid: there.uid,
    });
    match plural {
        "pods" => bound.pod = reference,
        "secrets" => bound.secret = reference,
        _ => bound.node = reference,
    }
    Ok(())
}

/// The node of a pod of this service account. A node that is not registered is told by its name.
fn node_of(cx: &Context<'_>, namespace: &str, name: &str) -> ApiResult<Option<Reference>> {
    use crate::resource::Surroundings;
    let pod = cx
        .around(true)
        .get("", "pods", namespace, name)
        .unwrap_or_default();
    if pod["spec"]["serviceAccountName"] != *cx.path.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            cx.path.name
        )));
    }
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    Ok((!node.is_empty()).then(|| Reference {
        name: node.to_owned(),
        uid: cx
            .inner
            .known("nodes", "", node)
            .map(|node| node.uid)
            .unwrap_or_default(),
    }))
}
