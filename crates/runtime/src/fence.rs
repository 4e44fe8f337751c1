//! A wall between a process that no longer leads and the cluster's state.
//!
//! A lease alone does not keep a former leader from writing: it may be stuck in a retry, in a long reconcile, or
//! cut off from the API server, and not know that another took over. The fence sits in the client's path. Each
//! renewal of the lease opens it up to the renew deadline, counted from when the renewal was *sent*; nobody
//! can take the lease before the lease duration has passed since then, which is longer. Past the deadline no
//! mutating request goes out and those in flight are cut, by the clock alone and with no help from the elector.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

/// Why the fence stopped a request. It reaches callers as the source of [`kube::Error::Service`].
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The request was not sent.
    #[error("failed to send {method} {path}: this process does not lead")]
    Refused {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
    },
    /// The request was in flight when leadership ended. Whether the server has acted on it is not known.
    #[error("failed to await {method} {path}: this process leads no more")]
    Cut {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
    },
}

/// Whether the fence, and not the server or the network, is why a call failed.
pub fn is_fenced(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(source) if source.is::<FenceError>())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// There is no election: writes always pass.
    Open,
    /// Writes pass until then.
    Until(Instant),
    /// No write passes.
    Closed,
}

impl Gate {
    fn is_open(self) -> bool {
        match self {
            Self::Open => true,
            Self::Until(deadline) => Instant::now() < deadline,
            Self::Closed => false,
        }
    }
}

/// A handle on the fence, and the tower layer that enforces it. Clones are the same fence.
#[derive(Clone, Debug)]
pub struct Fence(watch::Sender<Gate>);

impl Fence {
    /// A fence that lets everything pass, for a process without election.
    pub fn open() -> Self {
        Self(watch::Sender::new(Gate::Open))
    }

    /// A fence that lets only reads pass until [`extend`](Self::extend) is called.
    pub fn closed() -> Self {
        Self(watch::Sender::new(Gate::Closed))
    }

    /// Lets writes pass until `deadline`.
    pub fn extend(&self, deadline: Instant) {
        self.0.send_replace(Gate::Until(deadline));
    }

    /// Lets no write pass from now on, and cuts those in flight.
    pub fn close(&self) {
        self.0.send_replace(Gate::Closed);
    }

    /// Whether a write would pass now.
    pub fn allows_writes(&self) -> bool {
        self.0.borrow().is_open()
    }

    /// Waits until no write passes.
    pub async fn shut(&self) {
        let mut gate = self.0.subscribe();
        loop {
            let now = *gate.borrow_and_update();
            // The sender is `self`, so the channel does not end and each wait ends in a change or a deadline.
            match now {
                Gate::Closed => return,
                Gate::Until(_) if !now.is_open() => return,
                Gate::Until(deadline) => drop(timeout_at(deadline, gate.changed()).await),
                Gate::Open => drop(gate.changed().await),
            }
        }
    }

    /// The same client behind this fence.
    ///
    /// Needs a tokio runtime, as every client does.
    pub fn wrap(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let inner = client.clone();
        let service = tower::service_fn(move |request| {
            let client = inner.clone();
            async move { client.send(request).await }
        });
        Client::new(self.layer(service), namespace).with_valid_until(*client.valid_until())
    }
}

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced {
            inner,
            fence: self.clone(),
        }
    }
}

/// A service behind a [`Fence`].
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    inner: S,
    fence: Fence,
}

impl<S, B> Service<Request<Body>> for Fenced<S>
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
        if !mutates(&request) {
            let call = self.inner.call(request);
            return Box::pin(async move { call.await.map_err(Into::into) });
        }
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        if !self.fence.allows_writes() {
            return Box::pin(async move { Err(FenceError::Refused { method, path }.into()) });
        }
        let fence = self.fence.clone();
        let call = self.inner.call(request);
        Box::pin(async move {
            tokio::select! {
                biased;
                () = fence.shut() => Err(FenceError::Cut { method, path }.into()),
                response = call => response.map_err(Into::into),
            }
        })
    }
}

/// Whether a request may change something. Commands in containers are GETs that upgrade their connection.
fn mutates(request: &Request<Body>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || request.headers().contains_key(http::header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams, PostParams};
    use tokio::time::sleep;

    use super::*;

    /// A client of a server that answers after `latency`, and how many requests reached it and were answered.
    fn slow_server(latency: Duration) -> (Client, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (seen, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counters = (seen.clone(), answered.clone());
        let service = tower::service_fn(move |_: Request<Body>| {
            let (seen, answered) = counters.clone();
            async move {
                seen.fetch_add(1, Ordering::SeqCst);
                sleep(latency).await;
                answered.fetch_add(1, Ordering::SeqCst);
                let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
                Ok::<_, BoxError>(Response::new(Body::from(body.as_bytes().to_vec())))
            }
        });
        (Client::new(service, "default"), seen, answered)
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_writes_but_not_reads() {
        let (client, seen, _) = slow_server(Duration::ZERO);
        let api: Api<ConfigMap> = Api::default_namespaced(Fence::closed().wrap(&client));
        api.get("a").await.unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        let error = api
            .create(&PostParams::default(), &ConfigMap::default())
            .await
            .unwrap_err();
        assert!(is_fenced(&error), "{error:?}");
        let error = api.delete("a", &DeleteParams::default()).await.unwrap_err();
        assert_eq!(
            std::error::Error::source(&error)
                .map(ToString::to_string)
                .as_deref(),
            Some("failed to send DELETE /api/v1/namespaces/default/configmaps/a: this process does not lead")
        );
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn lets_all_pass_without_election() {
        let (client, ..) = slow_server(Duration::from_hours(1));
        let api: Api<ConfigMap> = Api::default_namespaced(Fence::open().wrap(&client));
        api.create(&PostParams::default(), &ConfigMap::default())
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_calls_in_flight_at_the_deadline() {
        let (client, seen, answered) = slow_server(Duration::from_mins(1));
        let fence = Fence::closed();
        let start = Instant::now();
        fence.extend(start + Duration::from_secs(10));
        let api: Api<ConfigMap> = Api::default_namespaced(fence.wrap(&client));
        let error = api
            .create(&PostParams::default(), &ConfigMap::default())
            .await
            .unwrap_err();
        assert!(is_fenced(&error), "{error:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        sleep(Duration::from_mins(10)).await;
        assert_eq!(
            (seen.load(Ordering::SeqCst), answered.load(Ordering::SeqCst)),
            (1, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_keeps_calls_in_flight() {
        let (client, ..) = slow_server(Duration::from_secs(15));
        let fence = Fence::closed();
        fence.extend(Instant::now() + Duration::from_secs(10));
        let api: Api<ConfigMap> = Api::default_namespaced(fence.wrap(&client));
        let call =
            tokio::spawn(async move { api.create(&PostParams::default(), &ConfigMap::default()).await });
        sleep(Duration::from_secs(8)).await;
        fence.extend(Instant::now() + Duration::from_secs(10));
        call.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_cuts_at_once() {
        let (client, ..) = slow_server(Duration::from_mins(1));
        let fence = Fence::closed();
        fence.extend(Instant::now() + Duration::from_secs(10));
        let api: Api<ConfigMap> = Api::default_namespaced(fence.wrap(&client));
        let start = Instant::now();
        let call =
            tokio::spawn(async move { api.create(&PostParams::default(), &ConfigMap::default()).await });
        sleep(Duration::from_secs(1)).await;
        fence.close();
        assert!(is_fenced(&call.await.unwrap().unwrap_err()));
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
