//! Placeholder.
pub mod manager;
pub mod metrics;
