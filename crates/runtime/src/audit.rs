//! Whether a program may do what it does, and does what it may.
//!
//! A test puts this layer into its client, takes its program through all that it ever does, and then compares what
//! was asked of the API server with the rules of the program's role: a request that no rule allows would be denied
//! in production, and a rule that no request needs is a privilege too many.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use tower::{BoxError, Layer, Service};

/// What a request asks for, as the authorizer sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// The API group; the core group is empty. For paths that are no resource, nothing.
    pub group: String,
    /// The resource, with its subresource if there is one: `pods`, `pods/status`; or a path that is no resource:
    /// `/version`.
    pub resource: String,
    /// The verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The object's name, where the request names one.
    pub name: Option<String>,
}

impl Access {
    /// What a request asks for.
    pub fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let group = match segments.next() {
            Some("api") if segments.next().is_some() => Some(String::new()),
            Some("apis") => match (segments.next(), segments.next()) {
                (Some(group), Some(_)) => Some(group.to_owned()),
                _ => None,
            },
            _ => None,
        };
        let rest: Vec<&str> = segments.collect();
        let (Some(group), false) = (group, rest.is_empty()) else {
            return Self {
                group: String::new(),
                resource: path.to_owned(),
                verb: request.method().as_str().to_lowercase(),
                name: None,
            };
        };
        // `namespaces/NAME/RESOURCE` is where an object lives, but `namespaces/NAME` and its subresources are the
        // Namespace itself.
        let rest = match rest.as_slice() {
            ["namespaces", _, "status" | "finalize"] => rest.as_slice(),
            ["namespaces", _, inner @ ..] if !inner.is_empty() => inner,
            all => all,
        };
        let name = rest.get(1).map(|name| (*name).to_owned());
        let resource = match (rest.first(), rest.get(2)) {
            (Some(resource), Some(subresource)) => format!("{resource}/{subresource}"),
            (resource, _) => resource.copied().unwrap_or_default().to_owned(),
        };
        let watches = query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"));
        let verb = match *request.method() {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if name.is_some() => "delete",
            Method::DELETE => "deletecollection",
            _ if watches => "watch",
            _ if name.is_some() => "get",
            _ => "list",
        };
        Self {
            group,
            resource,
            verb: verb.to_owned(),
            name,
        }
    }

    /// Whether a rule allows it.
    fn is_allowed_by(&self, rule: &PolicyRule) -> bool {
        let has = |list: Option<&Vec<String>>, wanted: &str| {
            list.is_some_and(|list| list.iter().any(|item| item == "*" || item == wanted))
        };
        if !has(Some(&rule.verbs), &self.verb) {
            return false;
        }
        if self.resource.starts_with('/') {
            let urls = rule.non_resource_urls.as_deref().unwrap_or_default();
            return urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => self.resource.starts_with(prefix),
                None => *url == self.resource,
            });
        }
        let any_parent = self
            .resource
            .split_once('/')
            .map(|(_, subresource)| format!("*/{subresource}"));
        let resource = has(rule.resources.as_ref(), &self.resource)
            || any_parent.is_some_and(|any_parent| has(rule.resources.as_ref(), &any_parent));
        let names = rule.resource_names.as_deref().unwrap_or_default();
        let name = names.is_empty() || self.name.as_ref().is_some_and(|name| names.contains(name));
        has(rule.api_groups.as_ref(), &self.group) && resource && name
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// A record of all that was asked for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Audit(Arc<Mutex<BTreeSet<Access>>>);

impl Audit {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same client with its requests recorded. Needs a tokio runtime, as every client does.
    pub fn wrap(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let inner = client.clone();
        let service = tower::service_fn(move |request| {
            let client = inner.clone();
            async move { client.send(request).await }
        });
        Client::new(self.layer(service), namespace)
    }

    /// All that was asked for so far.
    pub fn accesses(&self) -> BTreeSet<Access> {
        self.0.lock().clone()
    }

    /// Compares the record with the rules of a role.
    pub fn check(&self, rules: &[PolicyRule]) -> Result<(), AuditError> {
        let accesses = self.accesses();
        let unlisted = accesses
            .iter()
            .filter(|access| !rules.iter().any(|rule| access.is_allowed_by(rule)))
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>();
        let unused = rules
            .iter()
            .flat_map(single_grants)
            .filter(|rule| !accesses.iter().any(|access| access.is_allowed_by(rule)))
            .map(|rule| describe(&rule))
            .collect::<BTreeSet<_>>();
        if unlisted.is_empty() && unused.is_empty() {
            return Ok(());
        }
        Err(AuditError {
            unlisted: unlisted.into_iter().collect(),
            unused: unused.into_iter().collect(),
        })
    }

    fn record(&self, access: Access) {
        self.0.lock().insert(access);
    }
}

/// What a program does and what it may do are not the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed the audit: not allowed but done: {unlisted:?}; allowed but not done: {unused:?}")]
pub struct AuditError {
    /// What was asked for and no rule allows, as `VERB RESOURCE.GROUP`.
    pub unlisted: Vec<String>,
    /// What rules allow and was not asked for, as `VERB RESOURCE.GROUP`.
    pub unused: Vec<String>,
}

