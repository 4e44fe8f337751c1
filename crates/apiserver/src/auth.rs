//! Who a request is from.

use crate::status::ApiError;
use http::{HeaderMap, StatusCode, header};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A user of the API, as `authentication.k8s.io` describes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name, as `system:serviceaccount:default:builder`.
    pub name: String,
    /// The unique id; empty for users of certificates.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of this name in these groups and, as every authenticated user, in `system:authenticated`.
    pub fn new<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == "system:authenticated") {
            groups.push("system:authenticated".to_owned());
        }
        Self {
            name: name.into(),
            groups,
            ..Self::default()
        }
    }

    /// The user of `kubectl` on a cluster of one's own, who may do everything.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", ["system:masters"])
    }

    /// Who sends no credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }
}

/// Bearer tokens and whose they are.
pub(crate) type Tokens = HashMap<String, Arc<User>>;

/// The user of a request: that of its bearer token, else `otherwise` (of the client certificate or the service).
pub(crate) fn authenticate(
    headers: &HeaderMap,
    tokens: &Tokens,
    otherwise: &Arc<User>,
) -> Result<Arc<User>, ApiError> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let user = match bearer {
        None => otherwise.clone(),
        Some(token) => tokens.get(token.trim()).cloned().ok_or_else(unauthorized)?,
    };
    let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(name) = named("impersonate-user") else {
        return Ok(user);
    };
    let groups = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut user = User::new(name, groups);
    named("impersonate-uid")
        .unwrap_or_default()
        .clone_into(&mut user.uid);
    Ok(Arc::new(user))
}

/// The refusal of credentials that are not known.
pub(crate) fn unauthorized() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
}
