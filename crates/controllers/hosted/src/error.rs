//! Why a pass failed.

use std::time::Duration;

use clusterwright_api::reasons::Reason;
use clusterwright_runtime::client;
use clusterwright_runtime::reconcile::ReconcileError;

use crate::pki::CertificateError;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or failed a request.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// An object of the needed name is another's.
    #[error("failed to take {kind} {name}: it is controlled by {by}")]
    AlreadyOwned {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Who controls it, as `Kind name`.
        by: String,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A root or key pair is gone or can't be used, and a new one may not be made.
    #[error("failed to use the Secret {secret}: {problem}")]
    Root {
        /// The word for it.
        reason: Reason,
        /// The Secret's name.
        secret: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// The word for conditions, Events and metrics.
    pub fn word(&self) -> Reason {
        match self {
            Self::Client(_) => Reason::RequestFailed,
            Self::AlreadyOwned { .. } => Reason::AlreadyOwned,
            Self::Certificate(_) => Reason::CertificateFailed,
            Self::Root { reason, .. } => *reason,
        }
    }

    /// The error and what caused it, in one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let text = cause.to_string();
            // Errors that pass their cause through say the same twice.
            if !line.ends_with(&text) {
                line = format!("{line}: {text}");
            }
            source = cause.source();
        }
        line
    }
}

impl ReconcileError for Error {
    fn reason(&self) -> &'static str {
        self.word().as_str()
    }

    /// What only a change of the Secret can mend is not tried again before it changes.
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Root { .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Client(error) => error.retry_after(),
            _ => None,
        }
    }
}
