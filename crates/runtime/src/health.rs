//! `/healthz`, `/livez` and `/readyz`: whether to restart this process, and whether to count on it.
//!
//! Named checks, in the text that Kubernetes' own components answer with: `ok` alone when all pass, and a line per
//! check when one fails or `?verbose` asks for it. `?exclude=NAME` leaves a check out, and a path such as
//! `/readyz/caches` asks for one alone. Why a check fails is told only there and in the log, for the endpoints are
//! open to all.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::Args;
use parking_lot::RwLock;
use tower::BoxError;

use crate::config::BindAddress;

type Check = Arc<dyn Fn() -> Result<(), BoxError> + Send + Sync>;

/// The checks of a process. Clones share them.
#[derive(Clone)]
pub struct Health(Arc<RwLock<Checks>>);

struct Checks {
    live: BTreeMap<String, Check>,
    ready: BTreeMap<String, Check>,
}

#[derive(Clone, Copy)]
enum Endpoint {
    Healthz,
    Livez,
    Readyz,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }
}

impl Health {
    /// The one check `ping`, which passes whenever it is answered at all.
    pub fn new() -> Self {
        let ping: Check = Arc::new(|| Ok(()));
        let checks = BTreeMap::from([("ping".to_owned(), ping)]);
        Self(Arc::new(RwLock::new(Checks {
            live: checks.clone(),
            ready: checks,
        })))
    }

    /// Adds a check to `/livez` and `/healthz`, or replaces that of the same name. It must not block.
    ///
    /// A process whose check fails is restarted; it should fail only for what a restart mends.
    pub fn add_live(&self, name: &str, check: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static) {
        self.0.write().live.insert(name.to_owned(), Arc::new(check));
    }

    /// Adds a check to `/readyz`, or replaces that of the same name. It must not block.
    pub fn add_ready(&self, name: &str, check: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static) {
        self.0.write().ready.insert(name.to_owned(), Arc::new(check));
    }

    /// Whether all checks of `/readyz` pass now.
    pub fn is_ready(&self) -> bool {
        self.checks(Endpoint::Readyz)
            .values()
            .all(|check| check().is_ok())
    }

    /// The three endpoints.
    pub fn router(&self) -> Router {
        [Endpoint::Healthz, Endpoint::Livez, Endpoint::Readyz]
            .into_iter()
            .fold(Router::new(), |router, endpoint| {
                let (all, one) = (self.clone(), self.clone());
                let path = format!("/{}", endpoint.name());
                router
                    .route(
                        &format!("{path}/{{check}}"),
                        get(async move |Path(name): Path<String>| one.answer_one(endpoint, &name)),
                    )
                    .route(
                        &path,
                        get(async move |RawQuery(query): RawQuery| {
                            all.answer_all(endpoint, query.as_deref().unwrap_or_default())
                        }),
                    )
            })
    }

    fn checks(&self, endpoint: Endpoint) -> BTreeMap<String, Check> {
        let checks = self.0.read();
        match endpoint {
            Endpoint::Healthz | Endpoint::Livez => checks.live.clone(),
            Endpoint::Readyz => checks.ready.clone(),
        }
    }

