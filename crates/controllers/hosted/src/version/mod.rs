//! Versions of Kubernetes, and what each brings with it.

mod plan;

pub use plan::{Deployed, Held, Targets, targets};

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The oldest minor of Kubernetes 1 that a hosted control plane can run.
pub const OLDEST_MINOR: u64 = 33;
/// The newest minor of Kubernetes 1 that a hosted control plane can run.
pub const NEWEST_MINOR: u64 = 36;

/// The version of etcd that runs under a minor of Kubernetes, as kubeadm of that minor has it (`DefaultEtcdVersion` in
/// the constants of kubeadm 1.33.13, 1.34.4, 1.35.4 and 1.36.3). It is the tag of the image.
///
/// Chosen by the version of the control plane, never by that of this program, so that an upgrade of the manager
/// replaces no member: a line that is changed restarts etcd of every control plane of that minor. etcd goes from minor
/// to minor one at a time; neighbours in this table do too.
const ETCD_VERSIONS: [(u64, EtcdVersion); 4] = [
    (
        33,
        EtcdVersion {
            minor: 5,
            tag: "3.5.24-0",
        },
    ),
    (
        34,
        EtcdVersion {
            minor: 6,
            tag: "3.6.5-0",
        },
    ),
    (
        35,
        EtcdVersion {
            minor: 6,
            tag: "3.6.6-0",
        },
    ),
    (
        36,
        EtcdVersion {
            minor: 6,
            tag: "3.6.8-0",
        },
    ),
];

/// A version of etcd 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtcdVersion {
    /// The minor: flags depend on it.
    pub minor: u64,
    /// The tag of the image.
    pub tag: &'static str,
}

/// Why a text is no version that a hosted control plane can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It is no version at all.
    #[error("failed to read {0:?} as a Kubernetes version such as v1.36.3")]
    Malformed(String),
    /// It is older or newer than this release knows.
    #[error("failed to use version {0}: Kubernetes v1.{OLDEST_MINOR} to v1.{NEWEST_MINOR} can be run")]
    Unsupported(String),
}

/// A version of Kubernetes: one that a hosted control plane can run, unless it was read from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(semver::Version);

impl Version {
    /// The first release of a minor.
    fn first_of(minor: u64) -> Self {
        Self(semver::Version::new(1, minor, 0))
    }

    /// The minor version.
    pub fn minor(&self) -> u64 {
        self.0.minor
    }

    /// Whether a control plane of `other` can be taken to it: no minor and no pre-release is gone back to. Releases of
    /// one minor read what any of them has stored, so that one that can't be run is left again.
    pub fn is_reached_from(&self, other: &Self) -> bool {
        self >= other || (self.minor() == other.minor() && self.0.pre.is_empty())
    }

    /// The version of etcd that belongs to it.
    pub fn etcd(&self) -> EtcdVersion {
        let found = ETCD_VERSIONS.iter().find(|(minor, _)| *minor == self.minor());
        // Parsing admits the minors of the table only, which a test holds it to.
        found.map_or(ETCD_VERSIONS[ETCD_VERSIONS.len() - 1].1, |(_, etcd)| *etcd)
    }

    /// The release that an image is of, by its tag; it may be one that could not be asked for. A tag that is no
    /// release of Kubernetes, such as `stable` or `v1.36.3-hardened`, says nothing.
    pub fn of_image(image: &str) -> Option<Self> {
        let name = image.split('@').next()?.rsplit('/').next()?;
        let (_, tag) = name.split_once(':')?;
        let version = semver::Version::parse(&tag.strip_prefix('v').unwrap_or(tag).replace('_', "+")).ok()?;
        let stage = version.pre.split('.').next().unwrap_or_default();
        matches!(stage, "" | "alpha" | "beta" | "rc").then_some(Self(version))
    }

    /// The tag of Kubernetes' images: tags can't hold a `+`.
    pub fn image_tag(&self) -> String {
        self.to_string().replace('+', "_")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Reads `v1.36.3`, with or without the `v`.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let malformed = || VersionError::Malformed(text.to_owned());
        let bare = text.strip_prefix('v').unwrap_or(text);
        let version = semver::Version::parse(bare).map_err(|_| malformed())?;
        if version.major != 1 || !(OLDEST_MINOR..=NEWEST_MINOR).contains(&version.minor) {
            return Err(VersionError::Unsupported(format!("v{version}")));
        }
        Ok(Self(version))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_users_write_them() {
        for (written, shown, tag) in [
            ("v1.33.0", "v1.33.0", "v1.33.0"),
            ("1.36.3", "v1.36.3", "v1.36.3"),
            ("v1.36.0-rc.1", "v1.36.0-rc.1", "v1.36.0-rc.1"),
            ("v1.34.2+vendor.1", "v1.34.2+vendor.1", "v1.34.2_vendor.1"),
        ] {
            let version: Version = written.parse().unwrap();
            assert_eq!(
                (version.to_string().as_str(), version.image_tag().as_str()),
                (shown, tag)
            );
        }
    }

    #[test]
    fn what_can_not_be_run_is_refused_by_name() {
        for bad in ["latest", "", "v1", "v1.33", "v1.33.x", "v1.33.0.1"] {
            assert_eq!(
                bad.parse::<Version>(),
                Err(VersionError::Malformed(bad.to_owned())),
                "{bad}"
            );
        }
        for unsupported in ["v1.32.9", "v1.37.0", "v2.33.0"] {
            let error = unsupported.parse::<Version>().unwrap_err().to_string();
            assert!(error.contains("v1.33 to v1.36"), "{error}");
        }
    }

    #[test]
    fn every_minor_has_its_etcd_and_no_step_between_neighbours_skips_a_minor_of_etcd() {
        let minors: Vec<u64> = ETCD_VERSIONS.iter().map(|(minor, _)| *minor).collect();
        assert_eq!(minors, (OLDEST_MINOR..=NEWEST_MINOR).collect::<Vec<_>>());
        for pair in ETCD_VERSIONS.windows(2) {
            assert!(pair[1].1.minor - pair[0].1.minor <= 1);
        }
        for (_, etcd) in ETCD_VERSIONS {
            assert!(etcd.tag.starts_with(&format!("3.{}.", etcd.minor)));
        }
    }
}
