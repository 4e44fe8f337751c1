//! Which leaf certificates there are, and what each says: kubeadm's list (`cmd/kubeadm/app/phases/certs`), for pods
//! behind Services rather than for one node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Root;

/// A leaf certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaf {
    /// What the API servers serve.
    ApiServer,
    /// What the API servers show to kubelets.
    ApiServerKubeletClient,
    /// What the API servers show to etcd.
    ApiServerEtcdClient,
    /// What the API servers show to extension API servers.
    FrontProxyClient,
    /// What etcd serves.
    EtcdServer,
    /// What etcd's members show to each other.
    EtcdPeer,
    /// The controller manager's identity.
    ControllerManager,
    /// The scheduler's identity.
    Scheduler,
    /// The administrator's identity, in the contract's kubeconfig.
    Admin,
}

/// The names that a certificate holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafNames {
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
}

impl LeafNames {
    /// Adds a host: an IP address or a DNS name.
    pub fn add(&mut self, host: &str) {
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => {
                self.ips.insert(address);
            }
            Err(_) => {
                self.dns.insert(host.to_owned());
            }
        }
    }
}

impl<'a> FromIterator<&'a str> for LeafNames {
    fn from_iter<I: IntoIterator<Item = &'a str>>(hosts: I) -> Self {
        let mut names = Self::default();
        hosts.into_iter().for_each(|host| names.add(host));
        names
    }
}

/// What a leaf certificate has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The subject's common name: a user, where it is a client's.
    pub common_name: String,
    /// The subject's organization: a group, where it is a client's.
    pub organization: Option<String>,
    /// The names that it holds for.
    pub names: LeafNames,
    /// A server may show it.
    pub server: bool,
    /// A client may show it.
    pub client: bool,
}

impl Leaf {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ApiServer,
        Self::ApiServerKubeletClient,
        Self::ApiServerEtcdClient,
        Self::FrontProxyClient,
        Self::EtcdServer,
        Self::EtcdPeer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Admin,
    ];

    /// The name in the Secret's name and of the files in a pod.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::ApiServerKubeletClient => "apiserver-kubelet-client",
            Self::ApiServerEtcdClient => "apiserver-etcd-client",
            Self::FrontProxyClient => "front-proxy-client",
            Self::EtcdServer => "etcd-server",
            Self::EtcdPeer => "etcd-peer",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::Admin => "admin",
        }
    }

    /// The root that signs it.
    pub const fn root(self) -> Root {
        match self {
            Self::ApiServerEtcdClient | Self::EtcdServer | Self::EtcdPeer => Root::Etcd,
            Self::FrontProxyClient => Root::FrontProxy,
            _ => Root::Cluster,
        }
    }

    /// Whether its names depend on where the API server is reached.
    pub const fn needs_endpoint(self) -> bool {
        matches!(self, Self::ApiServer)
    }

    /// What it has to say. `names` are those of the servers that show it; clients have none.
    pub fn profile(self, names: LeafNames) -> Profile {
        // The group needs no binding in the hosted cluster, where this controller writes nothing yet.
        const MASTERS: &str = "system:masters";
        let (common_name, organization, server, client) = match self {
            Self::ApiServer => ("kube-apiserver", None, true, false),
            Self::ApiServerKubeletClient => ("kube-apiserver-kubelet-client", Some(MASTERS), false, true),
            Self::ApiServerEtcdClient => ("kube-apiserver-etcd-client", None, false, true),
            Self::FrontProxyClient => ("front-proxy-client", None, false, true),
            // etcd's own gateway is a client of the server's certificate.
            Self::EtcdServer => ("etcd-server", None, true, true),
            Self::EtcdPeer => ("etcd-peer", None, true, true),
            Self::ControllerManager => ("system:kube-controller-manager", None, false, true),
            Self::Scheduler => ("system:kube-scheduler", None, false, true),
            Self::Admin => ("kubernetes-admin", Some(MASTERS), false, true),
        };
        Profile {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            names,
            server,
            client,
        }
    }
}
