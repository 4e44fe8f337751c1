//! etcd: one or three members, TLS between them and towards the API servers.
//!
//! Flags are kubeadm's (`cmd/kubeadm/app/phases/etcd`) for the version of etcd that belongs to the Kubernetes minor,
//! but for those that name the members: they come from a [`book`], so that a change of the membership ([`plan`], by
//! [`membership`]) touches no pod template. Each pod's first container asks the book whether its member may [`start`].

pub mod book;
mod gateway;
pub mod membership;
pub mod plan;
mod simulated;
pub mod start;

pub use gateway::PortForward;
pub use simulated::Simulated;

use std::collections::BTreeMap;

use clusterwright_api::meta;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, PodTemplateSpec,
    ResourceRequirements, Service, ServicePort, ServiceSpec, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::components::{
    Flags, PKI_DIR, PodSpecification, Probes, Source, disruption_budget, selector, template,
};
use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::{Leaf, LeafNames, Root};
use crate::version::Version;
use crate::{quantity, rollout};
use plan::PodState;

/// How many members there are at most, and if the spec says nothing.
pub const MOST_MEMBERS: i32 = 3;
/// The size of a volume to start with, where the controller chooses it.
pub const INITIAL_VOLUME_SIZE: &str = "1Gi";

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
const METRICS_PORT: i32 = 2381;
const VOLUME: &str = "etcd-data";
const VOLUME_DIR: &str = "/var/lib/etcd";
/// The name of the container that says whether the member may start.
const HELPER: &str = "member";

/// etcd as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The headless Service that gives each member its name.
    pub service: Service,
    /// The headless Service that API servers reach the members by.
    pub client_service: Service,
    /// The members.
    pub stateful_set: StatefulSet,
    /// The disruption budget.
    pub budget: PodDisruptionBudget,
    /// Arguments of the spec that the controller's own take precedence over.
    pub overridden: Vec<String>,
}

/// The size of each member's volume.
pub fn volume_size(inputs: &Inputs) -> Quantity {
    let given = inputs
        .spec
        .inline
        .etcd
        .as_ref()
        .and_then(|etcd| etcd.volume_size.as_ref());
    given.map_or_else(|| Quantity(INITIAL_VOLUME_SIZE.to_owned()), quantity::canonical)
}

/// The URL at which API servers reach the members: one name for all of them, so that it stays when members come and go.
pub fn client_url(inputs: &Inputs) -> String {
    format!("https://{}:{CLIENT_PORT}", client_host(inputs))
}

/// The members that there are to be, by their pods' names.
pub fn wanted(inputs: &Inputs) -> Vec<String> {
    let given = inputs.spec.inline.etcd.as_ref().and_then(|etcd| etcd.replicas);
    members(inputs, given.unwrap_or(MOST_MEMBERS))
}

/// Every member that there can be, with its peer URL.
pub fn possible(inputs: &Inputs) -> Vec<(String, String)> {
    members(inputs, MOST_MEMBERS)
        .into_iter()
        .map(|name| {
            let url = peer_url(inputs, &name);
            (name, url)
        })
        .collect()
}

/// The claim of a member.
pub fn claim_name(member: &str) -> String {
    format!("{VOLUME}-{member}")
}

/// The image of the first container in a pod template.
pub fn helper_image(template: &PodTemplateSpec) -> Option<&str> {
    let containers = template.spec.as_ref()?.init_containers.as_ref()?;
    let helper = containers.iter().find(|container| container.name == HELPER)?;
    helper.image.as_deref()
}

/// How the pod of a member stands.
pub fn pod_state(pod: &Pod) -> PodState {
    // While it waits to be tried again, what it said last counts.
    let ended = |status: &ContainerStatus| {
        let now = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        let last = status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        now.or(last).map(|ended| ended.exit_code)
    };
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.init_container_statuses.as_deref());
    let helper = statuses
        .unwrap_or_default()
        .iter()
        .find(|status| status.name == HELPER)
        .and_then(ended);
    if pod.metadata.deletion_timestamp.is_some() {
        PodState::NotReady
    } else if helper == Some(start::DATA_LOST.into()) {
        PodState::DataLost
    } else if helper == Some(start::NOT_A_MEMBER.into()) {
        PodState::NotAMember
    } else if rollout::is_ready(pod) {
        PodState::Ready
    } else {
        PodState::NotReady
    }
}

/// The names that members' certificates hold for.
pub fn certificate_names(inputs: &Inputs) -> LeafNames {
    let mut names: LeafNames = ["localhost", "127.0.0.1", "::1"].into_iter().collect();
    // Of all that there can be, so that no certificate changes with the membership.
    names.add(&service_host(inputs));
    names.add(&client_host(inputs));
    for member in members(inputs, MOST_MEMBERS) {
        names.add(&host(inputs, &member));
        // As the cluster's DNS completes it.
        names.add(&member);
    }
    names
}

