//! A Kubernetes API server that runs inside the process, for development and tests.
//!
//! It is not for production: everything is in memory and there is one of it. Its behaviour is compared, step by
//! step, with a real kube-apiserver (see the conformance crate); fault injection aside, it does nothing that the
//! real one does not.
#![deny(missing_docs)]

pub mod field;
pub mod resource;
pub mod schema;
pub mod status;