    fn answer_one(&self, endpoint: Endpoint, name: &str) -> Response {
        match self.checks(endpoint).get(name).map(|check| check()) {
            None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
            Some(Ok(())) => "ok".into_response(),
            Some(Err(error)) => {
                let text = format!("internal server error: {error}\n");
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }

    fn answer_all(&self, endpoint: Endpoint, query: &str) -> Response {
        let checks = self.checks(endpoint);
        let parameters: Vec<(String, String)> = form(query);
        let excluded: Vec<&str> = parameters
            .iter()
            .filter(|(key, _)| key == "exclude")
            .map(|(_, value)| value.as_str())
            .collect();
        let mut text = String::new();
        let mut passed = true;
        for (name, check) in &checks {
            // Writing to a string can't fail.
            let _ = if excluded.contains(&name.as_str()) {
                writeln!(text, "[+]{name} excluded: ok")
            } else if let Err(error) = check() {
                passed = false;
                tracing::info!(
                    endpoint = endpoint.name(),
                    check = name,
                    error,
                    "health check failed"
                );
                writeln!(text, "[-]{name} failed: reason withheld")
            } else {
                writeln!(text, "[+]{name} ok")
            };
        }
        if passed && !parameters.iter().any(|(key, _)| key == "verbose") {
            return "ok".into_response();
        }
        let unknown: Vec<String> = excluded
            .iter()
            .filter(|name| !checks.contains_key(**name))
            .map(|name| format!("{name:?}"))
            .collect();
        if !unknown.is_empty() {
            let unknown = unknown.join(",");
            let _ = writeln!(
                text,
                "warn: some health checks cannot be excluded: no matches for {unknown}"
            );
        }
        let (code, verdict) = if passed {
            (StatusCode::OK, "passed")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "failed")
        };
        let _ = writeln!(text, "{} check {verdict}", endpoint.name());
        (code, text).into_response()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.0.read();
        formatter
            .debug_struct("Health")
            .field("live", &checks.live.keys())
            .field("ready", &checks.ready.keys())
            .finish()
    }
}

/// The pairs of a query string, in order; a key may repeat, and may have no value.
fn form(query: &str) -> Vec<(String, String)> {
    let uri = format!("/?{query}").parse().unwrap_or_default();
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
        .map(|query| query.0)
        .unwrap_or_default()
}

/// The probes' flag, named as controller-runtime's programs name it.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Where probes are answered: HOST:PORT, :PORT for all addresses, or 0 for nowhere
    #[arg(long, value_name = "ADDRESS", default_value = ":8081")]
    pub health_probe_bind_address: BindAddress,
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(health: &Health, path: &str) -> (u16, String) {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = health.router().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    fn text(code: u16, body: &str) -> (u16, String) {
        (code, body.to_owned())
    }

    #[tokio::test]
    async fn all_pass() {
        let health = Health::new();
        for endpoint in ["healthz", "livez", "readyz"] {
            assert_eq!(get(&health, &format!("/{endpoint}")).await, text(200, "ok"));
            let verbose = format!("[+]ping ok\n{endpoint} check passed\n");
            assert_eq!(
                get(&health, &format!("/{endpoint}?verbose")).await,
                text(200, &verbose)
            );
            assert_eq!(
                get(&health, &format!("/{endpoint}?verbose=true")).await,
                text(200, &verbose)
            );
            assert_eq!(get(&health, &format!("/{endpoint}/ping")).await, text(200, "ok"));
        }
    }

    #[tokio::test]
    async fn one_fails() {
        let health = Health::new();
        health.add_ready("caches", || Err("2 informers have not listed yet".into()));
        assert!(!health.is_ready());
        let failed = "[-]caches failed: reason withheld\n[+]ping ok\nreadyz check failed\n";
        assert_eq!(get(&health, "/readyz").await, text(500, failed));
        assert_eq!(get(&health, "/livez").await, text(200, "ok"));
        assert_eq!(
            get(&health, "/readyz/caches").await,
            text(500, "internal server error: 2 informers have not listed yet\n")
        );
        assert_eq!(
            get(&health, "/livez/caches").await,
            text(404, "404 page not found\n")
        );
    }

    #[tokio::test]
    async fn some_are_excluded() {
        let health = Health::new();
        health.add_live("disk", || Err("full".into()));
        assert_eq!(get(&health, "/healthz?exclude=disk").await, text(200, "ok"));
        let verbose = "[+]disk excluded: ok\n[+]ping excluded: ok\nhealthz check passed\n";
        assert_eq!(
            get(&health, "/healthz?verbose&exclude=disk&exclude=ping").await,
            text(200, verbose)
        );
        let unknown = "[-]disk failed: reason withheld\n[+]ping ok\n\
                       warn: some health checks cannot be excluded: no matches for \"x\",\"y\"\nhealthz check failed\n";
        assert_eq!(
            get(&health, "/healthz?exclude=x&exclude=y").await,
            text(500, unknown)
        );
    }
}
