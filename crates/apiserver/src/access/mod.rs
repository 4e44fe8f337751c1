//! Who may do what.

mod bootstrap;
mod escalation;
mod policy;
mod rules;

pub(crate) use escalation::guard;
pub(crate) use policy::Granted;
pub(crate) use rules::Rule;

use crate::auth::User;
use crate::registry::Served;
use crate::resource::Resource;
use crate::server::Inner;
use crate::status::{ApiError, ApiResult, qualified};
use crate::store::Unwritten;
use parking_lot::RwLock;
use policy::Policy;
use serde_json::Value;

/// The API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
/// Who may do everything, whatever the rules say.
const MASTERS: &str = "system:masters";

/// What is asked for: who wants to do what, and to which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'a str,
    pub(crate) target: Target<'a>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Objects. What is not said is empty.
    Resource {
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        namespace: &'a str,
        name: &'a str,
    },
    /// A path that names no resource.
    Path(&'a str),
}

impl<'a> Target<'a> {
    fn namespace(&self) -> &'a str {
        match self {
            Self::Resource { namespace, .. } => namespace,
            Self::Path(_) => "",
        }
    }
}

/// An answer, with what the real server gives as its reason (mostly nothing).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

/// The rules of a user, for who asks for them all.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) errors: Vec<String>,
}

/// What decides.
#[derive(Debug)]
pub(crate) enum Access {
    /// Whoever is authenticated may do everything.
    Open,
    /// Roles and bindings say.
    Rbac(RwLock<Policy>),
}

impl Access {
    pub(crate) fn new(rbac: bool) -> Self {
        if rbac {
            Self::Rbac(RwLock::default())
        } else {
            Self::Open
        }
    }

    /// What lets `user` do this, in the whole cluster.
    #[cfg(test)]
    pub(crate) fn with_rules(user: &str, rules: &Value) -> Self {
        let mut policy = Policy::default();
        let role = serde_json::json!({"rules": rules});
        let binding = serde_json::json!({
            "roleRef": {"kind": "ClusterRole", "name": "all"},
            "subjects": [{"kind": "User", "name": user}],
        });
        policy.set("clusterroles", "", "all", Some(&role));
        policy.set("clusterrolebindings", "", "all", Some(&binding));
        Self::Rbac(RwLock::new(policy))
    }

    /// Decides.
    pub(crate) fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let plain = |allowed| Decision {
            allowed,
            reason: String::new(),
        };
        if is_master(asked.user) {
            return plain(true);
        }
        match self {
            Self::Open => plain(!asked.user.is_anonymous() || is_public(asked)),
            Self::Rbac(policy) => match policy.read().find(asked) {
                Granted::By(binding) => Decision {
                    allowed: true,
                    reason: format!("RBAC: allowed by {}", binding.describe(asked.user)),
                },
                Granted::No(missing) if missing.is_empty() => plain(false),
                Granted::No(missing) => Decision {
                    allowed: false,
                    reason: format!("RBAC: {}", aggregate(&missing)),
                },
            },
        }
    }

    /// Refuses what is not allowed.
    pub(crate) fn require(&self, asked: &Attributes<'_>) -> ApiResult<()> {
        if is_master(asked.user) {
            return Ok(());
        }
        // As `decide`, with no words for what is allowed.
        let reason = match self {
            Self::Open if !asked.user.is_anonymous() || is_public(asked) => return Ok(()),
            Self::Open => String::new(),
            Self::Rbac(policy) => match policy.read().find(asked) {
                Granted::By(_) => return Ok(()),
                Granted::No(missing) if missing.is_empty() => String::new(),
                Granted::No(missing) => format!("RBAC: {}", aggregate(&missing)),
            },
        };
        Err(forbidden(asked, &reason))
    }

    /// All rules of a user in a namespace.
    pub(crate) fn rules_of(&self, user: &User, namespace: &str) -> Rules {
        match self {
            Self::Open if user.is_anonymous() => Rules::default(),
            Self::Open => Rules {
                rules: Rule::everything().to_vec(),
                errors: Vec::new(),
            },
            Self::Rbac(policy) => policy.read().rules_of(user, namespace),
        }
    }

    /// Whether objects of this kind are roles or bindings that count.
    pub(crate) fn notices(&self, resource: &Resource) -> bool {
        matches!(self, Self::Rbac(_)) && *resource.group == *GROUP
    }

    /// Takes notice of a role or binding that was written or removed: the index has what is on the shelf then.
    pub(crate) fn note(&self, served: &Served, object: &Value) {
        let Self::Rbac(index) = self else { return };
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (meta("namespace"), meta("name"));
        // Locked before the shelf is read, so that of two notices the later one has the last word.
        let mut policy = index.write();
        let entry = served.shelf.get(&crate::request::path::key(namespace, name));
        policy.set(
            &served.resource.plural,
            namespace,
            name,
            entry.map(|entry| entry.value()).as_ref(),
        );
    }

    /// Makes the roles and bindings that every cluster starts with, where they are missing, and learns those that
    /// are there.
    pub(crate) fn start(inner: &Inner) -> Result<(), Unwritten> {
        match inner.access {
            Self::Rbac(_) => bootstrap::create(inner),
            Self::Open => Ok(()),
        }
    }
}

fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// Paths that everybody may read where no rules say who may read what.
fn is_public(asked: &Attributes<'_>) -> bool {
    let Target::Path(path) = asked.target else {
        return false;
    };
    crate::handlers::is_public(path)
}

/// Errors as the API machinery joins them.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut said: Vec<&str> = Vec::new();
    for error in errors {
        if !said.contains(&error.as_str()) {
            said.push(error);
        }
    }
    match said.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// The refusal of what was asked.
pub(crate) fn forbidden(asked: &Attributes<'_>, reason: &str) -> ApiError {
    let (user, verb) = (&asked.user.name, asked.verb);
    let mut said = match asked.target {
        Target::Path(path) => format!("User {user:?} cannot {verb} path {path:?}"),
        Target::Resource {
            group,
            resource,
            subresource,
            namespace,
            ..
        } => {
            let slash = if subresource.is_empty() { "" } else { "/" };
            let scope = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            format!(
                "User {user:?} cannot {verb} resource \"{resource}{slash}{subresource}\" in API group {group:?} {scope}"
            )
        }
    };
    // The real server does not want its refusals to be taken for HTML.
    said = said
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if !reason.is_empty() {
        said = format!("{said}: {reason}");
    }
    match asked.target {
        Target::Resource {
            group,
            resource,
            name,
            ..
        } => ApiError::forbidden(group, resource, name, &said),
        Target::Path(_) => ApiError::forbidden("", "", "", &said)
            .with_message(format!("forbidden: {said}"))
            .with_details(serde_json::json!({})),
    }
}

/// What a role's absence is told as.
fn not_found(kind: &str, name: &str) -> String {
    format!("{} {name:?} not found", qualified(kind, GROUP))
}

#[cfg(test)]
mod tests;
