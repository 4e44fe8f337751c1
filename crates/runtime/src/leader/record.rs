//! What a candidate knows of the Lease, and what it would write. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use super::LeaderElection;

/// The Lease as it was last seen, and since when its record has not changed.
#[derive(Debug)]
pub(super) struct Observed {
    lease: Lease,
    since: Instant,
}

impl Observed {
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The holder, unless the lease was given back.
    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self.lease.spec.as_ref()?.holder_identity.as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    /// Whether the holder has let the duration that it promised pass without a change.
    pub(super) fn has_expired(&self, default_duration: Duration) -> bool {
        let seconds = self
            .lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(default_duration, Duration::from_secs);
        self.since.elapsed() >= duration
    }
}

/// Takes note of a Lease that was just read or written. Only a change of the record proves that the holder lives;
/// labels and other metadata do not.
pub(super) fn observe(observed: &mut Option<Observed>, lease: Lease) -> &Observed {
    let since = match observed {
        Some(known) if known.lease.spec == lease.spec => known.since,
        _ => Instant::now(),
    };
    observed.insert(Observed { lease, since })
}

/// A new Lease, held by this candidate.
pub(super) fn created(election: &LeaderElection, now: Timestamp) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.name = Some(election.name.clone());
    lease.metadata.namespace = Some(election.namespace.clone());
    lease.spec = Some(LeaseSpec {
        lease_transitions: Some(0),
        ..held(election, now)
    });
    lease
}

/// The Lease with this candidate as its holder, newly or still.
pub(super) fn taken_or_renewed(election: &LeaderElection, current: &Lease, now: Timestamp) -> Lease {
    let before = current.spec.clone().unwrap_or_default();
    let renewed = before.holder_identity.as_deref() == Some(&election.identity);
    let transitions = before.lease_transitions.unwrap_or(0);
    let held = held(election, now);
    let spec = LeaseSpec {
        holder_identity: held.holder_identity,
        lease_duration_seconds: held.lease_duration_seconds,
        renew_time: held.renew_time,
        acquire_time: if renewed {
            before.acquire_time
        } else {
            held.acquire_time
        },
        lease_transitions: Some(if renewed {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        preferred_holder: before.preferred_holder,
        strategy: before.strategy,
    };
    Lease {
        metadata: current.metadata.clone(),
        spec: Some(spec),
    }
}

/// The Lease without a holder. It runs out after a second, for candidates that go by time alone.
pub(super) fn released(current: &Lease, now: Timestamp) -> Lease {
    let spec = LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        acquire_time: Some(MicroTime(now)),
        ..current.spec.clone().unwrap_or_default()
    };
    Lease {
        metadata: current.metadata.clone(),
        spec: Some(spec),
    }
}

fn held(election: &LeaderElection, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        // `LeaderElection::validate` has seen that it fits.
        lease_duration_seconds: i32::try_from(election.lease_duration.as_secs()).ok(),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    }
}
