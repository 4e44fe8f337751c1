//! Why a read or a write failed.

use std::time::Duration;

use kube::core::Status;

use crate::object::ObjectKey;

/// Why a read or a write failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read from the cache of a kind that nobody asked an informer for.
    #[error("failed to read {kind}: no controller or cache watches it")]
    NotCached {
        /// The kind.
        kind: String,
    },
    /// A read by an index that nobody made.
    #[error("failed to read {kind}: there is no index {index:?}")]
    NoIndex {
        /// The kind.
        kind: String,
        /// The index's name.
        index: String,
    },
    /// An object that does not have the shape of its type.
    #[error("failed to decode {kind} {key}")]
    Decode {
        /// The kind.
        kind: String,
        /// Which object.
        key: ObjectKey,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An object that cannot be written as JSON.
    #[error("failed to encode {kind} {key}")]
    Encode {
        /// The kind.
        kind: String,
        /// Which object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The server refused, or could not be reached.
    #[error("failed to {verb} {kind} {key}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// The kind.
        kind: String,
        /// Which object; without a name for lists.
        key: ObjectKey,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The server's answer, where it gave one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// The object has changed since it was read, or another owns the field.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// There is an object of that name.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// The object is not valid in the server's eyes.
    pub fn is_invalid(&self) -> bool {
        self.status().is_some_and(Status::is_invalid)
    }

    /// One word for events, conditions and metrics: the server's reason where it is one of metav1's, otherwise what
    /// went wrong here.
    pub fn reason(&self) -> &'static str {
        /// metav1.StatusReason, as far as a client meets them.
        const REASONS: [&str; 14] = [
            "AlreadyExists",
            "BadRequest",
            "Conflict",
            "Expired",
            "Forbidden",
            "Gone",
            "InternalError",
            "Invalid",
            "MethodNotAllowed",
            "NotFound",
            "ServiceUnavailable",
            "Timeout",
            "TooManyRequests",
            "Unauthorized",
        ];
        match self {
            Self::NotCached { .. } | Self::NoIndex { .. } => "NotCached",
            Self::Decode { .. } | Self::Encode { .. } => "UnexpectedShape",
            Self::Api { .. } => match self.status() {
                Some(status) => REASONS
                    .into_iter()
                    .find(|reason| *reason == status.reason)
                    .unwrap_or("RequestRefused"),
                None => "RequestFailed",
            },
        }
    }

    /// How long the server asks to wait, as with 429 and `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}
