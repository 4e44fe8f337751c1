//! Placeholder.
pub mod config;
pub mod fence;
pub mod leader;
pub mod manager;
pub mod metrics;
