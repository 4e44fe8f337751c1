//! What the process tells Prometheus.
//!
//! The names are controller-runtime's, so that dashboards and alerts made for it work here: `controller_runtime_*`,
//! `workqueue_*`, `rest_client_*` and `leader_election_*`, with `process_*` and `tokio_*` where it has `process_*`
//! and `go_*`. Two families are this crate's own: `controller_reconciliations_total{controller,result}` and
//! `controller_reconciliation_duration_seconds{controller}`. Every label set that is known at the start is there
//! from the start with the value zero, so that `rate()` sees the first event.
//!
//! What would stay zero for ever is left out: the client neither limits its rate (the queue does) nor retries (the
//! queue does), so there is no `rest_client_rate_limiter_duration_seconds` and no `rest_client_request_retries_total`;
//! it resolves names inside the connector, which does not tell for how long; and there are no webhooks and no watched
//! certificates, so no `controller_runtime_webhook_*`, `controller_runtime_conversion_webhook_*` and `certwatcher_*`.

mod client;
mod controller;
mod leader;
mod process;
mod queue;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::routing::get;
use clap::Args;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;

pub use client::{ClientLayer, Counted};
pub use controller::{Active, ControllerMetrics, ReconcileEnd};
pub use leader::LeaderMetrics;
pub use queue::{QueueMetrics, Work};

use crate::config::BindAddress;
use client::ClientFamilies;
use controller::ControllerFamilies;
use leader::LeaderFamilies;
use queue::QueueFamilies;

/// The content type of the text.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All families of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: RwLock<Registry>,
    controllers: ControllerFamilies,
    queues: QueueFamilies,
    leaders: LeaderFamilies,
    clients: ClientFamilies,
}

impl Metrics {
    /// Families without a value yet, apart from `process_*` and, when made within a tokio runtime, `tokio_*`.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let controllers = ControllerFamilies::register(&mut registry);
        let queues = QueueFamilies::register(&mut registry);
        let leaders = LeaderFamilies::register(&mut registry);
        let clients = ClientFamilies::register(&mut registry);
        process::register(&mut registry);
        Self(Arc::new(Inner {
            registry: RwLock::new(registry),
            controllers,
            queues,
            leaders,
            clients,
        }))
    }

    /// The series of one controller, at zero.
    ///
    /// `max_concurrent` is the number of reconciles that it runs at once.
    pub fn controller(&self, name: &str, max_concurrent: usize) -> ControllerMetrics {
        self.0.controllers.of(name, max_concurrent)
    }

    /// The series of one controller's queue, at zero.
    pub fn queue(&self, name: &str) -> QueueMetrics {
        self.0.queues.of(name)
    }

    /// The series of one Lease that this process may lead by, at zero.
    pub fn leader(&self, lease: &str) -> LeaderMetrics {
        self.0.leaders.of(lease)
    }

    /// A layer for a client's stack that counts its requests, as those to `host`.
    ///
    /// [`connect`](Self::connect) is the usual way to one.
    pub fn client_layer(&self, host: &str) -> ClientLayer {
        self.0.clients.layer(host)
    }

    /// A client of the API server of `config` whose requests are counted.
    ///
    /// It does not retry by itself, whatever `config` says: a controller's queue does, with a back-off that others can
    /// see and that a shutdown ends.
    pub fn connect(&self, mut config: kube::Config) -> Result<kube::Client, kube::Error> {
        config.default_retry = false;
        let host = config
            .cluster_url
            .authority()
            .map_or("", |authority| authority.as_str())
            .to_owned();
        let builder = kube::client::ClientBuilder::try_from(config)?;
        Ok(builder.with_layer(&self.client_layer(&host)).build())
    }

    /// Adds families of the program's own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.registry.write());
    }

    /// All families in the text format of `OpenMetrics`.
    ///
    /// # Errors
    ///
    /// Only a collector registered by the program can fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry.read())?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The endpoint `/metrics`.
    pub fn router(&self) -> Router {
        let metrics = self.clone();
        let answer = async move || match metrics.encode() {
            Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
            Err(error) => {
                let text = format!("failed to encode the metrics: {error}\n");
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        };
        Router::new().route("/metrics", get(answer))
    }
}

/// The metrics' flag, named as controller-runtime's programs name it.
#[derive(Args, Clone, Debug)]
pub struct MetricsArgs {
    /// Where metrics are served: HOST:PORT, :PORT for all addresses, or 0 for nowhere
    #[arg(long, value_name = "ADDRESS", default_value = ":8080")]
    pub metrics_bind_address: BindAddress,
}

#[cfg(test)]
mod tests;
