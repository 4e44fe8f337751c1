//! An API server of one Lease, with links to it that can be slow, lossy or cut.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::BoxError;

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    /// The request arrives after half of this, and its answer after the other half.
    Slow(Duration),
    /// Nothing arrives, and nobody says so.
    Cut,
    /// Requests arrive and are acted on, but no answer comes back.
    Deaf,
    /// The server answers 500.
    Broken,
}

/// The server. Clones share the Lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseServer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    version: u64,
    lease: Option<Value>,
    writes: usize,
}

/// The switch of one client's link.
#[derive(Clone, Debug)]
pub(crate) struct Switch(Arc<Mutex<Link>>);

impl Switch {
    pub(crate) fn set(&self, link: Link) {
        *self.0.lock() = link;
    }
}

impl LeaseServer {
    /// A client with a link of its own.
    pub(crate) fn client(&self) -> (Client, Switch) {
        let switch = Switch(Arc::new(Mutex::new(Link::Up)));
        let (server, link) = (self.clone(), switch.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            let link = *link.0.lock();
            async move {
                match link {
                    Link::Cut => std::future::pending().await,
                    Link::Broken => Ok(status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
                    Link::Up => server.answer(request).await,
                    Link::Slow(latency) => {
                        sleep(latency / 2).await;
                        let answer = server.answer(request).await;
                        sleep(latency / 2).await;
                        answer
                    }
                    Link::Deaf => {
                        server.answer(request).await?;
                        std::future::pending().await
                    }
                }
            }
        });
        (Client::new(service, "default"), switch)
    }

    /// The Lease's `spec`.
    pub(crate) fn spec(&self) -> Option<Value> {
        self.0.lock().lease.as_ref().map(|lease| lease["spec"].clone())
    }

    pub(crate) fn holder(&self) -> Option<String> {
        self.spec()?.get("holderIdentity")?.as_str().map(str::to_owned)
    }

    pub(crate) fn writes(&self) -> usize {
        self.0.lock().writes
    }

    /// Changes the Lease as another client would.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock();
        state.version += 1;
        let version = state.version.to_string();
        let lease = state.lease.as_mut().expect("a Lease");
        edit(lease);
        lease["metadata"]["resourceVersion"] = json!(version);
    }

    pub(crate) fn delete(&self) {
        self.0.lock().lease = None;
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let method = request.method().clone();
        let body = request.into_body().collect().await?.to_bytes();
        let mut state = self.0.lock();
        match method {
            Method::GET => {
                let lease = state.lease.clone();
                return Ok(lease.map_or_else(
                    || status(StatusCode::NOT_FOUND, "NotFound"),
                    |lease| answer(StatusCode::OK, &lease),
                ));
            }
            Method::POST if state.lease.is_some() => {
                return Ok(status(StatusCode::CONFLICT, "AlreadyExists"));
            }
            _ => {}
        }
        let mut lease: Value = serde_json::from_slice(&body)?;
        if method == Method::PUT {
            let current = state
                .lease
                .as_ref()
                .map(|lease| &lease["metadata"]["resourceVersion"]);
            if current != Some(&lease["metadata"]["resourceVersion"]) {
                return Ok(status(StatusCode::CONFLICT, "Conflict"));
            }
        }
        state.version += 1;
        state.writes += 1;
        lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.lease = Some(lease.clone());
        Ok(answer(StatusCode::OK, &lease))
    }
}

fn answer(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = code;
    response
}

fn status(code: StatusCode, reason: &str) -> Response<Body> {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": reason,
    });
    answer(code, &body)
}
