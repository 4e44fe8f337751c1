//! Placeholder.
pub mod config;
pub mod fence;
pub mod health;
pub mod leader;
pub mod manager;
pub mod metrics;
