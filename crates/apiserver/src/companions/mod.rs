//! Controllers' work beside the server: garbage collection, deletion of namespaces, cluster roles that are gathered of
//! others, the certificate that pods know the server by, and stages that make workloads live.
//!
//! Each companion is a client of the API like any other and can be switched off; on a real server the controller
//! manager does the same work. They wait on tokio's clock alone, so that a paused test runs through at once, and
//! find their way from what is stored, after a restart and after a lost watch.

mod access;
mod aggregation;
mod gc;
mod graph;
mod namespaces;
mod root_certificate;
mod stages;

#[cfg(test)]
mod tests;

pub use stages::Stages;

use clusterwright_clock::Clock;
use futures::future::join_all;
use std::future::Future;
use std::pin::Pin;
use tokio_util::sync::CancellationToken;

/// What runs beside a server. By default all of it does but what has to be given: stages and certificate.
#[derive(Clone)]
pub struct Companions {
    client: kube::Client,
    clock: Clock,
    garbage_collection: bool,
    namespaces: bool,
    cluster_roles: bool,
    root_certificate: Option<String>,
    stages: Option<Stages>,
}

impl Companions {
    /// Companions that work through `client`, which needs to be allowed everything, by `clock`.
    pub fn new(client: kube::Client, clock: Clock) -> Self {
        Self {
            client,
            clock,
            garbage_collection: true,
            namespaces: true,
            cluster_roles: true,
            root_certificate: None,
            stages: None,
        }
    }

    /// Switches garbage collection: objects go when their last owner has gone.
    pub fn garbage_collection(mut self, on: bool) -> Self {
        self.garbage_collection = on;
        self
    }

    /// Switches the deletion of what is in a namespace that is deleted.
    pub fn namespaces(mut self, on: bool) -> Self {
        self.namespaces = on;
        self
    }

    /// Switches the gathering of `ClusterRoles` with an `aggregationRule`, as `admin`, `edit` and `view` are.
    pub fn cluster_roles(mut self, on: bool) -> Self {
        self.cluster_roles = on;
        self
    }

    /// Publishes this certificate (PEM) to the pods of every namespace: that of who signed the server's.
    pub fn root_certificate(mut self, pem: impl Into<String>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    /// Sets the stages that make workloads live, or none.
    pub fn stages(mut self, stages: Option<Stages>) -> Self {
        self.stages = stages;
        self
    }

    /// Runs until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut running: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        if self.garbage_collection {
            running.push(Box::pin(gc::run(self.client.clone(), self.clock)));
        }
        if self.namespaces {
            running.push(Box::pin(namespaces::run(self.client.clone(), self.clock)));
        }
        if self.cluster_roles {
            running.push(Box::pin(aggregation::run(self.client.clone())));
        }
        if let Some(certificate) = self.root_certificate {
            running.push(Box::pin(root_certificate::run(self.client.clone(), certificate)));
        }
        if let Some(stages) = self.stages {
            running.push(Box::pin(stages::run(self.client.clone(), self.clock, stages)));
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = join_all(running) => shutdown.cancelled().await,
        }
    }
}
