//! The process around controllers: what starts when, what stops when, and who may write.
//!
//! Servers answer before caches fill, caches are full before leadership is sought, and controllers start only
//! once this process leads. Stopping runs the same order backwards, within a deadline.

mod runnable;

pub use runnable::{Group, Ready, ReadyReceiver, RunContext, RunError, Runnable};
