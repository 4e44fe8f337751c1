//! What a token of a service account says, and whether it still holds.

use super::User;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who issues the tokens, and for whom they are unless they say otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// How far clocks may be apart, in seconds.
const LEEWAY: i64 = 60;

/// The claims, in the order in which the real server writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) of: Bound,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// The account, and the object that the token lives as long as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Reference>,
    pub(crate) serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// What is known of an object that a token names: its uid, and since when it is being deleted.
pub(crate) struct Known {
    pub(crate) uid: String,
    pub(crate) deleted: Option<Timestamp>,
}

/// Where objects are looked up: plural, namespace (empty for nodes) and name.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str, &str, &str) -> Option<Known>;

/// The user name of a service account.
pub(crate) fn account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of every service account of a namespace.
pub(crate) fn account_groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

impl Claims {
    /// Claims of a token that lasts this long from now on.
    pub(crate) fn new(of: Bound, audiences: Vec<String>, now: Timestamp, seconds: i64) -> Self {
        let now = now.as_second();
        Self {
            aud: audiences,
            exp: now.saturating_add(seconds),
            iat: now,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: now,
            sub: account_name(&of.namespace, &of.serviceaccount.name),
            of,
        }
    }

    /// The user, where the token holds now; otherwise why not.
    pub(crate) fn user(&self, now: Timestamp, lookup: Lookup<'_>) -> Result<User, String> {
        self.in_time(now)?;
        let (namespace, account) = (&self.of.namespace, &self.of.serviceaccount);
        let there = lookup("serviceaccounts", namespace, &account.name)
            .ok_or_else(|| format!("serviceaccounts {:?} not found", account.name))?;
        if there.uid != account.uid {
            return Err(format!(
                "service account UID ({}) does not match claim ({})",
                there.uid, account.uid
            ));
        }
        if is_past(&there, now) {
            return Err(format!(
                "service account {namespace}/{} has been deleted",
                account.name
            ));
        }
        // A pod's node is told, but need not be there.
        let node = self.of.node.as_ref().filter(|_| self.of.pod.is_none());
        for (kind, namespace, reference) in [
            ("secret", &**namespace, self.of.secret.as_ref()),
            ("pod", namespace, self.of.pod.as_ref()),
            ("node", "", node),
        ] {
            if let Some(reference) = reference {
                let there = lookup(&format!("{kind}s"), namespace, &reference.name);
                holds(now, there, kind, reference)?;
            }
        }
        Ok(self.as_user())
    }

    fn in_time(&self, now: Timestamp) -> Result<(), String> {
        let now = now.as_second();
        let why = if now.saturating_add(LEEWAY) < self.nbf {
            "service account token is not valid yet"
        } else if now.saturating_sub(LEEWAY) > self.exp {
            "service account token has expired"
        } else if now.saturating_add(LEEWAY) < self.iat {
            "service account token is issued in the future"
        } else {
            return Ok(());
        };
        Err(why.to_owned())
    }

    fn as_user(&self) -> User {
        let of = &self.of;
        let mut extra = BTreeMap::new();
        let mut say = |key: &str, value: &str| {
            extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        };
        if !self.jti.is_empty() {
            say("credential-id", &format!("JTI={}", self.jti));
        }
        for (reference, name, uid) in [
            (&of.pod, "pod-name", "pod-uid"),
            (&of.node, "node-name", "node-uid"),
        ] {
            if let Some(reference) = reference {
                say(name, &reference.name);
                if !reference.uid.is_empty() {
                    say(uid, &reference.uid);
                }
            }
        }
        User {
            uid: of.serviceaccount.uid.clone(),
            extra,
            ..User::new(
                account_name(&of.namespace, &of.serviceaccount.name),
                account_groups(&of.namespace),
            )
        }
    }
}

/// Refuses a token whose object is gone, or another one of the same name.
fn holds(now: Timestamp, there: Option<Known>, kind: &str, reference: &Reference) -> Result<(), String> {
    match there {
        Some(there) if there.uid != reference.uid => Err(format!(
            "{kind} UID ({}) does not match service account {kind} ref claim ({})",
            there.uid, reference.uid
        )),
        Some(there) if !is_past(&there, now) => Ok(()),
        _ => Err("service account token has been invalidated".to_owned()),
    }
}

/// Whether an object's time of deletion is so long ago that it counts as gone.
fn is_past(known: &Known, now: Timestamp) -> bool {
    known
        .deleted
        .is_some_and(|deleted| deleted.as_second() < now.as_second().saturating_sub(LEEWAY))
}
