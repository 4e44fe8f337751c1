//! Types only: Clusterwright's own custom resources and the parts of other APIs that it reads.
//!
//! From the types come the CRDs ([`crds`]), with their validation rules; nothing is validated by a webhook that a
//! schema or a CEL rule can say. The words of conditions and reasons are closed lists ([`conditions`],
//! [`reasons`]).

#![deny(missing_docs)]

pub mod cluster;
pub mod conditions;
mod crds;
pub mod hosted;
pub mod meta;
pub mod reasons;
mod schema;
mod words;

pub use cluster::Cluster;
pub use crds::{cluster_crd, crds, manifest};
pub use hosted::{HostedControlPlane, HostedControlPlaneTemplate};
