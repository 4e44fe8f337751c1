//! Who a request is from: whose its bearer token is, else whose the connection is.

mod claims;
mod impersonation;
mod key;

pub(crate) use claims::{Bound, Claims, ISSUER, Known, Reference, account_groups, account_name};
pub(crate) use impersonation::impersonate;
pub use key::{KeyError, SigningKey};

use crate::status::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::Lookup;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// Tokens whose signature is remembered to be good, at most.
const MOST_VERIFIED: usize = 4096;

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

/// A user, and for which of the audiences that were asked for its token is.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) user: Arc<User>,
    pub(crate) audiences: Vec<String>,
}

/// All that tells users.
#[derive(Debug)]
pub(crate) struct Authenticator {
    fixed: HashMap<String, Arc<User>>,
    anonymous: bool,
    key: OnceLock<Result<SigningKey, KeyError>>,
    verified: Mutex<HashMap<String, Arc<Claims>>>,
}

impl Authenticator {
    /// `fixed` are bearer tokens and whose they are; `key` is that of service accounts, made when it is needed where
    /// none is given.
    pub(crate) fn new(fixed: HashMap<String, Arc<User>>, anonymous: bool, key: Option<SigningKey>) -> Self {
        Self {
            fixed,
            anonymous,
            key: key.map_or_else(OnceLock::new, |key| OnceLock::from(Ok(key))),
            verified: Mutex::default(),
        }
    }

    /// The user of a request: that of its bearer token, else `otherwise` (of the client certificate or the service).
    pub(crate) fn of_request(
        &self,
        headers: &HeaderMap,
        otherwise: &Arc<User>,
        now: Timestamp,
        lookup: Lookup<'_>,
    ) -> Result<Arc<User>, ApiError> {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, rest)| rest.split(' ').next())
            .filter(|token| !token.is_empty());
        match bearer {
            Some(token) => match self.of_token(token, &[], now, lookup) {
                Ok(found) => Ok(found.user),
                Err(why) => {
                    tracing::debug!(why, "a bearer token is refused");
                    Err(unauthorized())
                }
            },
            None if otherwise.is_anonymous() && !self.anonymous => Err(unauthorized()),
            None => Ok(otherwise.clone()),
        }
    }

    /// The user of a token for one of these audiences (none: the server's own), or why there is none.
    pub(crate) fn of_token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
        lookup: Lookup<'_>,
    ) -> Result<Authenticated, String> {
        let own = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &own } else { audiences };
        let common = |audiences: &[String]| -> Vec<String> {
            let both = audiences.iter().filter(|audience| wanted.contains(audience));
            both.cloned().collect()
        };
        if let Some(user) = self.fixed.get(token) {
            let audiences = common(&own);
            if audiences.is_empty() {
                return Err(INVALID.to_owned());
            }
            let user = user.clone();
            return Ok(Authenticated { user, audiences });
        }
        let claims = self.verified(token)?;
        let because = |why: String| format!("[{INVALID}, {why}]");
        let audiences = common(&claims.aud);
        if audiences.is_empty() {
            return Err(because(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted(&claims.aud),
                quoted(wanted)
            )));
        }
        let user = Arc::new(claims.user(now, lookup).map_err(because)?);
        Ok(Authenticated { user, audiences })
    }

    /// The claims of a token of a service account, where this server signed it.
    fn verified(&self, token: &str) -> Result<Arc<Claims>, String> {
        if let Some(claims) = self.verified.lock().get(token) {
            return Ok(claims.clone());
        }
        let invalid = || INVALID.to_owned();
        let because = |why: &str| format!("[{INVALID}, {why}]");
        let (message, signature) = token.rsplit_once('.').ok_or_else(invalid)?;
        let (header, claims) = message.split_once('.').ok_or_else(invalid)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid());
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| invalid())?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| invalid())?;
        let signature = decode(signature)?;
        if claims.iss != ISSUER || header["alg"] != "ES256" {
            return Err(invalid());
        }
        let id = header["kid"].as_str().unwrap_or_default();
        let key = match self.key.get() {
            Some(Ok(key)) if id.is_empty() || key.is(id) => key,
            _ => return Err(because("invalid signature, no keys found")),
        };
        if !key.verify(message, &signature) {
            return Err(because("go-jose/go-jose: error in cryptographic primitive"));
        }
        let claims = Arc::new(claims);
        let mut verified = self.verified.lock();
        if verified.len() >= MOST_VERIFIED {
            verified.clear();
        }
        verified.insert(token.to_owned(), claims.clone());
        Ok(claims)
    }

    fn key(&self) -> Result<&SigningKey, ApiError> {
        self.key
            .get_or_init(SigningKey::generate)
            .as_ref()
            .map_err(|error| ApiError::internal(format!("failed to generate token: {error}")))
    }

    /// A token with these claims.
    pub(crate) fn issue(&self, claims: &Claims) -> Result<String, ApiError> {
        let failed = || ApiError::internal("failed to generate token");
        let claims = serde_json::to_vec(claims).map_err(|_| failed())?;
        self.key()?.sign(&claims).ok_or_else(failed)
    }

    /// The key's public half as a set of JSON Web Keys.
    pub(crate) fn keys(&self) -> Result<Value, ApiError> {
        Ok(json!({"keys": [self.key()?.jwk()]}))
    }
}

/// What is said of a token that nothing is known of.
const INVALID: &str = "invalid bearer token";

/// A list as Go prints it with `%q`.
pub(crate) fn quoted(list: &[String]) -> String {
    let list: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", list.join(" "))
}

/// The refusal of credentials that are not known.
pub(crate) fn unauthorized() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
}

#[cfg(test)]
mod tests;
