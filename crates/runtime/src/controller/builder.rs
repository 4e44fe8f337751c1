//! How a controller is described.

use std::sync::Arc;
use std::time::Duration;

use super::source::{Owner, Source};
use super::worker::{Settings, Worker};
use super::{Controller, Environment};
use crate::client::Client;
use crate::object::{Object, ObjectKey};
use crate::predicate::Predicate;
use crate::queue::{Backoff, Queue, QueueOptions, RateLimit};
use crate::rbac::{Grants, Verb};
use crate::reconcile::Reconciler;

type Feed = Box<dyn FnOnce(Arc<str>, &Client, Arc<Queue<ObjectKey>>) + Send>;

/// The description of a controller. `K` is the kind that [`Builder::predicate`] speaks of: the one named last.
pub struct Builder<R: Reconciler, K> {
    parts: Parts<R>,
    source: Source<K>,
}

struct Parts<R> {
    name: Arc<str>,
    reconciler: R,
    settings: Settings,
    queue: QueueOptions,
    feeds: Vec<Feed>,
    grants: Grants,
}

impl<R: Reconciler> Builder<R, R::Object> {
    pub(super) fn new(name: &str, reconciler: R) -> Self {
        let parts = Parts {
            name: Arc::from(name),
            reconciler,
            settings: Settings::default(),
            queue: QueueOptions::default(),
            feeds: Vec::new(),
            grants: Grants::new().on::<R::Object>(Verb::READ),
        };
        Self {
            parts,
            source: Source::itself(),
        }
    }
}

impl<R: Reconciler, K: Object> Builder<R, K> {
    /// Watches objects of kind `C` and reconciles the owners that they name.
    pub fn owns<C: Object>(self, owner: Owner) -> Builder<R, C> {
        self.source(Source::owner(owner))
    }

    /// Watches objects of kind `C` and reconciles what the function makes of them. For an update it is asked about
    /// both states. Objects that do not have the shape of their type lead nowhere.
    pub fn watches<C: Object>(
        self,
        map: impl Fn(&C, &Client) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Builder<R, C> {
        self.source(Source::map(map))
    }

    fn source<C: Object>(mut self, source: Source<C>) -> Builder<R, C> {
        self.seal();
        self.parts.grants = self.parts.grants.on::<C>(Verb::READ);
        Builder {
            parts: self.parts,
            source,
        }
    }

    fn seal(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::itself());
        self.parts.feeds.push(Box::new(|name, client, queue| {
            source.feed::<R::Object>(name, client, queue);
        }));
    }

    /// Narrows which changes of the kind named last count. Several add up: a change has to pass all of them.
    pub fn predicate(mut self, predicate: impl Predicate<K>) -> Self {
        self.source.filter(predicate);
        self
    }

    /// Says that the reconciler writes objects of kind `C`.
    pub fn writes<C: Object>(mut self, verbs: impl IntoIterator<Item = Verb>) -> Self {
        self.parts.grants = self.parts.grants.on::<C>(verbs);
        self
    }

    /// Says that the reconciler writes the status of objects of kind `C`, by patch or server-side apply.
    pub fn writes_status<C: Object>(mut self) -> Self {
        self.parts.grants = self.parts.grants.on_subresource::<C>("status", [Verb::Patch]);
        self
    }

    /// Says what else the reconciler does.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.parts.grants = self.parts.grants.merge(grants);
        self
    }

    /// How many reconciles run at once. 5 by default; zero counts as one.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.parts.settings.concurrency = concurrency.max(1);
        self
    }

    /// After how long a reconcile is cut off and tried again. 60 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.parts.settings.timeout = timeout;
        self
    }

    /// How long a key waits after failures. 5 ms to 300 s by default.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.parts.queue.backoff = backoff;
        self
    }

    /// How fast failures of all keys together are tried again; `None` is without limit. Ten a second with a burst of
    /// a hundred by default.
    pub fn rate_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.parts.queue.rate_limit = limit;
        self
    }

    /// Keeps a finalizer of this name on every object: added before the first reconcile, removed after
    /// [`Reconciler::finalize`] is done.
    pub fn finalizer(mut self, name: &str) -> Self {
        self.parts.settings.finalizer = Some(name.to_owned());
        self.parts.grants = self.parts.grants.on::<R::Object>([Verb::Patch]);
        self
    }

    /// What the controller needs to be allowed to do; see [`Controller::grants`]. Known before it is built, so that
    /// roles can be generated without a cluster.
    pub fn declared(&self) -> &Grants {
        &self.parts.grants
    }

    /// Builds the controller: its informers are asked for, and its queue fills from now on.
    pub fn build(mut self, environment: &Environment) -> Controller {
        self.seal();
        let Parts {
            name,
            reconciler,
            settings,
            queue,
            feeds,
            grants,
        } = self.parts;
        let metrics = environment.metrics.queue(&name);
        let queue = Arc::new(Queue::new(queue, Some(metrics.clone())));
        for feed in feeds {
            feed(Arc::clone(&name), &environment.client, Arc::clone(&queue));
        }
        let worker = Worker::new(
            Arc::clone(&name),
            reconciler,
            settings,
            environment.clone(),
            queue,
            metrics,
        );
        Controller {
            name,
            grants,
            work: Box::new(move |cx| Box::pin(worker.run(cx))),
        }
    }
}