fn members(inputs: &Inputs, count: i32) -> Vec<String> {
    let name = inputs.names.workload(Component::Etcd);
    (0..count).map(|index| format!("{name}-{index}")).collect()
}

fn service_host(inputs: &Inputs) -> String {
    format!("{}.{}.svc", inputs.names.etcd_service(), inputs.namespace)
}

fn client_host(inputs: &Inputs) -> String {
    format!("{}.{}.svc", inputs.names.etcd_client_service(), inputs.namespace)
}

/// The name that a member's certificate holds for.
pub fn host(inputs: &Inputs, member: &str) -> String {
    format!("{member}.{}", service_host(inputs))
}

fn peer_url(inputs: &Inputs, member: &str) -> String {
    format!("https://{}:{PEER_PORT}", host(inputs, member))
}

/// etcd as it is to be now.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The version of Kubernetes that it is for.
    pub version: &'a Version,
    /// The size of volumes.
    pub size: &'a Quantity,
    /// Whether API servers find members that are not ready too: until the first of them has answered.
    pub unready: bool,
    /// So many pods.
    pub replicas: i32,
    /// The image of the pods' first container, which is ours.
    pub helper_image: &'a str,
}

/// etcd's objects.
pub fn etcd(inputs: &Inputs, settings: Settings<'_>) -> Desired {
    let Settings { version, size, .. } = settings;
    let component = Component::Etcd;
    let given = inputs.spec.inline.etcd.clone().unwrap_or_default();
    let args = flags(inputs, version, size).with(&given.container.args);
    let pod = PodSpecification {
        component,
        container: &given.container,
        tag: version.etcd().tag.to_owned(),
        requests: &[("cpu", "100m"), ("memory", "100Mi")],
        args: args.args,
        priority_class: given.priority_class_name.clone(),
        ports: vec![("client", CLIENT_PORT.into()), ("peer", PEER_PORT.into())],
        probes: Probes {
            scheme: "HTTP",
            port: METRICS_PORT,
            startup: "/readyz",
            readiness: "/readyz",
            liveness: "/livez",
        },
        pod_name: true,
        pki: vec![
            Source::Secret(
                inputs.names.contract_secret(Root::Etcd.purpose()),
                vec![("tls.crt", "etcd-ca.crt".to_owned())],
            ),
            leaf(inputs, Leaf::EtcdServer),
            leaf(inputs, Leaf::EtcdPeer),
        ],
        volumes: Vec::new(),
        mounts: vec![data_mount()],
        // Not the Kubernetes version: members are replaced when etcd's changes, not at each patch of Kubernetes.
        annotations: BTreeMap::new(),
        spread_keys: &[],
        capabilities: &[],
    };
    let mut template = template(inputs, pod);
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations = None;
    }
    if let Some(spec) = &mut template.spec {
        let variables = book::variables(inputs);
        for container in &mut spec.containers {
            container
                .env
                .get_or_insert_default()
                .extend(variables.iter().cloned());
        }
        let helper = helper(inputs, settings.helper_image, &spec.containers);
        spec.init_containers = Some(vec![helper]);
    }
    let mut metadata = inputs.metadata(inputs.names.workload(component), Some(component));
    metadata.annotations = Some([(meta::VERSION_ANNOTATION.to_owned(), version.to_string())].into());
    Desired {
        service: service(inputs),
        client_service: client_service(inputs, settings.unready),
        stateful_set: StatefulSet {
            metadata,
            spec: Some(StatefulSetSpec {
                // All at once: a member alone has no quorum and would never be ready.
                pod_management_policy: Some("Parallel".to_owned()),
                // Data outlives a set that is deleted by mistake; the controller deletes claims itself.
                persistent_volume_claim_retention_policy: Some(
                    StatefulSetPersistentVolumeClaimRetentionPolicy {
                        when_deleted: Some("Retain".to_owned()),
                        when_scaled: Some("Retain".to_owned()),
                    },
                ),
                replicas: Some(settings.replicas),
                selector: selector(inputs, component),
                service_name: Some(inputs.names.etcd_service()),
                template,
                update_strategy: Some(StatefulSetUpdateStrategy {
                    type_: Some("RollingUpdate".to_owned()),
                    rolling_update: Some(RollingUpdateStatefulSetStrategy {
                        partition: Some(0),
                        ..RollingUpdateStatefulSetStrategy::default()
                    }),
                }),
                volume_claim_templates: Some(vec![claim(inputs, size.clone())]),
                ..StatefulSetSpec::default()
            }),
            status: None,
        },
        budget: disruption_budget(inputs, component, None, Some(1)),
        overridden: args.overridden,
    }
}

