//! Asking a running etcd for its members, and changing them.

use std::fmt;

use futures::future::BoxFuture;

use super::plan::View;

/// A member to ask: one that works and has a vote.
pub struct Contact {
    /// The namespace of its pod.
    pub namespace: String,
    /// The pod's name, which is the member's.
    pub pod: String,
    /// The name that its certificate holds for.
    pub host: String,
    /// How to trust it, and to be trusted.
    pub credentials: Credentials,
}

/// What a client of etcd shows and trusts; all PEM. It has no `Debug`, so that no log can hold the key.
#[derive(Clone)]
pub struct Credentials {
    /// The authority of etcd's certificates.
    pub authority: String,
    /// The client's certificate.
    pub certificate: String,
    /// The client's key.
    pub key: String,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)
    }
}

/// Why etcd could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The pod could not be reached through the management cluster's API server.
    #[error("failed to reach etcd's pod {pod}")]
    Reach {
        /// The pod.
        pod: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("failed to get an answer from etcd's pod {0} in time")]
    Timeout(String),
    /// etcd refused.
    #[error("etcd refused {request}: {message}")]
    Refused {
        /// What was asked.
        request: &'static str,
        /// etcd's words.
        message: String,
    },
    /// The answer is not as it should be.
    #[error("failed to read etcd's answer to {0}")]
    Malformed(&'static str),
}

impl MembershipError {
    /// The whole of it in one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line = format!("{line}: {cause}");
            source = cause.source();
        }
        line
    }
}

/// The answer to a question about members.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, MembershipError>>;

/// The members of running etcds.
///
/// Peer URLs tell members apart: one that was not started yet has no name of its own.
pub trait Membership: Send + Sync {
    /// The members, as a majority sees them. `names` are the names that members of ours can have, with their peer URLs.
    fn view<'a>(&'a self, at: &'a Contact, names: &'a [(String, String)]) -> Answer<'a, View>;

    /// Adds a learner of this name and peer URL. Gives its id.
    fn add<'a>(&'a self, at: &'a Contact, member: (&'a str, &'a str)) -> Answer<'a, u64>;

    /// Gives a learner its vote.
    fn promote<'a>(&'a self, at: &'a Contact, id: u64) -> Answer<'a, ()>;

    /// Removes a member.
    fn remove<'a>(&'a self, at: &'a Contact, id: u64) -> Answer<'a, ()>;

    /// Has another member lead. `at` has to be the one that leads.
    fn move_leader<'a>(&'a self, at: &'a Contact, to: u64) -> Answer<'a, ()>;
}
