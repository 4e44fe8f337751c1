//! How true the in-process API server is, as a number.
//!
//! A [`scenario`] is a list of plain HTTP requests, watches and `kubectl` calls, in YAML. [`run`](run) sends it to a
//! [`target`], [`normal`] replaces what no two runs share (uids, resource versions, times, generated names), and
//! [`compare`] walks the two transcripts step by step. The real server's transcripts are committed
//! ([`recording`]), so that ours can be compared where the real one is not to be had.

pub mod compare;
mod jwt;
mod kubectl;
pub mod normal;
pub mod ours;
mod pick;
pub mod recording;
pub mod resource;
pub mod run;
pub mod scenario;
pub mod suite;
pub mod target;
mod text;
