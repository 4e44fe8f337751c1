//! Real Kubernetes components as child processes, for tests.
//!
//! A test that has to know what the real thing does starts it here: [`ControlPlane`] runs etcd and
//! kube-apiserver (and, when asked, kube-controller-manager) in a temporary folder on loopback ports,
//! [`ClusterApi`] runs Cluster API's core manager against it, and [`tools`] finds the pinned binaries. Nothing
//! outlives the test: see [`process`].
//!
//! The calls block (a start takes seconds): in an async test wrap them in `spawn_blocking`. There is no
//! Kubernetes client here, so that any crate's tests can use it; what it returns (URL, CA, token, kubeconfig) is
//! what a client needs.

mod cluster_api;
mod control_plane;
mod https;
mod pki;
pub mod process;
pub mod skip;
pub mod tools;

pub use cluster_api::ClusterApi;
pub use control_plane::{Builder, ControlPlane, KubeconfigUser};
pub use https::{Client, Response};
pub use pki::{Authority, Pair};

use std::{io, path::PathBuf, time::Duration};

/// Why a real component could not be had or did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary is not on this machine.
    #[error(transparent)]
    Missing(#[from] tools::Missing),
    /// A file or a child process failed.
    #[error("failed to {doing}")]
    Io {
        /// What was being done, as a verb phrase.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A certificate or key could not be made.
    #[error("failed to make certificates")]
    Pki(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// The component ended by itself.
    #[error("failed to start {name}: it ended by itself; the end of {log}:\n{tail}")]
    Ended {
        /// The component.
        name: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The component did not get ready in time.
    #[error("failed to start {name}: not ready after {after:?} ({last}); the end of {log}:\n{tail}")]
    NotReady {
        /// The component.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// The last answer or error.
        last: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The API server refused what the harness needs.
    #[error("failed to {doing}: {status} {body}")]
    Refused {
        /// What was being done, as a verb phrase.
        doing: String,
        /// The HTTP status code.
        status: u16,
        /// The body of the answer.
        body: String,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
