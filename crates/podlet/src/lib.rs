//! A small kubelet whose pods are processes of one Linux machine.
//!
//! What a controller generates for a cluster runs here with the real programs, without Docker and, where the kernel
//! allows, without root. It is no sandbox: it keeps pods apart so that they do not meet by accident, and what they run
//! is trusted.
//!
//! Namespaces can't be made by a process with threads, and a child can't be forked without `unsafe`. So the program
//! starts itself again as a small helper: whoever uses this crate calls [`helper::main_if_called`] first in `main`,
//! before any thread exists.

#![deny(missing_docs)]

pub mod endpoints;
pub mod environment;
pub mod helper;
pub mod image;
pub mod isolation;
pub mod network;
mod node;
pub mod pod;
pub mod probe;
mod quantity;
pub mod registry;
mod service_links;
pub mod status;
mod tree;
pub mod volume;

pub use node::{CLASS, Config, InstanceError, PROVISIONER, Podlet, PodletError, remove};
