//! Faults on purpose: what a client has to live with, at the call that a test chooses.
//!
//! A [`Rule`] says which calls it is about (verb, resource, namespace, name, user), which of them in their order, and
//! what goes wrong. Rules apply in the order in which they were added; each counts the calls that it is about.

use crate::handlers::Request;
use crate::response::{self, Body};
use crate::status::ApiError;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer takes so much longer.
    Latency(Duration),
    /// 409, as if the object had been changed by somebody else.
    Conflict,
    /// 429 with a `Retry-After` of so many seconds.
    TooManyRequests(u32),
    /// 500.
    Internal,
    /// 503.
    Unavailable,
    /// The connection breaks, and the client learns nothing.
    Cut,
    /// A watch breaks so long after it began.
    DropWatch(Duration),
    /// A watch falls behind: it says nothing of what happens, so long after it began, and all of it then.
    StaleWatch(Duration),
}

/// Which calls a fault is for. Made by [`Rule::on`]; all settings are optional.
#[derive(Debug)]
pub struct Rule {
    verb: String,
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
    user: Option<String>,
    skip: u64,
    times: u64,
    applied: bool,
    fault: Fault,
    seen: AtomicU64,
}

impl Rule {
    /// A rule for calls with this verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`,
    /// `deletecollection`, or `*`) on this resource (`pods`, `deployments.apps`, `pods/status`, or `*`). It is for the first such call
    /// unless [`Rule::nth`] or [`Rule::times`] say otherwise.
    pub fn on(verb: &str, resource: &str, fault: Fault) -> Self {
        Self {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            namespace: None,
            name: None,
            user: None,
            skip: 0,
            times: 1,
            applied: false,
            fault,
            seen: AtomicU64::new(0),
        }
    }

    /// Only calls in this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only calls for the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only calls by this user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Starts with the n-th of the calls; the first is 1.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// For so many of the calls in a row. Default: 1.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// For all of the calls from then on.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// The server does what it was asked for, and the fault strikes the answer. Without this it strikes the request.
    #[must_use]
    pub fn after_it_is_applied(mut self) -> Self {
        self.applied = true;
        self
    }

    fn is_for(&self, request: &Request) -> bool {
        let any = |pattern: &str, text: &str| pattern == "*" || pattern == text;
        let (mut resource, mut namespace, mut name) = (String::new(), "", "");
        if let Some(path) = &request.path {
            resource = crate::status::qualified(&path.resource, &path.group);
            if !path.subresource.is_empty() {
                resource = format!("{resource}/{}", path.subresource);
            }
            (namespace, name) = (&path.namespace, &path.name);
        }
        any(&self.verb, request.verb)
            && any(&self.resource, &resource)
            && self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && self
                .user
                .as_deref()
                .is_none_or(|wanted| wanted == request.user.name)
    }

    /// Counts a call, and says whether the fault strikes it.
    fn strikes(&self, request: &Request) -> bool {
        if !self.is_for(request) {
            return false;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        number >= self.skip && number - self.skip < self.times
    }
}

/// The faults of a server.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Arc<Rule>>>,
}

/// The faults that strike one call.
#[derive(Debug, Default)]
pub(crate) struct Struck {
    pub(crate) delay_before: Duration,
    pub(crate) delay_after: Duration,
    /// Instead of doing what was asked.
    pub(crate) before: Option<Fault>,
    /// Instead of the answer.
    pub(crate) after: Option<Fault>,
    pub(crate) drop_watch: Option<Duration>,
    pub(crate) stale_watch: Option<Duration>,
}

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().push(Arc::new(rule));
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.rules.lock().clear();
    }

    /// What strikes this call.
    pub(crate) fn strike(&self, request: &Request) -> Struck {
        let mut struck = Struck::default();
        for rule in self.rules.lock().iter().filter(|rule| rule.strikes(request)) {
            match rule.fault {
                Fault::Latency(delay) if rule.applied => struck.delay_after += delay,
                Fault::Latency(delay) => struck.delay_before += delay,
                Fault::DropWatch(after) => struck.drop_watch = Some(after),
                Fault::StaleWatch(until) => struck.stale_watch = Some(until),
                fault if rule.applied => struck.after = struck.after.or(Some(fault)),
                fault => struck.before = struck.before.or(Some(fault)),
            }
        }
        struck
    }
}

/// The answer of a fault; none where the connection breaks.
pub(crate) fn answer(fault: Fault, request: &Request) -> Option<Response<Body>> {
    let (code, reason, message, details) = match fault {
        Fault::Conflict => {
            let path = request.path.clone().unwrap_or_default();
            let why =
                "the object has been modified; please apply your changes to the latest version and try again";
            let error = ApiError::conflict(&path.group, &path.resource, &path.name, why);
            return Some(response::refusal(&error));
        }
        Fault::TooManyRequests(seconds) => (
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
            json!({"retryAfterSeconds": seconds}),
        ),
        Fault::Internal => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "Internal error occurred: a fault was injected",
            json!({"causes": [{"message": "a fault was injected"}]}),
        ),
        Fault::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
            json!({}),
        ),
        Fault::Cut | Fault::Latency(_) | Fault::DropWatch(_) | Fault::StaleWatch(_) => return None,
    };
    let error = ApiError::new(code, reason, message).with_details(details);
    Some(response::refusal(&error))
}