/// A rule taken apart into rules of one verb on one resource.
fn single_grants(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut grants = Vec::new();
    for verb in &rule.verbs {
        for url in rule.non_resource_urls.iter().flatten() {
            grants.push(PolicyRule {
                non_resource_urls: Some(vec![url.clone()]),
                verbs: vec![verb.clone()],
                ..PolicyRule::default()
            });
        }
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                grants.push(PolicyRule {
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    resource_names: rule.resource_names.clone(),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                });
            }
        }
    }
    grants
}

/// A rule of one verb on one resource in words.
fn describe(rule: &PolicyRule) -> String {
    let first = |list: &Option<Vec<String>>| list.iter().flatten().next().cloned().unwrap_or_default();
    let urls = first(&rule.non_resource_urls);
    Access {
        group: first(&rule.api_groups),
        resource: if urls.is_empty() {
            first(&rule.resources)
        } else {
            urls
        },
        verb: rule.verbs.first().cloned().unwrap_or_default(),
        name: None,
    }
    .to_string()
}

impl<S> Layer<S> for Audit {
    type Service = Audited<S>;

    fn layer(&self, inner: S) -> Audited<S> {
        Audited {
            inner,
            audit: self.clone(),
        }
    }
}

/// A service whose requests are recorded.
#[derive(Clone, Debug)]
pub struct Audited<S> {
    inner: S,
    audit: Audit,
}

impl<S, B> Service<Request<Body>> for Audited<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let access = Access::of(&request);
        self.audit.record(access.clone());
        let audit = self.audit.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            // A server-side apply that makes a new object needs the right to create it as well.
            if access.verb == "patch" && answer.status() == StatusCode::CREATED {
                let verb = "create".to_owned();
                audit.record(Access { verb, ..access });
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::*;

    fn request(method: &str, uri: &str) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::empty())
            .unwrap()
    }

    #[test]
    fn reads_requests_as_the_authorizer_does() {
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces/a/pods", "list pods"),
            ("GET", "/api/v1/pods?watch=true&limit=5", "watch pods"),
            ("GET", "/api/v1/namespaces/a/pods/b?timeout=5s", "get pods"),
            (
                "POST",
                "/api/v1/namespaces/a/pods/b/eviction",
                "create pods/eviction",
            ),
            (
                "PUT",
                "/apis/apps/v1/namespaces/a/deployments/b",
                "update deployments.apps",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "patch deployments/scale.apps",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments/b",
                "delete deployments.apps",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection deployments.apps",
            ),
            ("GET", "/api/v1/namespaces", "list namespaces"),
            ("GET", "/api/v1/namespaces/a", "get namespaces"),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update namespaces/finalize",
            ),
            ("PATCH", "/api/v1/namespaces/a/status", "patch namespaces/status"),
            ("GET", "/version", "get /version"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("GET", "/apis", "get /apis"),
        ] {
            assert_eq!(
                Access::of(&request(method, uri)).to_string(),
                expected,
                "{method} {uri}"
            );
        }
    }

    fn rules(value: serde_json::Value) -> Vec<PolicyRule> {
        serde_json::from_value(value).unwrap()
    }

    async fn audit(requests: &[(&str, &str)]) -> Audit {
        let audit = Audit::new();
        let answer = async |request: Request<Body>| {
            let new = request.uri().query() == Some("new");
            Ok::<_, BoxError>(Response::builder().status(if new { 201 } else { 200 }).body(())?)
        };
        for (method, uri) in requests {
            audit
                .layer(tower::service_fn(answer))
                .oneshot(request(method, uri))
                .await
                .unwrap();
        }
        audit
    }

    #[tokio::test]
    async fn agrees_when_each_is_listed_and_used() {
        let audit = audit(&[
            ("GET", "/api/v1/pods"),
            ("GET", "/api/v1/pods?watch=true"),
            ("PATCH", "/api/v1/namespaces/a/secrets/b?new"),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/b/status"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/mine"),
            ("GET", "/version"),
        ])
        .await;
        let rules = rules(json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch"]},
            {"apiGroups": ["apps"], "resources": ["deployments/status"], "verbs": ["patch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["mine"],
             "verbs": ["update"]},
            {"nonResourceURLs": ["/version"], "verbs": ["get"]},
        ]));
        assert_eq!(audit.check(&rules), Ok(()));
    }

    #[tokio::test]
    async fn names_what_is_too_little_and_too_much() {
        let audit = audit(&[
            ("GET", "/api/v1/pods"),
            ("DELETE", "/api/v1/namespaces/a/pods/b"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/other"),
            ("PATCH", "/api/v1/namespaces/a/secrets/b?new"),
        ])
        .await;
        let rules = rules(json!([
            {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["patch", "delete"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["mine"],
             "verbs": ["update"]},
        ]));
        let error = audit.check(&rules).unwrap_err();
        assert_eq!(
            error.unlisted,
            [
                "create secrets",
                "delete pods",
                "update leases.coordination.k8s.io"
            ]
        );
        assert_eq!(
            error.unused,
            [
                "delete secrets",
                "list nodes",
                "update leases.coordination.k8s.io"
            ]
        );
    }

    #[tokio::test]
    async fn understands_wildcards() {
        let audit = audit(&[
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/b/status"),
            ("GET", "/apis/apps"),
        ])
        .await;
        for allowed in [
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["get"]}]),
            json!([{"apiGroups": ["apps"], "resources": ["*/status"], "verbs": ["patch"]},
                   {"nonResourceURLs": ["/apis/*"], "verbs": ["get"]}]),
        ] {
            assert_eq!(audit.check(&rules(allowed)), Ok(()));
        }
    }
}
