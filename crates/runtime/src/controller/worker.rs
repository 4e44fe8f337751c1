//! Runs reconciles: so many at once, each with a limit on its time and a guard against its panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::Environment;
use crate::client;
use crate::events::Recorder;
use crate::finalizer::{self, Stage};
use crate::manager::RunContext;
use crate::metrics::{ControllerMetrics, QueueMetrics, ReconcileEnd};
use crate::object::ObjectKey;
use crate::queue::{End, Queue, dispatch};
use crate::reconcile::{Context, Outcome, ReconcileError, Reconciler, Request};
use crate::telemetry;

#[derive(Debug)]
pub(super) struct Settings {
    pub concurrency: usize,
    pub timeout: Duration,
    pub finalizer: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 5,
            timeout: Duration::from_secs(60),
            finalizer: None,
        }
    }
}

pub(super) struct Worker<R>(Arc<Shared<R>>);

struct Shared<R> {
    name: Arc<str>,
    reconciler: R,
    settings: Settings,
    environment: Environment,
    recorder: Recorder,
    queue: Arc<Queue<ObjectKey>>,
    queue_metrics: QueueMetrics,
    metrics: ControllerMetrics,
}

/// How a call ended.
enum Ended<E> {
    Ok(Outcome),
    Failed(E),
    Client(client::Error),
    TimedOut,
    Panicked(String),
}

impl<R: Reconciler> Worker<R> {
    pub fn new(
        name: Arc<str>,
        reconciler: R,
        settings: Settings,
        environment: Environment,
        queue: Arc<Queue<ObjectKey>>,
        queue_metrics: QueueMetrics,
    ) -> Self {
        let metrics = environment.metrics.controller(&name, settings.concurrency);
        let recorder = environment.recorder.for_controller(&name);
        Self(Arc::new(Shared {
            name,
            reconciler,
            settings,
            environment,
            recorder,
            queue,
            queue_metrics,
            metrics,
        }))
    }

    /// Reconciles until shutdown, then waits for the calls in flight. Dropping the future cuts them.
    pub async fn run(self, cx: RunContext) {
        let RunContext { shutdown, ready } = cx;
        let shared = self.0;
        shared.environment.client.cache().synced().await;
        ready.set();
        let queue = Arc::clone(&shared.queue);
        let concurrency = shared.settings.concurrency;
        dispatch(queue, concurrency, &shutdown, move |item| {
            Arc::clone(&shared).work(item.key.clone(), item.failures)
        })
        .await;
    }
}

impl<R: Reconciler> Shared<R> {
    async fn work(self: Arc<Self>, key: ObjectKey, failures: u32) -> End {
        let id = Uuid::new_v4();
        let span = telemetry::reconcile_span(&self.name, &key, id);
        async {
            let _working = self.queue_metrics.working();
            let _active = self.metrics.started();
            let start = Instant::now();
            let ended = self.call(&key, id).await;
            let took = start.elapsed();
            let (metric, end) = self.judge(&key, ended, failures, took);
            self.metrics.finished(metric, took);
            end
        }
        .instrument(span)
        .await
    }

