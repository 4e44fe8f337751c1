//! The parts of a hosted control plane that run in pods, and what may be set on each.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, ResourceRequirements, SecretVolumeSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schema;

/// Where an image comes from. What is left out keeps its default: `registry.k8s.io`, the component's own name,
/// the version of the control plane.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The registry, such as `registry.k8s.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The repository in the registry, such as `kube-apiserver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The tag, such as `v1.36.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum ImagePullPolicy {
    /// At each start of a container.
    #[default]
    Always,
    /// Only if it is not on the node.
    IfNotPresent,
    /// Never: it has to be there.
    Never,
}

impl ImagePullPolicy {
    /// The word that a pod holds.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What may be set on every container.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The image to run instead of the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// When to pull the image; Always if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Command line flags by name, without the leading dashes. A flag that the controller sets itself keeps the
    /// controller's value; an Event says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Requests and limits.
    #[schemars(schema_with = "schema::resources")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// What may be set on every pod.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// The pod's main container.
    #[serde(flatten)]
    pub container: Container,
    /// The priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// A pod whose number can be set.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalablePod {
    /// The pod.
    #[serde(flatten)]
    pub pod: Pod,
    /// How many there are; 1 if not given.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// kube-proxy in the hosted cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeProxy {
    /// The pod.
    #[serde(flatten)]
    pub pod: Pod,
    /// Leaves kube-proxy out, for networks that bring their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// The components that run beside each other in the management cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The API servers; their number is `spec.replicas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServer>,
    /// The controller managers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<ScalablePod>,
    /// The schedulers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<ScalablePod>,
}

/// The API servers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// The pod.
    #[serde(flatten)]
    pub pod: Pod,
    /// `ConfigMap`s and Secrets of the control plane's namespace to mount, by a name for the volume.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mounts: BTreeMap<String, Mount>,
    /// The konnectivity server beside each API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub konnectivity: Option<Container>,
    /// The audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
}

/// Files for the API servers, read-only.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("minProperties" = 2, "maxProperties" = 2))]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The folder in the container.
    pub path: String,
    /// The `ConfigMap` whose keys become files.
    #[schemars(schema_with = "schema::config_map_volume")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolumeSource>,
    /// The Secret whose keys become files.
    #[schemars(schema_with = "schema::secret_volume")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolumeSource>,
}

/// What the API servers record of their requests, and where to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// An audit.k8s.io/v1 Policy.
    #[schemars(schema_with = "schema::any_object")]
    pub policy: Map<String, Value>,
    /// How entries are delivered; batch if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<AuditMode>,
    /// Where entries are sent; the containers' output if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<AuditWebhook>,
}

/// How audit entries are delivered.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditMode {
    /// Buffered, sent later.
    #[default]
    Batch,
    /// Each response waits for its entry.
    Blocking,
    /// As blocking, and a request fails when its entry can't be delivered.
    BlockingStrict,
}

/// Where audit entries are sent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditWebhook {
    /// The container that sends to several targets.
    #[serde(flatten)]
    pub container: Container,
    /// The receivers; each gets every entry.
    #[schemars(length(min = 1))]
    pub targets: Vec<AuditTarget>,
}

/// A receiver of audit entries.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditTarget {
    /// The URL.
    pub server: String,
    /// The token to send with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<AuditAuthentication>,
}

/// A bearer token in a Secret.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditAuthentication {
    /// The Secret's name.
    pub secret_name: String,
    /// The Secret's namespace; the control plane's own if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_namespace: Option<String>,
    /// The key in the Secret; `token` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_key: Option<String>,
}
