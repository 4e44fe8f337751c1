//! Events: what happened to an object, for people who look at it.
//!
//! They go out as `events.k8s.io/v1` from a task of their own, so that a reconcile never waits for one: a full queue
//! drops, with a line in the log. What repeats becomes a series on the first Event instead of many Events, and an
//! object that keeps failing for one reason may write only so often; what is held back is counted and told with the
//! next that passes.

mod correlator;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use clusterwright_clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource};
use tokio::sync::mpsc::{self, error::TrySendError};

pub use worker::EventWorker;

/// How many Events wait at most for the API server.
const QUEUE_LENGTH: usize = 1024;

/// The longest note that the API server accepts, in bytes.
const MAX_NOTE: usize = 1024;

/// Whether an Event tells of a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// All is as it should be.
    Normal,
    /// Something needs attention.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened, on its way out.
#[derive(Clone, Debug)]
struct Occurrence {
    what: What,
    at: Timestamp,
    resource_version: Option<String>,
}

/// What makes two occurrences the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct What {
    controller: Arc<str>,
    regarding: Regarding,
    r#type: EventType,
    reason: String,
    action: String,
    note: String,
}

/// The object that an Event is about. A new object of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Regarding {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    uid: Option<String>,
}

/// Publishes Events on behalf of one controller. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
    controller: Arc<str>,
    clock: Clock,
}

impl Recorder {
    /// A recorder, and the task that it needs, to be added to the manager.
    ///
    /// `controller` is what Events name as `reportingController`, and `instance` what they name as
    /// `reportingInstance`: the pod, or the [identity](crate::leader::identity) of this process.
    pub fn new(client: Client, controller: &str, instance: &str, clock: Clock) -> (Self, EventWorker) {
        let (queue, occurrences) = mpsc::channel(QUEUE_LENGTH);
        let recorder = Self {
            queue,
            controller: controller.into(),
            clock,
        };
        (recorder, EventWorker::new(client, instance, occurrences))
    }

    /// The same queue on behalf of another controller.
    pub fn for_controller(&self, controller: &str) -> Self {
        Self {
            controller: controller.into(),
            ..self.clone()
        }
    }

    /// Publishes that something went as it should. See [`publish`](Self::publish).
    pub fn normal<K>(&self, regarding: &K, reason: &str, action: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(regarding, EventType::Normal, reason, action, note);
    }

    /// Publishes that something went wrong. See [`publish`](Self::publish).
    pub fn warning<K>(&self, regarding: &K, reason: &str, action: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(regarding, EventType::Warning, reason, action, note);
    }

    /// Publishes that something happened to `regarding`, which must have a name. Returns at once.
    ///
    /// `reason` says why in one word, `action` what was done or tried, both in `CamelCase` and at most 128
    /// characters; `note` is for people and is cut past 1024 bytes.
    pub fn publish<K>(
        &self,
        regarding: &K,
        r#type: EventType,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) where
        K: Resource<DynamicType = ()>,
    {
        let ObjectReference {
            api_version,
            kind,
            name,
            namespace,
            uid,
            ..
        } = regarding.object_ref(&());
        let mut note = note.into();
        if note.len() > MAX_NOTE {
            note.truncate(note.floor_char_boundary(MAX_NOTE));
        }
        let what = What {
            controller: self.controller.clone(),
            regarding: Regarding {
                api_version: api_version.unwrap_or_default(),
                kind: kind.unwrap_or_default(),
                namespace,
                name: name.unwrap_or_default(),
                uid,
            },
            r#type,
            reason: reason.to_owned(),
            action: action.to_owned(),
            note,
        };
        let occurrence = Occurrence {
            what,
            at: self.clock.now(),
            resource_version: regarding.meta().resource_version.clone(),
        };
        match self.queue.try_send(occurrence) {
            Ok(()) => {}
            Err(TrySendError::Full(lost)) => {
                tracing::warn!(
                    reason,
                    note = lost.what.note,
                    "dropped an Event: too many wait for the API server"
                );
            }
            Err(TrySendError::Closed(lost)) => {
                tracing::debug!(
                    reason,
                    note = lost.what.note,
                    "dropped an Event: nobody sends them"
                );
            }
        }
    }
}
