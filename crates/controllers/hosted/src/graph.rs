//! The order of work: a graph of nodes, each of which is ready, usable, waiting or failed. What fails stops only
//! what depends on it; all else goes on.

use std::collections::BTreeMap;

use clusterwright_api::reasons::Reason;

use crate::names::Component;

/// A part of the control plane that is brought about as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The roots of trust and the service account's key pair.
    Roots,
    /// The Service, and the address that it has.
    Endpoint,
    /// Leaf certificates whose names don't depend on the endpoint.
    Certificates,
    /// The API server's serving certificate.
    ServingCertificate,
    /// The administrator's kubeconfig.
    Kubeconfig,
    /// etcd.
    Etcd,
    /// The API servers.
    ApiServer,
    /// The controller manager.
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

impl Node {
    /// All of them, each after those that it needs.
    pub const ALL: [Self; 9] = [
        Self::Roots,
        Self::Endpoint,
        Self::Certificates,
        Self::ServingCertificate,
        Self::Kubeconfig,
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
    ];

    /// What has to be usable first. On a cluster's first start the API servers are made together with etcd, which
    /// they look for until it answers; later, what changes them waits until etcd can bear it.
    pub const fn needs(self, first_start: bool) -> &'static [Self] {
        match self {
            Self::Roots | Self::Endpoint => &[],
            Self::Certificates => &[Self::Roots],
            Self::ServingCertificate => &[Self::Roots, Self::Endpoint],
            Self::Kubeconfig => &[Self::Endpoint, Self::Certificates],
            Self::Etcd => &[Self::Certificates],
            Self::ApiServer if first_start => &[Self::Certificates, Self::ServingCertificate],
            Self::ApiServer => &[Self::Certificates, Self::ServingCertificate, Self::Etcd],
            Self::ControllerManager | Self::Scheduler => &[Self::Certificates, Self::ApiServer],
        }
    }

    /// What runs in pods for it.
    pub const fn component(self) -> Option<Component> {
        match self {
            Self::Etcd => Some(Component::Etcd),
            Self::ApiServer => Some(Component::ApiServer),
            Self::ControllerManager => Some(Component::ControllerManager),
            Self::Scheduler => Some(Component::Scheduler),
            Self::Roots
            | Self::Endpoint
            | Self::Certificates
            | Self::ServingCertificate
            | Self::Kubeconfig => None,
        }
    }

    /// What a person calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Roots => "the certificate authorities",
            Self::Endpoint => "the endpoint",
            Self::Certificates => "the certificates",
            Self::ServingCertificate => "the API server's certificate",
            Self::Kubeconfig => "the kubeconfig",
            Self::Etcd => "etcd",
            Self::ApiServer => "the API servers",
            Self::ControllerManager => "the controller manager",
            Self::Scheduler => "the scheduler",
        }
    }
}

/// Why a node is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// One word of the closed list.
    pub reason: Reason,
    /// Details for people.
    pub message: String,
}

impl Why {
    /// A reason and its details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Ready,
    /// It works, so that what depends on it may go on, but is not yet as it should be.
    Usable(Why),
    /// It does not work yet; something that is watched will change that.
    Waiting(Why),
    /// It can't be brought about.
    Failed(Why),
}

impl Verdict {
    /// Whether what depends on it may go on.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Ready | Self::Usable(_))
    }

    /// Why it is not ready.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Self::Ready => None,
            Self::Usable(why) | Self::Waiting(why) | Self::Failed(why) => Some(why),
        }
    }
}

/// How all nodes stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts(BTreeMap<Node, Verdict>);

impl Verdicts {
    /// Notes how a node stands.
    pub fn set(&mut self, node: Node, verdict: Verdict) {
        self.0.insert(node, verdict);
    }

    /// How a node stands; waiting, if it has not been looked at.
    pub fn get(&self, node: Node) -> Verdict {
        self.0.get(&node).cloned().unwrap_or_else(|| {
            Verdict::Waiting(Why::new(
                Reason::WaitingForDependency,
                format!("{} was not looked at yet", node.title()),
            ))
        })
    }

    /// The verdict of a node that can't be worked on because one that it needs is not usable.
    pub fn blocked(&self, node: Node, first_start: bool) -> Option<Verdict> {
        let need = node
            .needs(first_start)
            .iter()
            .find(|need| !self.get(**need).is_usable())?;
        Some(Verdict::Waiting(Why::new(
            Reason::WaitingForDependency,
            format!("waits for {}", need.title()),
        )))
    }

    /// The first of these nodes that is not ready, and why.
    pub fn first_not_ready(&self, nodes: &[Node]) -> Option<(Node, Verdict)> {
        nodes
            .iter()
            .map(|node| (*node, self.get(*node)))
            .find(|(_, verdict)| *verdict != Verdict::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_comes_after_what_it_needs() {
        for (position, node) in Node::ALL.iter().enumerate() {
            for need in node.needs(false) {
                assert!(Node::ALL[..position].contains(need), "{node:?} needs {need:?}");
            }
        }
    }

    #[test]
    fn a_failure_stops_what_depends_on_it_and_nothing_else() {
        let failed = || Verdict::Failed(Why::new(Reason::RequestFailed, "no"));
        let mut verdicts = Verdicts::default();
        for node in Node::ALL {
            let verdict = match node {
                Node::Endpoint => failed(),
                node => verdicts.blocked(node, false).unwrap_or(Verdict::Ready),
            };
            verdicts.set(node, verdict);
        }
        for node in [Node::Roots, Node::Certificates, Node::Etcd] {
            assert_eq!(verdicts.get(node), Verdict::Ready, "{node:?}");
        }
        for node in [
            Node::ServingCertificate,
            Node::Kubeconfig,
            Node::ApiServer,
            Node::ControllerManager,
            Node::Scheduler,
        ] {
            assert!(!verdicts.get(node).is_usable(), "{node:?}");
        }
    }

    #[test]
    fn what_is_usable_lets_others_go_on() {
        let mut verdicts = Verdicts::default();
        verdicts.set(Node::Certificates, Verdict::Ready);
        verdicts.set(
            Node::ApiServer,
            Verdict::Usable(Why::new(Reason::WaitingForReplicas, "1 of 3")),
        );
        assert_eq!(verdicts.blocked(Node::Scheduler, false), None);
    }
    #[test]
    fn only_on_a_first_start_the_api_servers_do_not_wait_for_etcd() {
        let mut verdicts = Verdicts::default();
        for node in [Node::Certificates, Node::ServingCertificate] {
            verdicts.set(node, Verdict::Ready);
        }
        assert_eq!(verdicts.blocked(Node::ApiServer, true), None);
        assert!(verdicts.blocked(Node::ApiServer, false).is_some());
    }
}
