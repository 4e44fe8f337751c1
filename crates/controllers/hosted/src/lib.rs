//! Hosted control planes.
pub mod names;
pub mod network;
pub mod quantity;
pub mod version;
