//! The control plane's certificates and keys, all made here.
//!
//! Three roots that know nothing of each other: a certificate that the hosted cluster signs for a kubelet must open
//! neither etcd nor the front proxy. Roots and the service account's key pair are made once and never again: if one
//! is gone from a cluster that has been running, the controller stops and says so rather than cut the cluster off.
//! Leaves are renewed, with a new key, when a third of their life is left, or when their names change. Every
//! program that uses a leaf reads its file again by itself (measured, in docs/certificates.md), so that a renewal
//! restarts nothing.

mod certificate;
mod leaves;
mod plan;
mod secret;
#[cfg(test)]
mod tests;

pub use certificate::{CertificateError, Facts, signed_by};
pub use leaves::{Leaf, LeafNames, Profile};
pub use plan::{Judged, LeafState, Material, RootState, judge_leaf, judge_root, judge_service_account};
pub use secret::{SecretError, root_secret};

use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// How long roots are valid: kubeadm's ten years.
pub const ROOT_VALIDITY: Duration = DAY.saturating_mul(3650);
/// How long leaves are valid if nothing else is said: kubeadm's year.
pub const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);
/// The shortest life of a leaf that the programs keep up with. A third of it has to be longer than a renewed Secret
/// takes to a pod's files (up to two minutes) and than connections that stand keep a client's old certificate (five
/// minutes in client-go).
pub const SHORTEST_LEAF_VALIDITY: Duration = Duration::from_mins(30);
/// How far back a root's start is set, and with it its leaves', so that machines whose clocks are behind this one
/// accept it. kubeadm's five minutes are for one machine's clock; here a clock may be an hour off.
pub const BACKDATE: Duration = Duration::from_hours(2);

/// A root of trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// Signs what the API server serves and accepts.
    Cluster,
    /// Signs what etcd serves and accepts.
    Etcd,
    /// Signs the API server's own client certificate towards extension API servers.
    FrontProxy,
}

impl Root {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Etcd, Self::FrontProxy];

    /// The purpose in the name of the contract's Secret.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::Etcd => "etcd",
            Self::FrontProxy => "proxy",
        }
    }

    /// The common name, as kubeadm has it.
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// The purpose in the name of the contract's Secret with the service account's key pair.
pub const SERVICE_ACCOUNT_PURPOSE: &str = "sa";
