//! What all pods of a control plane have in common.

use std::collections::BTreeMap;

use clusterwright_api::hosted::{Container as ContainerSpec, ImagePullPolicy};
use clusterwright_api::meta;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    KeyToPath, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::inputs::Inputs;
use crate::names::Component;
use crate::quantity;
use crate::version::Version;

/// Where images come from if the spec says nothing.
const DEFAULT_REGISTRY: &str = "registry.k8s.io";
/// The user and group that every container runs as.
const USER: i64 = 1000;
/// The name of the port that probes ask.
const PROBE_PORT: &str = "probe-port";
/// Where certificates and keys are.
pub const PKI_DIR: &str = "/etc/kubernetes/pki";
/// The name of the volume with certificates and keys.
const PKI_VOLUME: &str = "pki";

/// A file of the pod's folder of certificates and keys, or of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Keys of a Secret and the files that they become.
    Secret(String, Vec<(&'static str, String)>),
    /// Keys of a `ConfigMap` and the files that they become.
    ConfigMap(String, Vec<(&'static str, String)>),
}

/// Which URLs say whether a container has started, is ready, is alive.
#[derive(Clone, Copy, Debug)]
pub struct Probes {
    /// `HTTP` or `HTTPS`.
    pub scheme: &'static str,
    /// The port that is asked.
    pub port: i32,
    /// Whether it has started.
    pub startup: &'static str,
    /// Whether it is ready.
    pub readiness: &'static str,
    /// Whether it is alive.
    pub liveness: &'static str,
}

/// What differs from pod to pod.
pub struct PodSpecification<'a> {
    /// The component.
    pub component: Component,
    /// What the spec says of the container.
    pub container: &'a ContainerSpec,
    /// The tag of the image if the spec gives none.
    pub tag: String,
    /// The requests if the spec gives no resources: kubeadm's.
    pub requests: &'static [(&'static str, &'static str)],
    /// The command line after the program's name.
    pub args: Vec<String>,
    /// The priority class.
    pub priority_class: Option<String>,
    /// Ports besides that of the probes.
    pub ports: Vec<(&'static str, i32)>,
    /// Probes.
    pub probes: Probes,
    /// Whether arguments use `$(POD_NAME)`.
    pub pod_name: bool,
    /// Files under [`PKI_DIR`].
    pub pki: Vec<Source>,
    /// More volumes, with where they are mounted.
    pub volumes: Vec<(Volume, VolumeMount)>,
    /// More mounts, of volumes that the pod gets otherwise.
    pub mounts: Vec<VolumeMount>,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Label keys that a pod's spread is reckoned by besides the selector.
    pub spread_keys: &'static [&'static str],
    /// Capabilities that the program's file asks for: the kernel refuses to start it without.
    pub capabilities: &'static [&'static str],
}

/// The selector of a component's pods.
pub fn selector(inputs: &Inputs, component: Component) -> LabelSelector {
    LabelSelector {
        match_labels: Some(inputs.names.selector(component)),
        ..LabelSelector::default()
    }
}

/// The disruption budget of a component.
pub fn disruption_budget(
    inputs: &Inputs,
    component: Component,
    min_available: Option<i32>,
    max_unavailable: Option<i32>,
) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: inputs.metadata(inputs.names.workload(component), Some(component)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: min_available.map(IntOrString::Int),
            max_unavailable: max_unavailable.map(IntOrString::Int),
            selector: Some(selector(inputs, component)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// The template of a component's pods.
///
/// It holds nothing that changes without a cause: no time, no hash of a Secret (programs read renewed certificates by
/// themselves).
#[expect(
    clippy::too_many_lines,
    reason = "one literal; its parts have no use elsewhere"
)]
pub fn template(inputs: &Inputs, pod: PodSpecification<'_>) -> PodTemplateSpec {
    let program = pod.component.program();
    let mut volumes = vec![Volume {
        name: PKI_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            // The group may read: containers run as a user of it.
            default_mode: Some(0o440),
            sources: Some(pod.pki.iter().map(projection).collect()),
        }),
        ..Volume::default()
    }];
    let mut mounts = vec![VolumeMount {
        name: PKI_VOLUME.to_owned(),
        mount_path: PKI_DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }];
    for (volume, mount) in pod.volumes {
        volumes.push(volume);
        mounts.push(mount);
    }
    mounts.extend(pod.mounts);
    let mut ports = vec![ContainerPort {
        name: Some(PROBE_PORT.to_owned()),
        container_port: pod.probes.port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }];
    ports.extend(pod.ports.into_iter().map(|(name, port)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }));
    let container = Container {
        name: program.to_owned(),
        image: Some(image(pod.component, pod.container, &pod.tag)),
        image_pull_policy: Some(
            pod.container
                .image_pull_policy
                .unwrap_or(ImagePullPolicy::Always)
                .as_str()
                .to_owned(),
        ),
        command: Some(vec![program.to_owned()]),
        args: Some(pod.args),
        env: pod.pod_name.then(|| {
            vec![EnvVar {
                name: "POD_NAME".to_owned(),
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        api_version: Some("v1".to_owned()),
                        field_path: "metadata.name".to_owned(),
                    }),
                    ..EnvVarSource::default()
                }),
                ..EnvVar::default()
            }]
        }),
        ports: Some(ports),
        resources: Some(resources(pod.container, pod.requests)),
        // As long as kubeadm gives it (24 times 10 s), but asked every second: what waits for it need not wait longer.
        startup_probe: Some(probe(pod.probes, pod.probes.startup, 0, 240, 1)),
        readiness_probe: Some(probe(pod.probes, pod.probes.readiness, 0, 3, 1)),
        liveness_probe: Some(probe(pod.probes, pod.probes.liveness, 10, 8, 10)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: (!pod.capabilities.is_empty())
                    .then(|| pod.capabilities.iter().map(|&name| name.to_owned()).collect()),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        // What a program said last stands in its pod's status then, where a rollout that stands still is told of it.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(inputs.names.labels(Some(pod.component))),
            annotations: Some(pod.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            containers: vec![container],
            enable_service_links: Some(false),
            priority_class_name: pod.priority_class,
            security_context: Some(PodSecurityContext {
                fs_group: Some(USER),
                run_as_group: Some(USER),
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            topology_spread_constraints: Some(vec![TopologySpreadConstraint {
                label_selector: Some(selector(inputs, pod.component)),
                match_label_keys: (!pod.spread_keys.is_empty())
                    .then(|| pod.spread_keys.iter().map(|&key| key.to_owned()).collect()),
                max_skew: 1,
                topology_key: "kubernetes.io/hostname".to_owned(),
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                ..TopologySpreadConstraint::default()
            }]),
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

/// The images of a control plane of a version, where its spec names no others.
pub fn images(version: &Version) -> [String; 4] {
    let image = |component, tag: &str| image(component, &ContainerSpec::default(), tag);
    let tag = version.image_tag();
    [
        image(Component::Etcd, version.etcd().tag),
        image(Component::ApiServer, &tag),
        image(Component::ControllerManager, &tag),
        image(Component::Scheduler, &tag),
    ]
}

fn image(component: Component, container: &ContainerSpec, tag: &str) -> String {
    let given = container.image.clone().unwrap_or_default();
    let registry = given.registry.unwrap_or_else(|| DEFAULT_REGISTRY.to_owned());
    let repository = given.repository.unwrap_or_else(|| component.program().to_owned());
    let tag = given.tag.unwrap_or_else(|| tag.to_owned());
    format!("{}/{repository}:{tag}", registry.trim_end_matches('/'))
}

fn resources(container: &ContainerSpec, requests: &[(&str, &str)]) -> ResourceRequirements {
    match &container.resources {
        Some(given) => quantity::canonical_resources(given),
        None => ResourceRequirements {
            requests: Some(
                requests
                    .iter()
                    .map(|&(name, value)| (name.to_owned(), Quantity(value.to_owned())))
                    .collect(),
            ),
            ..ResourceRequirements::default()
        },
    }
}

fn probe(probes: Probes, path: &str, delay: i32, failures: i32, period: i32) -> Probe {
    Probe {
        failure_threshold: Some(failures),
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PROBE_PORT.to_owned()),
            scheme: Some(probes.scheme.to_owned()),
            ..HTTPGetAction::default()
        }),
        initial_delay_seconds: (delay > 0).then_some(delay),
        period_seconds: Some(period),
        timeout_seconds: Some(15),
        ..Probe::default()
    }
}

fn projection(source: &Source) -> VolumeProjection {
    let items = |files: &[(&'static str, String)]| {
        files
            .iter()
            .map(|(key, path)| KeyToPath {
                key: (*key).to_owned(),
                path: path.clone(),
                mode: None,
            })
            .collect()
    };
    match source {
        Source::Secret(name, files) => VolumeProjection {
            secret: Some(SecretProjection {
                name: name.clone(),
                items: Some(items(files)),
                optional: None,
            }),
            ..VolumeProjection::default()
        },
        Source::ConfigMap(name, files) => VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: name.clone(),
                items: Some(items(files)),
                optional: None,
            }),
            ..VolumeProjection::default()
        },
    }
}

/// The annotations of a pod that runs this version, replaced for this `spec.rollout.after`.
pub fn annotations(version: &Version, rollout: Option<&str>) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(meta::VERSION_ANNOTATION.to_owned(), version.to_string())]);
    if let Some(rollout) = rollout {
        annotations.insert(meta::ROLLOUT_ANNOTATION.to_owned(), rollout.to_owned());
    }
    annotations
}
