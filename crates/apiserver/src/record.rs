//! A record of every call, for tests that ask what a client did and which rights it needs.

use crate::handlers::Request;
use http::StatusCode;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// One call. For paths that name no resource, group to name are empty and `path` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As RBAC names it; in lower case the HTTP method for paths that name no resource.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The name, or empty.
    pub name: String,
    /// The path without its query.
    pub path: String,
    /// The user's name.
    pub user: String,
    /// The client's name for itself.
    pub user_agent: String,
    /// The HTTP status of the answer; 0 where the connection was cut before there was one.
    pub code: u16,
}

impl Call {
    pub(crate) fn of(request: &Request, code: Option<StatusCode>) -> Self {
        let path = request.path.clone().unwrap_or_default();
        Self {
            verb: request.verb,
            group: path.group,
            version: path.version,
            resource: path.resource,
            subresource: path.subresource,
            namespace: path.namespace,
            name: path.name,
            path: request.parts.uri.path().to_owned(),
            user: request.user.name.clone(),
            user_agent: request.user_agent().to_owned(),
            code: code.map_or(0, |code| code.as_u16()),
        }
    }
}

/// The calls so far, oldest first. Off until [`Record::start`] is called, because it grows with every call.
#[derive(Debug, Default)]
pub struct Record {
    on: AtomicBool,
    calls: Mutex<Vec<Call>>,
}

impl Record {
    /// Starts to record.
    pub fn start(&self) {
        self.on.store(true, Ordering::SeqCst);
    }

    /// Stops recording; what was recorded stays.
    pub fn stop(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    /// What was recorded so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// Takes what was recorded, and goes on from nothing.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    pub(crate) fn push(&self, call: impl FnOnce() -> Call) {
        if self.on.load(Ordering::Relaxed) {
            self.calls.lock().push(call());
        }
    }
}
