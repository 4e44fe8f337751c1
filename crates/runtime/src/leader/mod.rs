//! At most one process at a time leads, by a `coordination.k8s.io/v1` Lease.
//!
//! The rule is client-go's: a candidate takes the lease only when it has not seen the record change for the
//! whole lease duration, by its own monotonic clock. Clocks of different machines are never compared, so skew
//! and steps of the wall clock do no harm; the times written to the Lease are for people. The leader renews every
//! retry period and gives up when no renewal has succeeded for the renew deadline, counted from when the last
//! good one was sent. As that is shorter than the lease duration, it has stopped before another can start; the
//! [`Fence`](crate::fence::Fence) makes sure of it.
//!
//! What this can't mend: somebody who deletes or edits the Lease by hand lets a second leader in until the first
//! one renews, one retry period later at most.

mod elector;
mod record;

#[cfg(test)]
pub(crate) mod lease_server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};
use uuid::Uuid;

pub use elector::{Elector, LeadershipLost};

use crate::config::parse_duration;

/// How much longer than the retry period the wait between two tries of a candidate may be: up to 2.2 times it.
const JITTER_FACTOR: f64 = 1.2;

/// Which Lease, held by whom, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// The Lease's name. All replicas of a program use the same, different programs different ones.
    pub name: String,
    /// The Lease's namespace.
    pub namespace: String,
    /// Who this process is among the candidates; see [`identity`].
    pub identity: String,
    /// How long candidates wait from the last change that they saw. Whole seconds, 15 s by default.
    pub lease_duration: Duration,
    /// How long the leader goes on without a successful renewal. Shorter than the lease duration, 10 s by default.
    pub renew_deadline: Duration,
    /// The wait between tries. 1.2 times this must be shorter than the renew deadline; 2 s by default.
    pub retry_period: Duration,
    /// Whether to give the lease back at shutdown, so that the next leader need not wait. `true` by default.
    pub release: bool,
}

impl LeaderElection {
    /// An election with the default durations and an identity of this process's own.
    pub fn new(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            identity: identity(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release: true,
        }
    }

    /// Checks that the durations keep leaders apart.
    pub fn validate(&self) -> Result<(), LeaderElectionError> {
        let shortest = self.retry_period.mul_f64(JITTER_FACTOR);
        if self.name.is_empty() {
            Err(LeaderElectionError::NoName)
        } else if self.namespace.is_empty() {
            Err(LeaderElectionError::NoNamespace)
        } else if self.identity.is_empty() {
            Err(LeaderElectionError::NoIdentity)
        } else if self.lease_duration.subsec_nanos() != 0
            || i32::try_from(self.lease_duration.as_secs()).is_err()
        {
            Err(LeaderElectionError::NotInSeconds(self.lease_duration))
        } else if self.retry_period.is_zero() {
            Err(LeaderElectionError::NoRetryPeriod)
        } else if self.lease_duration <= self.renew_deadline {
            Err(LeaderElectionError::LeaseTooShort {
                lease: self.lease_duration,
                renew: self.renew_deadline,
            })
        } else if self.renew_deadline <= shortest {
            Err(LeaderElectionError::DeadlineTooShort {
                renew: self.renew_deadline,
                shortest,
            })
        } else {
            Ok(())
        }
    }

    /// How long one try may take, so that a single hung request does not cost the leadership.
    fn try_timeout(&self) -> Duration {
        (self.renew_deadline / 2).max(Duration::from_secs(1))
    }
}

/// Why an election can't be held.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaderElectionError {
    /// The Lease has no name.
    #[error("failed to set up leader election: the Lease needs a name")]
    NoName,
    /// The Lease has no namespace, and the process does not run in a pod that would tell it.
    #[error(
        "failed to set up leader election: the Lease needs a namespace; set CONTROLLER_NAMESPACE or \
         --leader-elect-resource-namespace"
    )]
    NoNamespace,
    /// The candidate has no name.
    #[error("failed to set up leader election: the candidate needs an identity")]
    NoIdentity,
    /// A Lease holds its duration in seconds.
    #[error("failed to set up leader election: the lease duration {0:?} is not a number of seconds")]
    NotInSeconds(Duration),
    /// Tries would follow each other without a wait.
    #[error("failed to set up leader election: the retry period must be longer than 0 s")]
    NoRetryPeriod,
    /// Another could lead before this process has stopped.
    #[error(
        "failed to set up leader election: the lease duration {lease:?} must be longer than the renew deadline \
         {renew:?}"
    )]
    LeaseTooShort {
        /// The lease duration.
        lease: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// Leadership would be lost before a second try.
    #[error(
        "failed to set up leader election: the renew deadline {renew:?} must be longer than 1.2 times the retry \
         period, {shortest:?}"
    )]
    DeadlineTooShort {
        /// The renew deadline.
        renew: Duration,
        /// What it must exceed.
        shortest: Duration,
    },
}

/// A name for this process that no other has: the host's name, which in a pod is the pod's, and a random part.
pub fn identity() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| "localhost".to_owned());
    format!("{host}_{}", Uuid::new_v4())
}

/// The election's flags, named as those of Kubernetes' own components.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
pub struct LeaderElectionArgs {
    /// Reconcile only while this process holds the Lease
    #[arg(
        long,
        env = "LEADER_ELECTION",
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub leader_elect: bool,

    /// How long candidates wait after the last renewal that they saw
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = parse_duration)]
    pub leader_elect_lease_duration: Duration,

    /// How long the leader goes on without a successful renewal
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub leader_elect_renew_deadline: Duration,

    /// The wait between tries
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub leader_elect_retry_period: Duration,

    /// The Lease's name [default: the program's]
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,

    /// The Lease's namespace [default: the controller's own]
    #[arg(long, value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: Option<String>,
}

impl LeaderElectionArgs {
    /// The election that the flags ask for, if any. The Lease is named `name`, in `namespace`, where the flags say
    /// nothing else.
    pub fn election(
        &self,
        name: &str,
        namespace: Option<&str>,
    ) -> Result<Option<LeaderElection>, LeaderElectionError> {
        if !self.leader_elect {
            return Ok(None);
        }
        let name = self.leader_elect_resource_name.as_deref().unwrap_or(name);
        let namespace = self.leader_elect_resource_namespace.as_deref().or(namespace);
        let election = LeaderElection {
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
            ..LeaderElection::new(name, namespace.unwrap_or_default())
        };
        election.validate()?;
        Ok(Some(election))
    }
}
