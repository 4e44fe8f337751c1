//! The template that a `ClusterClass` names.
//!
//! It is not made immutable: Cluster API's topology controller tries changes by a server-side apply dry run, which a
//! CEL rule could not tell from a change (rules don't see annotations).

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HostedControlPlaneInlineSpec;
use crate::schema;

/// What control planes made from the template start with.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "controlplane.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "HostedControlPlaneTemplate",
    plural = "hostedcontrolplanetemplates",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "A template of HostedControlPlanes, named by a ClusterClass.",
    shortname = "hcpt",
    category = "cluster-api",
    label("cluster.x-k8s.io/provider", "control-plane-hosted-control-plane"),
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the object was made"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HostedControlPlaneTemplateSpec {
    /// The template.
    pub template: HostedControlPlaneTemplateResource,
}

/// The template of a `HostedControlPlane`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostedControlPlaneTemplateResource {
    /// Labels and annotations.
    #[schemars(schema_with = "schema::template_metadata")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// The spec, without version and replicas: those come from the Cluster's topology.
    pub spec: HostedControlPlaneInlineSpec,
}

/// Labels and annotations of a template.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
