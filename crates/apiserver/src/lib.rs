//! A Kubernetes API server that runs inside the process, for development and tests.
//!
//! It is not for production: everything is in memory, in a folder too where that is asked for ([`Builder::open`]),
//! and there is one of it. Its behaviour is compared, step by
//! step, with a real kube-apiserver (see the conformance crate); fault injection aside, it does nothing that the
//! real one does not.
#![deny(missing_docs)]

mod access;
pub mod apply;
mod auth;
pub mod builtin;
pub mod companions;
pub mod crd;
mod customs;
pub mod discovery;
pub mod faults;
pub mod field;
mod handlers;
mod kubelet;
mod metadata;
mod namespaces;
pub mod openapi;
mod patch;
pub mod record;
mod registry;
mod request;
pub mod resource;
mod response;
mod restore;
pub mod schema;
mod serve;
mod server;
pub mod status;
mod store;
pub mod table;
mod yaml;

pub use auth::{KeyError, SigningKey, User};
pub use kubelet::{KubeletClient, KubeletClientError};
pub use response::{Body, Cut};
pub use serve::{ServeError, Serving};
pub use server::{ApiServer, ApiService, Builder};
pub use store::{OpenError, Unwritten};
