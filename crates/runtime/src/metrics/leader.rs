//! Families of leader election.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabel {
    name: String,
}

#[derive(Debug)]
pub(super) struct LeaderFamilies {
    status: Family<LeaseLabel, Gauge>,
    slow_path: Family<LeaseLabel, Counter>,
}

impl LeaderFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            status: Family::default(),
            slow_path: Family::default(),
        };
        registry.register(
            "leader_election_master_status",
            "Whether this process leads by the Lease of this name: 1 if it does, else 0",
            families.status.clone(),
        );
        registry.register(
            "leader_election_slowpath",
            "Renewals that had to read the Lease first",
            families.slow_path.clone(),
        );
        families
    }

    pub(super) fn of(&self, name: &str) -> LeaderMetrics {
        let label = LeaseLabel {
            name: name.to_owned(),
        };
        LeaderMetrics {
            status: self.status.get_or_create_owned(&label),
            slow_path: self.slow_path.get_or_create_owned(&label),
        }
    }
}

/// The series of one Lease. Clones share them.
#[derive(Clone, Debug)]
pub struct LeaderMetrics {
    status: Gauge,
    slow_path: Counter,
}

impl LeaderMetrics {
    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.status.set(i64::from(leads));
    }

    /// A renewal had to read the Lease first.
    pub fn slow_path(&self) {
        self.slow_path.inc();
    }
}
