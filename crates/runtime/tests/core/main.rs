//! The framework's core against the in-process API server, on a paused clock.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod cache;
mod client;
mod controller;
mod faults;
mod harness;
