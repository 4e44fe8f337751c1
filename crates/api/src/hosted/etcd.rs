//! The etcd cluster of a hosted control plane.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::components::Container;
use crate::schema;

/// The etcd cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.volumeSize) || (has(self.autoGrow) && !self.autoGrow)",
        "message": "volumeSize may only be given with autoGrow: false; with autoGrow the controller chooses the size",
    },
    {
        "rule": "!has(self.autoGrow) || self.autoGrow || has(self.volumeSize)",
        "message": "volumeSize is required with autoGrow: false",
    },
    {
        "rule": "!has(self.volumeSize) || !has(oldSelf.volumeSize) || quantity(string(self.volumeSize)).compareTo(quantity(string(oldSelf.volumeSize))) >= 0",
        "message": "volumeSize may not decrease: volumes can't shrink",
    },
]))]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    /// The container of each member.
    #[serde(flatten)]
    pub container: Container,
    /// How many members there are: 1 or 3; 3 if not given. Three go on when one is lost.
    #[schemars(extend("enum" = [1, 3]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The size of each member's volume, with `autoGrow: false` only.
    #[schemars(schema_with = "schema::quantity")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<Quantity>,
    /// Lets the controller choose the size, 1Gi at first, and enlarge volumes that fill up; true if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_grow: Option<bool>,
    /// The priority class of the members' pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Regular snapshots to an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// Regular snapshots to an object store that speaks S3.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// When: five fields of cron, each `*` or one number, or `@daily`.
    #[schemars(regex(pattern = r"^(@daily|((\*|[0-9]+) ){4}(\*|[0-9]+))$"))]
    pub schedule: String,
    /// Where to, and with which credentials.
    pub secret: BackupSecret,
}

/// A Secret that says where snapshots go, and with which credentials.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupSecret {
    /// The Secret's name.
    pub name: String,
    /// The Secret's namespace; the control plane's own if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The key of the access key's id; `accessKeyID` if not given.
    #[serde(rename = "accessKeyIDKey", skip_serializing_if = "Option::is_none")]
    pub access_key_id_key: Option<String>,
    /// The key of the secret access key; `secretAccessKey` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key_key: Option<String>,
    /// The key of the store's host and port; `host` if not given. The host itself is optional.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// The key of the region; `region` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region_key: Option<String>,
    /// The key of `bucket[/prefix]`; `bucket` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_key: Option<String>,
}
