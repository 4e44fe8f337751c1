//! Probes: whether a container has started, is alive, is ready.

mod check;
mod plan;

pub use self::check::{Outcome, check};
pub use self::plan::{Counter, Means, Plan, Probes};
