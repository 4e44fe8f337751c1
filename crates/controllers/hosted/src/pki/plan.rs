//! Judges what is there and says what has to be made. Time and Secrets come in, verdicts go out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::certificate::{self, CertificateError, Facts, Pair, whole_seconds};
use super::{Profile, Root, secret};

/// A root or key pair that can be used. It has no `Debug`: it holds keys.
#[derive(Clone)]
pub struct Material(Pair);

impl Material {
    /// Makes a root.
    pub fn make_root(root: Root, now: Timestamp) -> Result<Self, CertificateError> {
        certificate::make_root(root, now).map(Self)
    }

    /// Makes the service account's key pair.
    pub fn make_key_pair() -> Result<Self, CertificateError> {
        certificate::make_key_pair().map(Self)
    }

    /// Makes a leaf below this root, for so long, or until the root ends.
    pub fn make_leaf(
        &self,
        profile: &Profile,
        now: Timestamp,
        life: Duration,
    ) -> Result<Self, CertificateError> {
        certificate::make_leaf(profile, &self.0, now, life).map(Self)
    }

    /// The certificate, or the public key, PEM.
    pub fn certificate(&self) -> &str {
        &self.0.certificate
    }

    /// The private key, PEM.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// As the contract's Secret.
    pub fn root_secret(&self, metadata: ObjectMeta) -> Secret {
        secret::root_secret(metadata, &self.0)
    }

    /// As a leaf's Secret, in place of the one that is there.
    pub fn leaf_secret(&self, metadata: ObjectMeta, existing: Option<&Secret>) -> Secret {
        secret::leaf_secret(metadata, existing, &self.0)
    }
}

/// What was found where a root or key pair should be.
pub enum RootState {
    /// It can be used.
    Good(Material),
    /// There is none, and none has been used yet: it may be made.
    Absent,
    /// There is none although the cluster has been running with one.
    Lost,
    /// What is there can't be used.
    Bad(String),
}

/// Judges the Secret of a root. `in_use`: the cluster has been running with it.
pub fn judge_root(secret: Option<&Secret>, in_use: bool, now: Timestamp) -> RootState {
    let Some(secret) = secret else {
        return if in_use {
            RootState::Lost
        } else {
            RootState::Absent
        };
    };
    let judged = || -> Result<Pair, String> {
        let pair = Pair::of(secret).map_err(|error| error.to_string())?;
        let facts = Facts::read(&pair.certificate).map_err(|error| error.to_string())?;
        let key = certificate::read_key(&pair.key).map_err(|error| error.to_string())?;
        if !facts.is_authority {
            return Err("the certificate is not that of an authority".to_owned());
        }
        if !facts.matches(&key) {
            return Err("the private key does not belong to the certificate".to_owned());
        }
        if facts.not_after <= now.as_second() {
            return Err("the certificate has ended".to_owned());
        }
        Ok(pair)
    };
    match judged() {
        Ok(pair) => RootState::Good(Material(pair)),
        Err(problem) => RootState::Bad(problem),
    }
}

/// Judges the Secret of the service account's key pair. `in_use`: the cluster has been running with it.
pub fn judge_service_account(secret: Option<&Secret>, in_use: bool) -> RootState {
    let Some(secret) = secret else {
        return if in_use {
            RootState::Lost
        } else {
            RootState::Absent
        };
    };
    let judged = || -> Result<Pair, String> {
        let pair = Pair::of(secret).map_err(|error| error.to_string())?;
        let key = certificate::read_key(&pair.key).map_err(|error| error.to_string())?;
        let same = |text: &str| text.split_whitespace().collect::<String>();
        if same(&key.public_key_pem()) != same(&pair.certificate) {
            return Err("the public key in tls.crt does not belong to the private key in tls.key".to_owned());
        }
        Ok(pair)
    };
    match judged() {
        Ok(pair) => RootState::Good(Material(pair)),
        Err(problem) => RootState::Bad(problem),
    }
}

/// What was found where a leaf should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafState {
    /// It can be used until it is due for renewal at this time, in seconds of the Unix epoch.
    Good {
        /// When it is due.
        renew_at: i64,
    },
    /// There is none.
    Absent,
    /// A third of its life is left, or less.
    Due,
    /// Its life is over.
    Ended,
    /// It says something other than it should.
    Differs,
    /// It is not signed by the root.
    OtherRoot,
    /// What is there can't be read.
    Unreadable,
}

/// A leaf's state, and the leaf itself where it can be used.
pub struct Judged {
    /// The state.
    pub state: LeafState,
    /// The leaf, with [`LeafState::Good`].
    pub material: Option<Material>,
}

/// Judges the Secret of a leaf. `life` is what leaves are made for.
pub fn judge_leaf(
    profile: &Profile,
    secret: Option<&Secret>,
    root: &Material,
    now: Timestamp,
    life: Duration,
) -> Judged {
    let bad = |state| Judged {
        state,
        material: None,
    };
    let Some(secret) = secret else {
        return bad(LeafState::Absent);
    };
    let Ok(pair) = Pair::of(secret) else {
        return bad(LeafState::Unreadable);
    };
    let (Ok(facts), Ok(key)) = (Facts::read(&pair.certificate), certificate::read_key(&pair.key)) else {
        return bad(LeafState::Unreadable);
    };
    if !facts.matches(&key) {
        return bad(LeafState::Unreadable);
    }
    if !certificate::signed_by(&pair.certificate, root.certificate()).unwrap_or(false) {
        return bad(LeafState::OtherRoot);
    }
    let says = facts.common_name == profile.common_name
        && facts.organizations.iter().eq(&profile.organization)
        && facts.dns == profile.names.dns
        && facts.ips == profile.names.ips
        && (facts.server, facts.client) == (profile.server, profile.client);
    if !says {
        return bad(LeafState::Differs);
    }
    // Of the life that leaves are given, even where a root that ends soon has made this one shorter.
    let renew_at = (facts.not_after - whole_seconds(life) / 3).max(facts.not_before);
    let root_ends_first = Facts::read(root.certificate()).is_ok_and(|root| root.not_after <= facts.not_after);
    if now.as_second() >= facts.not_after {
        return bad(LeafState::Ended);
    }
    if now.as_second() >= renew_at && !root_ends_first {
        return bad(LeafState::Due);
    }
    Judged {
        state: LeafState::Good { renew_at },
        material: Some(Material(pair)),
    }
}
