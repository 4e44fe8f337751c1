//! The programs that run in pods: API server, controller manager, scheduler. Pure: inputs in, objects out.
//!
//! Flags, probes and requests are those that kubeadm gives its static pods (`cmd/kubeadm/app/phases/controlplane` of
//! 1.33 to 1.36, which agree but for the names of ports), changed only where a pod behind a Service differs from one
//! on the host's network.

mod api_server;
mod args;
mod controller_manager;
mod kubeconfig;
mod pod;
mod scheduler;

pub use api_server::{API_SERVER_PORT, api_server};
pub use args::{Args, Flags};
pub use controller_manager::controller_manager;
pub use kubeconfig::{admin_kubeconfig, component_kubeconfig, server_url, user_kubeconfig};
pub use pod::{
    PKI_DIR, PodSpecification, Probes, Source, annotations, disruption_budget, images, selector, template,
};
pub use scheduler::scheduler;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::Leaf;
use crate::version::Version;

/// What changes from pass to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The version to run now.
    pub version: Version,
    /// The `spec.rollout.after` that has come, if one has.
    pub rollout: Option<String>,
}

/// A component as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The Deployment.
    pub deployment: Deployment,
    /// The `ConfigMap` with its kubeconfig, if it has one.
    pub kubeconfig: Option<ConfigMap>,
    /// The disruption budget; none where there is one replica only, which a budget would keep from ever moving.
    pub budget: Option<PodDisruptionBudget>,
    /// Arguments of the spec that the controller's own take precedence over.
    pub overridden: Vec<String>,
}

/// A Deployment that replaces pods one by one and never has fewer than wanted.
fn deployment(inputs: &Inputs, component: Component, replicas: i32, template: PodTemplateSpec) -> Deployment {
    Deployment {
        metadata: inputs.metadata(inputs.names.workload(component), Some(component)),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: selector(inputs, component),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A budget where there is more than one replica.
fn budget(inputs: &Inputs, component: Component, replicas: i32) -> Option<PodDisruptionBudget> {
    (replicas > 1).then(|| disruption_budget(inputs, component, Some(1), None))
}

/// A leaf's certificate and key as files.
fn leaf_files(inputs: &Inputs, leaf: Leaf) -> Source {
    let name = leaf.name();
    Source::Secret(
        inputs.names.leaf_secret(name),
        vec![
            ("tls.crt", format!("{name}.crt")),
            ("tls.key", format!("{name}.key")),
        ],
    )
}

/// The path of a file in the folder of certificates and keys.
fn pki(file: &str) -> String {
    format!("{PKI_DIR}/{file}")
}
