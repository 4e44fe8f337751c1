//! The task that writes Events.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::correlator::{Correlator, Write};
use super::{Occurrence, What};
use crate::fence::is_fenced;
use crate::manager::{Group, RunContext, RunError, Runnable};

/// How often one write is tried, with a wait in between that doubles. More would hold up those that wait.
const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes what [`Recorder`](super::Recorder)s publish. It stops after the controllers, with an empty queue.
pub struct EventWorker {
    client: Client,
    instance: String,
    occurrences: mpsc::Receiver<Occurrence>,
    correlator: Correlator,
}

impl EventWorker {
    pub(super) fn new(client: Client, instance: &str, occurrences: mpsc::Receiver<Occurrence>) -> Self {
        let instance = instance
            .get(..instance.floor_char_boundary(128))
            .unwrap_or_default();
        Self {
            client,
            instance: instance.to_owned(),
            occurrences,
            correlator: Correlator::default(),
        }
    }

    async fn handle(&mut self, occurrence: Occurrence) {
        let Some(mut write) = self.correlator.observe(&occurrence) else {
            return;
        };
        let mut wait = FIRST_WAIT;
        for last_try in (0..TRIES).rev().map(|left| left == 0) {
            let error = match timeout(TRY_TIMEOUT, self.send(&occurrence, &write)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(elapsed) => kube::Error::Service(elapsed.into()),
            };
            match Failure::of(&error, &write) {
                Failure::Done => return,
                // The API server drops Events after an hour; the series goes on with another.
                Failure::Gone => write.new = true,
                Failure::Passing if !last_try => {
                    sleep(wait).await;
                    wait *= 2;
                }
                Failure::Passing | Failure::Final => {
                    let What {
                        regarding,
                        reason,
                        note,
                        ..
                    } = &occurrence.what;
                    tracing::warn!(%error, object = regarding.name, reason, note, "failed to write an Event");
                    break;
                }
            }
        }
        self.correlator.forget(&occurrence.what);
    }

    async fn send(&self, occurrence: &Occurrence, write: &Write) -> Result<(), kube::Error> {
        let namespace = occurrence
            .what
            .regarding
            .namespace
            .as_deref()
            .unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let event = event(occurrence, write, namespace, &self.instance);
        if write.new {
            api.create(&PostParams::default(), &event).await.map(drop)
        } else {
            let series = Patch::Merge(json!({"series": event.series}));
            api.patch(&write.name, &PatchParams::default(), &series)
                .await
                .map(drop)
        }
    }
}

impl fmt::Debug for EventWorker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventWorker")
            .field("instance", &self.instance)
            .field("correlator", &self.correlator)
            .finish_non_exhaustive()
    }
}

impl Runnable for EventWorker {
    fn name(&self) -> &'static str {
        "events"
    }

    fn group(&self) -> Group {
        Group::Always
    }

    fn run(mut self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(async move {
            cx.ready.set();
            loop {
                tokio::select! {
                    biased;
                    () = cx.shutdown.cancelled() => break,
                    occurrence = self.occurrences.recv() => match occurrence {
                        Some(occurrence) => self.handle(occurrence).await,
                        None => return Ok(()),
                    },
                }
            }
            // Controllers have ended, so what waits now is all that will come.
            while let Ok(occurrence) = self.occurrences.try_recv() {
                self.handle(occurrence).await;
            }
            Ok(())
        })
    }
}

/// What to make of a write that failed.
enum Failure {
    /// An earlier try did it, though its answer was lost.
    Done,
    /// The Event that was to be changed is not there any more.
    Gone,
    /// Another try may do it.
    Passing,
    /// No try will.
    Final,
}

impl Failure {
    fn of(error: &kube::Error, write: &Write) -> Self {
        match error {
            kube::Error::Api(status) if write.new && status.reason == "AlreadyExists" => Self::Done,
            kube::Error::Api(status) if !write.new && status.code == 404 => Self::Gone,
            kube::Error::Api(status) if status.code == 429 || status.code >= 500 => Self::Passing,
            kube::Error::Api(_) => Self::Final,
            _ if is_fenced(error) => Self::Final,
            _ => Self::Passing,
        }
    }
}

fn event(occurrence: &Occurrence, write: &Write, namespace: &str, instance: &str) -> Event {
    let What {
        controller,
        regarding,
        r#type,
        reason,
        action,
        note,
    } = &occurrence.what;
    Event {
        metadata: ObjectMeta {
            name: Some(write.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some(action.clone()),
        event_time: Some(MicroTime(write.since)),
        note: Some(note.clone()),
        reason: Some(reason.clone()),
        regarding: Some(ObjectReference {
            api_version: Some(regarding.api_version.clone()),
            kind: Some(regarding.kind.clone()),
            name: Some(regarding.name.clone()),
            namespace: regarding.namespace.clone(),
            uid: regarding.uid.clone(),
            resource_version: occurrence.resource_version.clone(),
            field_path: None,
        }),
        reporting_controller: Some(controller.to_string()),
        reporting_instance: Some(instance.to_owned()),
        // A series has two or more.
        series: (write.count > 1).then_some(EventSeries {
            count: write.count,
            last_observed_time: MicroTime(write.last),
        }),
        type_: Some(r#type.as_str().to_owned()),
        ..Event::default()
    }
}
