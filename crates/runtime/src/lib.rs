//! Placeholder.
pub mod manager;
