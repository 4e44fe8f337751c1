//! Access for people: kubeconfigs that end soon, signed with the hosted cluster's root by whoever may read it.
//!
//! The administrator's kubeconfig in the contract's Secret lives for a year and can't be taken back. Who may read the
//! root's Secret may be anyone in the hosted cluster; from it come kubeconfigs for others, for a named user and
//! group and a short time. Nothing is asked of the hosted cluster, which need not answer.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::components::user_kubeconfig;
use crate::pki::{CertificateError, Facts, Leaf, LeafNames, Profile, RootState, judge_root};

/// The shortest life of such a kubeconfig: clocks differ.
pub const SHORTEST: Duration = Duration::from_mins(1);
/// The longest life of such a kubeconfig: certificates can't be taken back.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);

/// Why there is no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The root can't be used.
    #[error("failed to sign with the cluster's root: {0}")]
    Root(String),
    /// The certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Who a kubeconfig is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The group.
    pub group: Option<String>,
}

impl Default for Identity {
    /// The administrator, as kubeadm names it.
    fn default() -> Self {
        let profile = Leaf::Admin.profile(LeafNames::default());
        Self {
            user: profile.common_name,
            group: profile.organization,
        }
    }
}

/// A kubeconfig. It has no `Debug`: it holds a key.
pub struct Kubeconfig {
    /// The file's text.
    pub text: String,
    /// When it ends, in seconds of the Unix epoch.
    pub not_after: i64,
}

/// Makes a kubeconfig for a cluster that is reached at this URL. `root` is its Secret `NAME-ca`.
pub fn kubeconfig(
    cluster: &str,
    server: &str,
    root: &Secret,
    identity: &Identity,
    now: Timestamp,
    life: Duration,
) -> Result<Kubeconfig, AccessError> {
    let root = match judge_root(Some(root), true, now) {
        RootState::Good(root) => root,
        RootState::Bad(problem) => return Err(AccessError::Root(problem)),
        RootState::Absent | RootState::Lost => return Err(AccessError::Root("there is none".to_owned())),
    };
    let profile = Profile {
        common_name: identity.user.clone(),
        organization: identity.group.clone(),
        names: LeafNames::default(),
        server: false,
        client: true,
    };
    let client = root.make_leaf(&profile, now, life)?;
    Ok(Kubeconfig {
        text: user_kubeconfig(cluster, server, root.certificate(), &identity.user, &client),
        not_after: Facts::read(client.certificate())?.not_after,
    })
}
