//! Hosted control planes.
pub mod components;
pub mod etcd;
pub mod graph;
pub mod inputs;
pub mod names;
pub mod network;
pub mod pki;
pub mod quantity;
pub mod version;
