//! Families of requests to the API server, and the tower layer that counts them.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as _;
use kube::client::Body;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// Upper bounds in seconds, those of Kubernetes' own clients.
const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Upper bounds in bytes, 64 B to 16 MiB, those of Kubernetes' own clients.
const BYTES: [f64; 11] = [
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// The label of a request that got no answer.
const NO_ANSWER: &str = "<error>";

/// Methods whose series are there from the start.
const METHODS: [&str; 5] = ["DELETE", "GET", "PATCH", "POST", "PUT"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    method: String,
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: String,
    host: String,
}

type Histograms = Family<VerbLabels, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug)]
pub(super) struct ClientFamilies {
    requests: Family<RequestLabels, Counter>,
    duration: Histograms,
    request_size: Histograms,
    response_size: Histograms,
}

impl ClientFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            request_size: Family::new_with_constructor(|| Histogram::new(BYTES)),
            response_size: Family::new_with_constructor(|| Histogram::new(BYTES)),
        };
        registry.register(
            "rest_client_requests",
            "Requests to the API server, by status code, method and host",
            families.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "How long a request to the API server took until its answer began, by verb and host",
            families.duration.clone(),
        );
        registry.register(
            "rest_client_request_size_bytes",
            "How long the body of a request to the API server was, by verb and host",
            families.request_size.clone(),
        );
        registry.register(
            "rest_client_response_size_bytes",
            "How long the body of an answer of the API server was where it said so, by verb and host",
            families.response_size.clone(),
        );
        families
    }

    pub(super) fn layer(&self, host: &str) -> ClientLayer {
        for method in METHODS {
            let labels = VerbLabels {
                verb: method.to_owned(),
                host: host.to_owned(),
            };
            for family in [&self.duration, &self.request_size, &self.response_size] {
                drop(family.get_or_create(&labels));
            }
        }
        ClientLayer {
            families: self.clone(),
            host: host.to_owned(),
        }
    }

    fn observe(&self, call: &Call, code: &str, took: Duration, response_size: Option<u64>) {
        let labels = VerbLabels {
            verb: call.method.clone(),
            host: call.host.clone(),
        };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
        if let Some(size) = call.size {
            self.request_size.get_or_create(&labels).observe(float(size));
        }
        if let Some(size) = response_size {
            self.response_size.get_or_create(&labels).observe(float(size));
        }
        self.requests
            .get_or_create(&RequestLabels {
                code: code.to_owned(),
                method: labels.verb,
                host: labels.host,
            })
            .inc();
    }
}

/// Sizes beyond 4 GiB fall in the last bucket all the same.
fn float(size: u64) -> f64 {
    f64::from(u32::try_from(size).unwrap_or(u32::MAX))
}

struct Call {
    method: String,
    host: String,
    size: Option<u64>,
}

/// Counts the requests that pass through it. See [`Metrics::client_layer`](super::Metrics::client_layer).
#[derive(Clone, Debug)]
pub struct ClientLayer {
    families: ClientFamilies,
    host: String,
}

impl<S> Layer<S> for ClientLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    layer: ClientLayer,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call {
            method: request.method().as_str().to_owned(),
            host: self.layer.host.clone(),
            size: request.body().size_hint().exact(),
        };
        let families = self.layer.families.clone();
        let start = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into);
            match &answer {
                Ok(response) => {
                    let size = response.body().size_hint().exact();
                    families.observe(&call, response.status().as_str(), start.elapsed(), size);
                }
                Err(_) => families.observe(&call, NO_ANSWER, start.elapsed(), None),
            }
            answer
        })
    }
}
