//! What a controller's author writes: a [`Reconciler`], and what it gets and gives.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use clusterwright_clock::Clock;
use uuid::Uuid;

use crate::client::Client;
use crate::events::Recorder;
use crate::object::{Object, ObjectKey};

/// Brings the world to what one object asks for.
///
/// A call may come at any time and for any reason: it reads what is there, compares it with what should be, and
/// writes the difference. No two calls for the same key run at once.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind that [`Request`]s point at.
    type Object: Object;
    /// Why a call can fail.
    type Error: ReconcileError;

    /// Brings the world to what the object asks for.
    ///
    /// The object may be gone: [`Context::get`] then gives `None`, and what is left behind can be cleaned up. With a
    /// finalizer on the builder this is not called while the object is being deleted; [`Reconciler::finalize`] is.
    fn reconcile(
        &self,
        cx: &Context,
        request: Request<Self::Object>,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;

    /// Cleans up for an object that is being deleted, where the builder names a finalizer.
    ///
    /// The framework removes the finalizer after [`Outcome::Done`]; [`Outcome::RequeueAfter`] keeps it and calls
    /// again. Calls may repeat after success, so that everything here must be safe to do twice.
    fn finalize(
        &self,
        cx: &Context,
        request: Request<Self::Object>,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send {
        let _ = (cx, request);
        async { Ok(Outcome::Done) }
    }
}

/// Why a reconcile failed, in a form that the framework can act on.
pub trait ReconcileError: std::error::Error + Send + Sync + 'static {
    /// One word in `CamelCase` from a closed set: the Event's reason, the condition's and the metric's label.
    fn reason(&self) -> &'static str;

    /// Whether a retry is useless until something changes. Terminal errors are counted and not retried.
    fn is_terminal(&self) -> bool {
        false
    }

    /// The least time to wait before the next try, where the cause names one, as a 429 does with `Retry-After`.
    /// The back-off applies where it is longer.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

impl ReconcileError for crate::client::Error {
    fn reason(&self) -> &'static str {
        Self::reason(self)
    }

    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }
}

/// What is to happen after a call that did not fail. A retry is an `Err`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing, until something changes.
    Done,
    /// Another call after this time, or earlier if something changes.
    RequeueAfter(Duration),
}

/// Which object to reconcile.
#[derive(Debug)]
pub struct Request<K> {
    key: ObjectKey,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Request<K> {
    fn clone(&self) -> Self {
        Self::new(self.key.clone())
    }
}

impl<K> Request<K> {
    /// A request for the object of that key.
    pub fn new(key: ObjectKey) -> Self {
        Self {
            key,
            kind: PhantomData,
        }
    }

    /// Namespace and name.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The namespace; `None` for kinds that live in none.
    pub fn namespace(&self) -> Option<&str> {
        self.key.namespace()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.key.name()
    }
}

/// What a reconcile works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) recorder: Recorder,
    pub(crate) id: Uuid,
}

impl Context {
    /// Reads from the cache, writes to the server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The time. Everything that a reconcile stamps comes from here, so that paused tests are paused whole.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Publishes Events under the controller's name. An `Err` needs none: the framework publishes a warning with its
    /// reason.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Names this call in logs and traces.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The object that the request points at, from the cache; `None` when it is gone.
    pub fn get<K: Object>(&self, request: &Request<K>) -> Result<Option<K>, crate::client::Error> {
        self.client.get(request.key())
    }
}
