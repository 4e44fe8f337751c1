//! What is seen of a hosted control plane. All of it can be made anew from the objects under it.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What is seen of a hosted control plane.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostedControlPlaneStatus {
    /// The latest observations, one per type.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How far the first start has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization: Option<HostedControlPlaneInitialization>,
    /// The generation of the spec that this status was made from.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The versions that API servers run, older ones first.
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<StatusVersion>,
    /// The oldest version that an API server runs.
    #[schemars(length(min = 1, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The label selector of the API servers' pods, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// API servers there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// API servers that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// API servers that are available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// API servers of the wanted version and configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_date_replicas: Option<i32>,
    /// The control plane does not run on nodes of its own cluster: always true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_managed_control_plane: Option<bool>,
    /// The control plane has been ready once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The load balancer's IP address.
    #[serde(rename = "legacyIP", skip_serializing_if = "Option::is_none")]
    pub legacy_ip: Option<String>,
    /// The size of each etcd member's volume.
    #[schemars(schema_with = "schema::quantity")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_volume_size: Option<Quantity>,
    /// The fullest etcd volume's use.
    #[schemars(schema_with = "schema::quantity")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_volume_usage: Option<Quantity>,
    /// When the last backup was made.
    #[schemars(schema_with = "schema::time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_last_backup_time: Option<Time>,
    /// When the next backup is due.
    #[schemars(schema_with = "schema::time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_next_backup_time: Option<Time>,
    /// When etcd was last defragmented.
    #[schemars(schema_with = "schema::time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_last_defrag_time: Option<Time>,
    /// When a defragmentation was last tried.
    #[schemars(schema_with = "schema::time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_last_attempted_defrag_time: Option<Time>,
}

/// How far the first start has come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("minProperties" = 1))]
#[serde(rename_all = "camelCase")]
pub struct HostedControlPlaneInitialization {
    /// The control plane has been able to answer requests once. It stays true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_initialized: Option<bool>,
}

/// A Kubernetes version and how many replicas run it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusVersion {
    /// The version, such as `v1.36.3`.
    #[schemars(length(min = 1, max = 256))]
    pub version: String,
    /// How many replicas run it.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}
