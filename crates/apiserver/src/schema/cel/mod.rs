//! CEL rules of schemas (`x-kubernetes-validations`).
//!
//! Expressions are parsed and Kubernetes' function libraries are run by the `kube-cel` crate. Evaluation is here,
//! because values are seen through their schema without being copied (names escaped, dates and durations by format,
//! lists that are sets or maps compared as such), and because what fails must fail in the real server's words.

mod check;
mod convert;
mod eval;
mod failure;
mod foreign;
mod functions;
mod names;
mod number;
mod places;
mod program;
mod rule;
mod signatures;
mod special;
mod time;
mod types;
mod value;
mod walk;

pub use check::{Checked, check};
pub use rule::{Reason, Rule};
pub use walk::{ratcheted, validate};