/// The container that says whether the member may start.
fn helper(inputs: &Inputs, image: &str, beside: &[Container]) -> Container {
    let own_name = beside.iter().flat_map(|container| container.env.iter().flatten());
    let own_name = own_name.filter(|variable| variable.name == "POD_NAME");
    Container {
        name: HELPER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec![
            "etcd-member".to_owned(),
            "--name=$(POD_NAME)".to_owned(),
            format!("--volume={VOLUME_DIR}"),
        ]),
        env: Some(
            own_name
                .cloned()
                .chain([book::members_variable(inputs)])
                .collect(),
        ),
        resources: Some(ResourceRequirements {
            requests: Some(
                [("cpu", "10m"), ("memory", "16Mi")]
                    .map(|(name, value)| (name.to_owned(), Quantity(value.to_owned())))
                    .into(),
            ),
            ..ResourceRequirements::default()
        }),
        security_context: beside
            .first()
            .and_then(|container| container.security_context.clone()),
        // Its last words say why a pod does not start.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![data_mount()]),
        ..Container::default()
    }
}

fn data_mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: VOLUME_DIR.to_owned(),
        ..VolumeMount::default()
    }
}

fn claim(inputs: &Inputs, size: Quantity) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(VOLUME.to_owned()),
            labels: Some(inputs.names.labels(Some(Component::Etcd))),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), size)].into()),
                ..VolumeResourceRequirements::default()
            }),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn leaf(inputs: &Inputs, leaf: Leaf) -> Source {
    let name = leaf.name();
    Source::Secret(
        inputs.names.leaf_secret(name),
        vec![
            ("tls.crt", format!("{name}.crt")),
            ("tls.key", format!("{name}.key")),
        ],
    )
}

/// The Service by which members find each other, before any of them is ready.
fn service(inputs: &Inputs) -> Service {
    let ports = [("client", CLIENT_PORT), ("peer", PEER_PORT)];
    headless(inputs, inputs.names.etcd_service(), &ports, true)
}

/// The Service by which API servers find the members that work: a member that hangs takes connections and answers none.
/// On the first start those count too that are not ready, since who waits for them need not wait for their probes.
fn client_service(inputs: &Inputs, unready: bool) -> Service {
    let ports = [("client", CLIENT_PORT)];
    headless(inputs, inputs.names.etcd_client_service(), &ports, unready)
}

fn headless(inputs: &Inputs, name: String, ports: &[(&str, u16)], unready: bool) -> Service {
    let port = |&(name, port): &(&str, u16)| ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(port.into())),
        ..ServicePort::default()
    };
    Service {
        metadata: inputs.metadata(name, Some(Component::Etcd)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            ports: Some(ports.iter().map(port).collect()),
            // A server keeps no `false`.
            publish_not_ready_addresses: unready.then_some(true),
            selector: Some(inputs.names.selector(Component::Etcd)),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn flags(inputs: &Inputs, version: &Version, size: &Quantity) -> Flags {
    let own = host(inputs, "$(POD_NAME)");
    let pki = |file: &str| format!("{PKI_DIR}/{file}");
    let mut flags = Flags::default();
    flags
        .set("advertise-client-urls", format!("https://{own}:{CLIENT_PORT}"))
        .set("cert-file", pki("etcd-server.crt"))
        .set("client-cert-auth", "true")
        .set("data-dir", format!("{VOLUME_DIR}/{}", start::DATA))
        // By variables, from the book.
        .elsewhere("initial-cluster")
        .elsewhere("initial-cluster-state");
    if version.etcd().minor >= 6 {
        flags.set("feature-gates", "InitialCorruptCheck=true");
    } else {
        flags.set("experimental-initial-corrupt-check", "true");
    }
    flags
        .set(
            "initial-advertise-peer-urls",
            format!("https://{own}:{PEER_PORT}"),
        )
        .set(
            "initial-cluster-token",
            format!("{}.{}", inputs.namespace, inputs.names.cluster()),
        )
        .set("key-file", pki("etcd-server.key"))
        .set("listen-client-urls", format!("https://0.0.0.0:{CLIENT_PORT}"))
        .set("listen-metrics-urls", format!("http://0.0.0.0:{METRICS_PORT}"))
        .set("listen-peer-urls", format!("https://0.0.0.0:{PEER_PORT}"))
        .set("name", "$(POD_NAME)")
        .set("peer-cert-file", pki("etcd-peer.crt"))
        .set("peer-client-cert-auth", "true")
        .set("peer-key-file", pki("etcd-peer.key"))
        .set("peer-trusted-ca-file", pki("etcd-ca.crt"));
    // A tenth of the volume is left, so that etcd says that it is full before the disk is.
    if let Some(bytes) = quantity::units(size) {
        flags.set("quota-backend-bytes", (bytes / 10 * 9).to_string());
    }
    flags
        .set("snapshot-count", "10000")
        .set("trusted-ca-file", pki("etcd-ca.crt"));
    if version.etcd().minor >= 6 {
        flags.set("watch-progress-notify-interval", "5s");
    } else {
        flags.set("experimental-watch-progress-notify-interval", "5s");
    }
    flags
}
