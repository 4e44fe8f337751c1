//! The framework's core against the in-process API server, on a paused clock.

mod cache;
mod client;
mod controller;
mod faults;
mod harness;
