//! What the process knows of the cluster: one informer per kind, shared by all controllers and clients.

mod index;
mod informer;
mod owned;
mod pruned;
mod registry;
mod scope;
mod store;
#[cfg(test)]
mod tests;
mod view;

pub use informer::Informer;
pub(crate) use informer::Notice;
pub(crate) use pruned::Pruned;
pub use registry::{Cache, CacheOptions};
pub use scope::Scope;
pub(crate) use store::{AppliedConfig, LastApplied};
pub use view::{Change, View};
