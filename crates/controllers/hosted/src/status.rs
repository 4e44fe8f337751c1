//! What is said of a control plane: status by Cluster API's v1beta2 contract. Pure, and made anew each time from what
//! is there; nothing in it is needed to go on.

use clusterwright_api::conditions::HostedControlPlaneCondition as Type;
use clusterwright_api::hosted::{HostedControlPlaneInitialization, HostedControlPlaneStatus, StatusVersion};
use clusterwright_api::reasons::Reason;
use clusterwright_api::{HostedControlPlane, meta};
use clusterwright_runtime::conditions::{self, ConditionUpdate};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::exposure::Exposure;
use crate::graph::{Node, Verdict, Verdicts, Why};
use crate::names::{Component, Names, selector_text};
use crate::rollout;
use crate::snapshot::{DEPLOYMENTS, Snapshot};
use crate::version::Version;

/// What a status is made from.
pub struct Observed<'a> {
    /// The control plane.
    pub object: &'a HostedControlPlane,
    /// The names under it.
    pub names: &'a Names,
    /// What is there, after this pass's writes.
    pub snapshot: &'a Snapshot,
    /// How the nodes stand.
    pub verdicts: &'a Verdicts,
    /// Where the API server is reached.
    pub exposure: &'a Exposure,
    /// Fields that are not acted on.
    pub unsupported: &'a [&'static str],
    /// The time.
    pub now: Timestamp,
}

/// Sets conditions of one object at one time.
pub struct Conditions<'a> {
    all: &'a mut Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl<'a> Conditions<'a> {
    /// Those of a status.
    pub fn of(status: &'a mut HostedControlPlaneStatus, generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            all: &mut status.conditions,
            generation,
            now,
        }
    }

    /// Sets one.
    pub fn set(&mut self, kind: Type, holds: bool, reason: Reason, message: impl Into<String>) {
        let update = ConditionUpdate::new(kind.as_str(), holds, reason.as_str())
            .message(message)
            .observed_generation(self.generation);
        conditions::set(self.all, update, self.now);
    }

    fn set_by(&mut self, kind: Type, why: Option<&Why>) {
        match why {
            None => self.set(kind, true, Reason::Ready, ""),
            Some(why) => self.set(kind, false, why.reason, why.message.clone()),
        }
    }
}

/// The status of a control plane that was worked on.
pub fn status(observed: &Observed<'_>) -> HostedControlPlaneStatus {
    let mut status = observed.object.status.clone().unwrap_or_default();
    let snapshot = observed.snapshot;
    let api_servers = snapshot.rollout(Component::ApiServer);
    status.observed_generation = observed.object.metadata.generation;
    status.selector = Some(selector_text(&observed.names.selector(Component::ApiServer)));
    status.replicas = Some(api_servers.total);
    status.ready_replicas = Some(api_servers.ready);
    status.available_replicas = Some(api_servers.available);
    // Before the workload's controller has seen the present template, none is known to have it.
    status.up_to_date_replicas = Some(if api_servers.observed {
        api_servers.updated
    } else {
        0
    });
    status.external_managed_control_plane = Some(true);
    status.etcd_volume_size = snapshot.volume_size();
    status.legacy_ip = observed
        .exposure
        .load_balancer
        .clone()
        .filter(|address| address.parse::<std::net::IpAddr>().is_ok());
    set_versions(&mut status, snapshot);

    let answers = api_servers.available >= 1 && observed.verdicts.get(Node::Kubeconfig).is_usable();
    if answers {
        status.initialization = Some(HostedControlPlaneInitialization {
            control_plane_initialized: Some(true),
        });
    }
    let missing = missing(observed, &status);
    if missing.is_none() {
        status.ready = Some(true);
    }
    set_conditions(&mut status, observed, missing);
    status
}

fn set_versions(status: &mut HostedControlPlaneStatus, snapshot: &Snapshot) {
    let pods = || {
        snapshot
            .pods
            .iter()
            .filter(|pod| rollout::is_of(pod, Component::ApiServer) && rollout::is_live(pod))
    };
    let count = |ready_only: bool| {
        let mut versions: Vec<(Version, i32)> = Vec::new();
        for pod in pods().filter(|pod| !ready_only || rollout::is_ready(pod)) {
            let Some(version) = rollout::running_version(pod, Component::ApiServer) else {
                continue;
            };
            match versions.iter_mut().find(|(known, _)| *known == version) {
                Some((_, count)) => *count += 1,
                None => versions.push((version, 1)),
            }
        }
        versions.sort();
        versions
    };
    // Those that answer; in an outage, those that are there.
    let mut versions = count(true);
    if versions.is_empty() {
        versions = count(false);
    }
    status.version = versions.first().map(|(version, _)| version.to_string());
    status.versions = versions
        .into_iter()
        .map(|(version, replicas)| StatusVersion {
            version: version.to_string(),
            replicas: Some(replicas),
        })
        .collect();
}

