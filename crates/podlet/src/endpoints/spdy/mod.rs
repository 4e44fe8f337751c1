//! SPDY/3.1, as far as Kubernetes' commands in containers and forwarded ports need it.
//!
//! It was given up for HTTP/2 everywhere else, so that no well-kept crate has it; kubectl's forwarded ports still come
//! by it, within a `WebSocket` too, and API servers of before 1.36 pass commands on by it.

mod connection;
mod frame;
#[cfg(test)]
mod tests;

pub use self::connection::{Stream, serve};
