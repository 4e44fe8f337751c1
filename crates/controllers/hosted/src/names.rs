//! The names and labels of everything under a control plane.
//!
//! Names derive from the Cluster's name alone, so that a control plane that was moved to another management
//! cluster finds its objects again. The contract's Secrets have the names that Cluster API gives them; all others
//! are kept short enough for what Kubernetes makes of them (DNS labels, the hashes it appends).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clusterwright_api::meta;
use sha2::{Digest, Sha256};

/// The longest DNS label (RFC 1123): names of Services, of pods with a hostname, values of labels.
const DNS_LABEL: usize = 63;
/// What the `StatefulSet` controller appends to its name for the label `controller-revision-hash`.
const REVISION_SUFFIX: usize = 11;
/// What the Deployment controller appends to its name for a pod's.
const POD_SUFFIX: usize = 17;

/// A part of a control plane that runs in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// etcd's members.
    Etcd,
    /// The API servers.
    ApiServer,
    /// The controller managers.
    ControllerManager,
    /// The schedulers.
    Scheduler,
}

impl Component {
    /// The name of the program, of its container, of its image and the value of its label.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The field of the spec that says how it runs.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Etcd => "spec.etcd",
            Self::ApiServer => "spec.deployment.apiServer",
            Self::ControllerManager => "spec.deployment.controllerManager",
            Self::Scheduler => "spec.deployment.scheduler",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Etcd => "-etcd",
            Self::ApiServer => "-api-server",
            Self::ControllerManager => "-controller-manager",
            Self::Scheduler => "-scheduler",
        }
    }
}

/// The names under one control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    cluster: String,
}

impl Names {
    /// The names for the Cluster of that name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
        }
    }

    /// The Cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The Deployment or `StatefulSet` of a component, its disruption budget, and its `ConfigMap`: a kubeconfig, or what
    /// etcd's members may do.
    pub fn workload(&self, component: Component) -> String {
        let appended = match component {
            Component::Etcd => REVISION_SUFFIX,
            _ => POD_SUFFIX,
        };
        bounded("", &self.cluster, component.suffix(), DNS_LABEL - appended)
    }

    /// The Service that the API server is reached by.
    pub fn api_service(&self) -> String {
        bounded("s-", &self.cluster, "", DNS_LABEL)
    }

    /// The headless Service that gives each member of etcd a name.
    pub fn etcd_service(&self) -> String {
        bounded("e-", &self.cluster, "-etcd", DNS_LABEL)
    }

    /// The headless Service that API servers reach etcd by.
    pub fn etcd_client_service(&self) -> String {
        bounded("e-", &self.cluster, "-etcd-client", DNS_LABEL)
    }

    /// A Secret of the contract: `ca`, `etcd`, `proxy`, `sa`, `kubeconfig`.
    pub fn contract_secret(&self, purpose: &str) -> String {
        format!("{}-{purpose}", self.cluster)
    }

    /// The Secret of a leaf certificate.
    pub fn leaf_secret(&self, leaf: &str) -> String {
        format!("{}-{leaf}-tls", self.cluster)
    }

    /// The labels of an object under the control plane.
    pub fn labels(&self, component: Option<Component>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (meta::CLUSTER_NAME_LABEL.to_owned(), self.cluster.clone()),
            (meta::MANAGED_BY_LABEL.to_owned(), meta::MANAGER.to_owned()),
        ]);
        if let Some(component) = component {
            labels.insert(meta::COMPONENT_LABEL.to_owned(), component.program().to_owned());
        }
        labels
    }

    /// The labels that select a component's pods. Part of immutable selectors: never change them.
    pub fn selector(&self, component: Component) -> BTreeMap<String, String> {
        BTreeMap::from([
            (meta::CLUSTER_NAME_LABEL.to_owned(), self.cluster.clone()),
            (meta::COMPONENT_LABEL.to_owned(), component.program().to_owned()),
        ])
    }
}

/// `prefix + name + suffix`, the name cut and given a hash where the whole would be longer than `limit`.
fn bounded(prefix: &str, name: &str, suffix: &str, limit: usize) -> String {
    let fits = limit.saturating_sub(prefix.len() + suffix.len());
    if name.len() <= fits {
        return format!("{prefix}{name}{suffix}");
    }
    let mut hash = String::new();
    for byte in &Sha256::digest(name.as_bytes())[..4] {
        let _ = write!(hash, "{byte:02x}");
    }
    // Names of objects are ASCII, so that any cut is a cut between characters; the filter covers all others.
    let kept: String = name
        .chars()
        .filter(char::is_ascii)
        .take(fits.saturating_sub(hash.len() + 1))
        .collect();
    format!("{prefix}{}-{hash}{suffix}", kept.trim_end_matches(['-', '.']))
}

/// Labels as the text of a selector, as in `status.selector`.
pub fn selector_text(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Component; 4] = [
        Component::Etcd,
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
    ];

    #[test]
    fn short_names_read_as_they_are() {
        let names = Names::new("dev");
        assert_eq!(names.workload(Component::ApiServer), "dev-api-server");
        assert_eq!(names.workload(Component::Etcd), "dev-etcd");
        assert_eq!(names.api_service(), "s-dev");
        assert_eq!(names.etcd_service(), "e-dev-etcd");
        assert_eq!(names.etcd_client_service(), "e-dev-etcd-client");
        assert_eq!(names.contract_secret("kubeconfig"), "dev-kubeconfig");
    }

    #[test]
    fn long_names_leave_room_for_what_kubernetes_appends_and_stay_apart() {
        let a = Names::new(format!("{}a", "long-".repeat(12)));
        let b = Names::new(format!("{}b", "long-".repeat(12)));
        for component in ALL {
            assert!(a.workload(component).len() + REVISION_SUFFIX <= DNS_LABEL);
            assert_ne!(a.workload(component), b.workload(component));
        }
        for service in [a.api_service(), a.etcd_service(), a.etcd_client_service()] {
            assert!(service.len() <= DNS_LABEL, "{service}");
        }
        assert_ne!(a.etcd_service(), b.etcd_service());
        assert!(!a.api_service().contains("--"), "{}", a.api_service());
    }

    #[test]
    fn a_selector_is_written_as_a_query_has_it() {
        let text = selector_text(&Names::new("dev").selector(Component::ApiServer));
        assert_eq!(
            text,
            "app.kubernetes.io/component=kube-apiserver,cluster.x-k8s.io/cluster-name=dev"
        );
    }
}