/// What the control plane lacks to work, by what is there rather than by how this pass went: a request that failed
/// does not make a running control plane unavailable.
fn missing(observed: &Observed<'_>, status: &HostedControlPlaneStatus) -> Option<String> {
    let mut missing = Vec::new();
    let endpoint = observed.object.spec.control_plane_endpoint.as_ref();
    if !endpoint.is_some_and(clusterwright_api::cluster::ApiEndpoint::is_complete) {
        missing.push("the endpoint is not known".to_owned());
    }
    let members = observed.snapshot.etcd_rollout();
    if members.ready < observed.snapshot.etcd_majority() {
        missing.push(format!(
            "{} of {} etcd members are ready",
            members.ready, members.desired
        ));
    }
    for component in DEPLOYMENTS {
        if observed.snapshot.rollout(component).available < 1 {
            missing.push(format!("no {} is available", component.program()));
        }
    }
    // The pods may be seen later than the Deployment that counts them.
    if missing.is_empty() && status.version.is_none() {
        missing.push("the version that runs is not known".to_owned());
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}

fn set_conditions(status: &mut HostedControlPlaneStatus, observed: &Observed<'_>, missing: Option<String>) {
    let wanted = observed.object.spec.replicas();
    let api_servers = observed.snapshot.rollout(Component::ApiServer);
    let mut conditions = Conditions::of(status, observed.object.metadata.generation, observed.now);
    match missing {
        None => conditions.set(Type::Available, true, Reason::Available, ""),
        Some(missing) => conditions.set(Type::Available, false, Reason::NotAvailable, missing),
    }
    let verdicts = observed.verdicts;
    let not_ready = verdicts.first_not_ready(&Node::ALL).and_then(|(node, verdict)| {
        let why = verdict.why()?;
        Some(Why::new(why.reason, format!("{}: {}", node.title(), why.message)))
    });
    conditions.set_by(Type::Ready, not_ready.as_ref());

    let certificates = verdicts.first_not_ready(&[Node::Roots, Node::Certificates, Node::ServingCertificate]);
    conditions.set_by(
        Type::CertificatesAvailable,
        certificates.as_ref().and_then(|(_, verdict)| verdict.why()),
    );
    // These two hold as soon as what depends on them can go on.
    for (kind, node) in [
        (Type::EndpointReady, Node::Endpoint),
        (Type::EtcdClusterAvailable, Node::Etcd),
    ] {
        let verdict = verdicts.get(node);
        match &verdict {
            Verdict::Usable(why) => conditions.set(kind, true, Reason::Ready, why.message.clone()),
            verdict => conditions.set_by(kind, verdict.why()),
        }
    }
    for (kind, node) in [
        (Type::APIServerReady, Node::ApiServer),
        (Type::ControllerManagerReady, Node::ControllerManager),
        (Type::SchedulerReady, Node::Scheduler),
        (Type::KubeconfigReady, Node::Kubeconfig),
    ] {
        conditions.set_by(kind, verdicts.get(node).why());
    }

    let rolling: Vec<&str> = rolling(observed.snapshot);
    if rolling.is_empty() {
        conditions.set(Type::RollingOut, false, Reason::NotRollingOut, "");
    } else {
        conditions.set(Type::RollingOut, true, Reason::RollingOut, rolling.join(", "));
    }
    let scaling = format!("{} of {wanted} API servers", api_servers.total);
    if api_servers.total < wanted {
        conditions.set(Type::ScalingUp, true, Reason::ScalingUp, scaling.clone());
    } else {
        conditions.set(Type::ScalingUp, false, Reason::NotScalingUp, "");
    }
    // One more than wanted is how pods are replaced.
    let surge = i32::from(api_servers.is_rolling());
    if api_servers.total > wanted + surge {
        conditions.set(Type::ScalingDown, true, Reason::ScalingDown, scaling);
    } else {
        conditions.set(Type::ScalingDown, false, Reason::NotScalingDown, "");
    }
    if observed.unsupported.is_empty() {
        conditions.set(Type::FieldsNotSupported, false, Reason::AllFieldsSupported, "");
    } else {
        conditions.set(
            Type::FieldsNotSupported,
            true,
            Reason::FieldsNotSupported,
            unsupported_message(observed.unsupported),
        );
    }
    if blocks_move(observed.object) {
        conditions.set(
            Type::MoveBlocked,
            true,
            Reason::PodsInManagementCluster,
            MOVE_BLOCKED,
        );
    }
    conditions.set(Type::Paused, false, Reason::NotPaused, "");
    conditions.set(Type::Deleting, false, Reason::NotDeleting, "");
}

/// Why the object can't be moved to another management cluster.
const MOVE_BLOCKED: &str = "the pods of this control plane and the volumes with its data are in this management cluster: \
                            `clusterctl move` would make the objects elsewhere and delete these; it moves nothing while \
                            the annotation clusterctl.cluster.x-k8s.io/block-move is here";

/// Whether the object says that it must not be moved.
pub fn blocks_move(object: &HostedControlPlane) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(meta::BLOCK_MOVE_ANNOTATION))
}

/// What is said of fields that are not acted on.
pub fn unsupported_message(fields: &[&str]) -> String {
    format!("kept but not acted on by this release: {}", fields.join(", "))
}

fn rolling(snapshot: &Snapshot) -> Vec<&'static str> {
    let etcd = snapshot.etcd.is_some() && snapshot.etcd_rollout().is_rolling();
    let deployments = DEPLOYMENTS.into_iter().filter(|component| {
        snapshot.deployments.contains_key(component) && snapshot.rollout(*component).is_rolling()
    });
    let mut components: Vec<Component> = deployments.collect();
    if etcd {
        components.insert(0, Component::Etcd);
    }
    components.into_iter().map(Component::program).collect()
}
