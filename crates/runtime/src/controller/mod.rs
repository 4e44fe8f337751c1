//! Controllers: what wakes a [`Reconciler`](crate::reconcile::Reconciler), and how its calls are run.
//!
//! ```no_run
//! use clusterwright_runtime::client::Client;
//! use clusterwright_runtime::controller::{Controller, Environment, Owner};
//! use clusterwright_runtime::object::ObjectKey;
//! use clusterwright_runtime::predicate::{Predicate, on};
//! use clusterwright_runtime::rbac::Verb;
//! use clusterwright_runtime::reconcile::Reconciler;
//! use k8s_openapi::api::apps::v1::Deployment;
//! use k8s_openapi::api::core::v1::{ConfigMap, Secret};
//!
//! fn greeter(reconciler: impl Reconciler<Object = ConfigMap>, environment: &Environment) -> Controller {
//!     Controller::builder("greeter", reconciler)
//!         .predicate(on::generation().or(on::labels()))
//!         .owns::<Deployment>(Owner::ControllerOnly)
//!         .watches(|secret: &Secret, client: &Client| {
//!             let name = secret.metadata.name.as_deref().unwrap_or_default();
//!             client.list_keys_by::<ConfigMap>("secretRef", name).unwrap_or_default()
//!         })
//!         .writes::<Deployment>(Verb::APPLY)
//!         .finalizer("example.com/greeter")
//!         .build(environment)
//! }
//! ```

mod builder;
mod source;
mod worker;

use std::sync::Arc;

use clusterwright_clock::Clock;
use futures::future::BoxFuture;

pub use builder::Builder;
pub use source::Owner;

use crate::client::Client;
use crate::events::Recorder;
use crate::manager::{Group, RunContext, RunError, Runnable};
use crate::metrics::Metrics;
use crate::rbac::Grants;
use crate::reconcile::Reconciler;

/// What controllers share.
#[derive(Clone)]
pub struct Environment {
    /// Reads from the cache, writes to the server.
    pub client: Client,
    /// What the time is.
    pub clock: Clock,
    /// Where to count.
    pub metrics: Metrics,
    /// Publishes Events; each controller does so under its own name.
    pub recorder: Recorder,
}

/// A controller that is ready to run. It watches from the moment it is built, so that its queue is filled before
/// it leads, and reconciles once the manager starts it.
pub struct Controller {
    name: Arc<str>,
    grants: Grants,
    work: Box<dyn FnOnce(RunContext) -> BoxFuture<'static, ()> + Send>,
}

impl Controller {
    /// Starts to describe a controller. Its name is unique within the manager; metrics and logs carry it.
    pub fn builder<R: Reconciler>(name: &str, reconciler: R) -> Builder<R, R::Object> {
        Builder::new(name, reconciler)
    }

    /// What it needs to be allowed to do: reading what it watches, keeping its finalizer, and the writes that its
    /// builder was told of.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// [`Controller::grants`] as the rules of a role.
    pub fn rules(&self) -> Vec<k8s_openapi::api::rbac::v1::PolicyRule> {
        self.grants.rules()
    }
}

impl Runnable for Controller {
    fn name(&self) -> &str {
        &self.name
    }

    fn group(&self) -> Group {
        Group::Leader
    }

    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        let work = (self.work)(cx);
        Box::pin(async move {
            work.await;
            Ok(())
        })
    }
}
