use std::io;
use std::net::SocketAddr;

use crate::helper::Failure;

/// Why isolation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The helper did not start.
    #[error("failed to start the podlet's helper")]
    Start(#[source] io::Error),
    /// This machine refuses namespaces.
    #[error("this machine refuses the namespaces that pods need: {0}")]
    Unavailable(Failure),
    /// A helper did not do what it was told.
    #[error(transparent)]
    Refused(Failure),
    /// The socket to a helper failed.
    #[error("failed to talk to the podlet's helper")]
    Talk(#[source] io::Error),
    /// The helpers are gone, and all pods with them.
    #[error("the podlet's helper has ended, and every pod with it")]
    Gone,
    /// A signal was refused.
    #[error("failed to send a signal")]
    Signal(#[source] io::Error),
    /// A pod did not take a connection.
    #[error("failed to connect to {address}")]
    Connect {
        /// Whereto.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}
