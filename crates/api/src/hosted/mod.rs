//! `HostedControlPlane` and its template: a control plane whose parts run as pods of the management cluster.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their types")]

mod components;
mod etcd;
mod identity;
mod status;
mod template;

pub use components::{
    ApiServer, Audit, AuditAuthentication, AuditMode, AuditTarget, AuditWebhook, Container, Deployment,
    Image, ImagePullPolicy, KubeProxy, Mount, Pod, ScalablePod,
};
pub use etcd::{Backup, BackupSecret, Etcd};
pub use identity::{Certificates, ClaimMappings, ClaimValidationRule, OidcProvider};
pub use status::{HostedControlPlaneInitialization, HostedControlPlaneStatus, StatusVersion};
pub use template::{
    HostedControlPlaneTemplate, HostedControlPlaneTemplateResource, HostedControlPlaneTemplateSpec,
    TemplateMetadata,
};

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::ApiEndpoint;
use crate::schema;

/// How many API servers there are if `spec.replicas` is not given.
pub const DEFAULT_REPLICAS: i32 = 2;

// Parts of the CEL rules on the version. Each is cheap by the server's estimate, which knows of a string only that it
// has 256 characters at most; the first tells the others what they can take apart, since all rules are evaluated.

macro_rules! version {
    ($v:literal) => {
        concat!(
            $v,
            ".matches('^v?1[.][0-9]{1,4}[.][0-9]{1,4}(-(alpha|beta|rc)[.][0-9]{1,4})?([+].*)?$')"
        )
    };
}
macro_rules! minor {
    ($v:literal) => {
        concat!("int(", $v, ".split('.')[1])")
    };
}
macro_rules! patch {
    ($v:literal) => {
        concat!("int(", $v, ".split('.')[2].split('-')[0].split('+')[0])")
    };
}
macro_rules! pre {
    ($v:literal) => {
        concat!($v, ".matches('^v?1[.][0-9]{1,4}[.][0-9]{1,4}-')")
    };
}
macro_rules! stage {
    ($v:literal) => {
        concat!($v, ".split('-')[1].split('.')[0]")
    };
}
macro_rules! number {
    ($v:literal) => {
        concat!("int(", $v, ".split('-')[1].split('.')[1].split('+')[0])")
    };
}

/// No minor is gone back to, unless it is one that no API server runs yet: one of its releases that can't be run has to
/// be left for another, also when the next minor was asked for since.
pub(crate) const MINOR_RULE: &str = concat!(
    "!",
    version!("self.spec.version"),
    " || ",
    minor!("self.spec.version"),
    " >= ",
    minor!("oldSelf.spec.version"),
    " || (has(self.status) && has(self.status.version) && ",
    minor!("self.spec.version"),
    " > ",
    minor!("self.status.version"),
    ")",
);

/// What a hosted control plane is to be.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "controlplane.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "HostedControlPlane",
    plural = "hostedcontrolplanes",
    namespaced,
    status = "HostedControlPlaneStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Kubernetes control plane whose etcd, API servers, controller manager and scheduler run as pods of this cluster.",
    shortname = "hcp",
    category = "cluster-api",
    label("cluster.x-k8s.io/provider", "control-plane-hosted-control-plane"),
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Initialized",
        type_ = "boolean",
        json_path = ".status.initialization.controlPlaneInitialized",
        description = "The control plane has answered its first request"
    ),
    printcolumn(
        name = "API Server Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type == \"Ready\")].status",
        description = "All that the spec asks for is there and up to date"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "API servers wanted"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "API servers ready"
    ),
    printcolumn(
        name = "Updated",
        type_ = "integer",
        json_path = ".status.upToDateReplicas",
        description = "API servers of the wanted version and configuration"
    ),
    printcolumn(
        name = "ETCD Size",
        type_ = "string",
        json_path = ".status.etcdVolumeSize",
        description = "Size of each etcd member's volume"
    ),
    printcolumn(
        name = "Max ETCD Space Usage",
        type_ = "string",
        json_path = ".status.etcdVolumeUsage",
        description = "The fullest etcd volume's use"
    ),
    printcolumn(
        name = "Paused",
        type_ = "string",
        json_path = ".metadata.annotations['cluster\\.x-k8s\\.io/paused']",
        description = "Reconciliation is stopped"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".spec.version",
        description = "Kubernetes version wanted"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the object was made"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HostedControlPlaneSpec {
    /// The Kubernetes version, v1.33 to v1.36, such as `v1.36.3`. It may go up by one minor at a time, and
    /// back to another release of the same minor.
    #[schemars(
        length(min = 1, max = 256),
        extend("x-kubernetes-validations" = [
            {
                "rule": "self.matches('^v?1[.](33|34|35|36)[.](0|[1-9][0-9]{0,2})(-(alpha|beta|rc)[.](0|[1-9][0-9]{0,2}))?([+][0-9A-Za-z.-]+)?$')",
                "message": "version must be a Kubernetes release from v1.33 to v1.36, such as v1.36.3",
            },
            {
                "rule": concat!(
                    "!", version!("self"), " || !", pre!("self"), " || ", minor!("self"), " != ", minor!("oldSelf"), " || ",
                    patch!("self"), " > ", patch!("oldSelf"), " || (", patch!("self"), " == ", patch!("oldSelf"), " && ",
                    pre!("oldSelf"), " && (", stage!("self"), " > ", stage!("oldSelf"), " || (",
                    stage!("self"), " == ", stage!("oldSelf"), " && ", number!("self"), " >= ", number!("oldSelf"), ")))",
                ),
                "message": "version may not go back to a pre-release",
            },
            {
                "rule": concat!("!", version!("self"), " || ", minor!("self"), " <= ", minor!("oldSelf"), " + 1"),
                "message": "version may not skip a minor: change to the next minor first",
            },
        ])
    )]
    pub version: String,
    /// How many API servers there are; 2 if not given.
    #[schemars(range(min = 1), extend("default" = 2))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Where the API server is reached. Filled by the controller once it is known, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<ApiEndpoint>,
    /// When pods are replaced though nothing else has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What a template can hold too.
    #[serde(flatten)]
    pub inline: HostedControlPlaneInlineSpec,
}

impl HostedControlPlaneSpec {
    /// How many API servers are wanted.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(DEFAULT_REPLICAS)
    }
}

/// When pods are replaced though nothing else has changed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("minProperties" = 1))]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Pods that are older than this are replaced once this time has come.
    #[schemars(schema_with = "schema::time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Time>,
}

/// The part of the spec that a template holds too: all but the version and the number of replicas.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostedControlPlaneInlineSpec {
    /// The Gateway that exposes the API server, with a `protocol: TLS` listener whose hostname starts with `*.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayReference>,
    /// The components that run in the management cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
    /// The konnectivity agents in the hosted cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub konnectivity_client: Option<ScalablePod>,
    /// `CoreDNS` in the hosted cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coredns: Option<ScalablePod>,
    /// kube-proxy in the hosted cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<KubeProxy>,
    /// The etcd cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    /// Providers of identities, by issuer URL.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = [{
        "rule": "!('https://kubernetes.default.svc.cluster.local' in self)",
        "message": "the issuer https://kubernetes.default.svc.cluster.local is reserved for the management cluster",
    }]))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub oidc_providers: BTreeMap<String, OidcProvider>,
    /// How long certificates of authorities are valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
}

/// A Gateway (gateway.networking.k8s.io).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReference {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway's name.
    pub name: String,
}