    async fn call(&self, key: &ObjectKey, id: Uuid) -> Ended<R::Error> {
        let context = Context {
            client: self.environment.client.clone(),
            clock: self.environment.clock,
            recorder: self.recorder.clone(),
            id,
        };
        let call = AssertUnwindSafe(self.reconcile(&context, key)).catch_unwind();
        match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Ended::Panicked(text.unwrap_or_default())
            }
            Err(_) => Ended::TimedOut,
        }
    }

    async fn reconcile(&self, context: &Context, key: &ObjectKey) -> Ended<R::Error> {
        let request = Request::new(key.clone());
        let result = match &self.settings.finalizer {
            None => self.reconciler.reconcile(context, request).await,
            Some(finalizer) => match self.with_finalizer(context, request, finalizer).await {
                Ok(result) => result,
                Err(error) => return Ended::Client(error),
            },
        };
        match result {
            Ok(outcome) => Ended::Ok(outcome),
            Err(error) => Ended::Failed(error),
        }
    }

    /// Calls what the object's stage asks for. The outer error is the framework's own.
    async fn with_finalizer(
        &self,
        context: &Context,
        request: Request<R::Object>,
        name: &str,
    ) -> Result<Result<Outcome, R::Error>, client::Error> {
        let client = &self.environment.client;
        let Some(object) = client.get::<R::Object>(request.key())? else {
            return Ok(self.reconciler.reconcile(context, request).await);
        };
        match finalizer::stage(&object, name) {
            Stage::New => finalizer::add(client, &object, name).await?,
            Stage::Alive => {}
            Stage::Left => return Ok(Ok(Outcome::Done)),
            Stage::Ending => {
                let outcome = match self.reconciler.finalize(context, request.clone()).await {
                    Ok(Outcome::Done) => Outcome::Done,
                    other => return Ok(other),
                };
                // The clean-up may have written the object.
                if let Some(object) = client.get::<R::Object>(request.key())?
                    && finalizer::stage(&object, name) == Stage::Ending
                {
                    finalizer::remove(client, &object, name).await?;
                }
                return Ok(Ok(outcome));
            }
        }
        Ok(self.reconciler.reconcile(context, request).await)
    }

    /// What an end means for the queue and the metrics, and who is told of it.
    fn judge(
        &self,
        key: &ObjectKey,
        ended: Ended<R::Error>,
        failures: u32,
        took: Duration,
    ) -> (ReconcileEnd, End) {
        let retry = |at_least: Option<Duration>| End::Failed {
            at_least: at_least.unwrap_or_default(),
        };
        match ended {
            Ended::Ok(Outcome::Done) => {
                tracing::debug!(?took, "reconciled");
                (ReconcileEnd::Success, End::Done)
            }
            Ended::Ok(Outcome::RequeueAfter(after)) => {
                tracing::debug!(?took, ?after, "reconciled, to be called again");
                (ReconcileEnd::RequeueAfter, End::RequeueAfter(after))
            }
            Ended::Failed(error) if error.is_terminal() => {
                let (reason, error) = (error.reason(), chain(&error));
                tracing::error!(reason, error, "failed to reconcile, and no retry will help");
                self.warn(key, reason, error);
                (ReconcileEnd::TerminalError, End::Done)
            }
            Ended::Failed(error) => {
                let (reason, at_least, error) = (error.reason(), error.retry_after(), chain(&error));
                tracing::warn!(reason, error, failures, "failed to reconcile");
                self.warn(key, reason, error);
                (ReconcileEnd::Error, retry(at_least))
            }
            Ended::Client(error) => {
                let (reason, at_least, error) = (error.reason(), error.retry_after(), chain(&error));
                tracing::warn!(reason, error, failures, "failed to keep the finalizer");
                self.warn(key, reason, error);
                (ReconcileEnd::Error, retry(at_least))
            }
            Ended::TimedOut => {
                let timeout = self.settings.timeout;
                tracing::error!(?timeout, failures, "a reconcile took too long and was cut off");
                self.warn(key, "ReconcileTimeout", format!("cut off after {timeout:?}"));
                (ReconcileEnd::Timeout, retry(None))
            }
            Ended::Panicked(panic) => {
                tracing::error!(panic, failures, "a reconcile panicked");
                self.warn(
                    key,
                    "ReconcilePanic",
                    "the controller has a bug: see its log".to_owned(),
                );
                (ReconcileEnd::Panic, retry(None))
            }
        }
    }

    /// Publishes a failure on the object, if it is still there. Conflicts are no news: they say that somebody was
    /// quicker, and the next try sees what they did.
    fn warn(&self, key: &ObjectKey, reason: &str, note: String) {
        if reason == "Conflict" {
            return;
        }
        if let Ok(Some(object)) = self.environment.client.get::<R::Object>(key) {
            self.recorder.warning(&object, reason, "Reconcile", note);
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
