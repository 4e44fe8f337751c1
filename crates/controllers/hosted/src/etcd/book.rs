//! What each member of etcd may do when it starts: a `ConfigMap` that its pod reads.
//!
//! The names and addresses of all members are no part of the pod template, so that a change of the membership restarts
//! no other member. And no member starts on an empty folder unless it is new: one that lost its data and came back
//! under its old identity would break promises that it made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapKeySelector, EnvVar, EnvVarSource};
use serde::{Deserialize, Serialize};

use super::peer_url;
use crate::inputs::Inputs;
use crate::names::Component;

/// The variable in which a pod's first container finds the members.
pub const MEMBERS_VARIABLE: &str = "ETCD_MEMBERS";

const MEMBERS: &str = "members";
const INITIAL_CLUSTER: &str = "initial-cluster";
const INITIAL_CLUSTER_STATE: &str = "initial-cluster-state";

/// How a member stands, and so what it may do when it starts.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Standing {
    /// It is one of the first: it may start on an empty folder, and make the cluster with the others.
    Bootstrap,
    /// It was added to the running cluster with this id: it may start on an empty folder once.
    Joining {
        /// The id that etcd gave it, in hexadecimal.
        id: String,
    },
    /// It has been started: its data has to be there.
    Member,
}

impl Standing {
    /// That of a member that was added with this id.
    pub fn joining(id: u64) -> Self {
        Self::Joining {
            id: format!("{id:x}"),
        }
    }
}

/// The members, by their pods' names.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Book(pub BTreeMap<String, Standing>);

impl Book {
    /// All at the same standing.
    pub fn all(names: impl IntoIterator<Item = String>, standing: &Standing) -> Self {
        Self(names.into_iter().map(|name| (name, standing.clone())).collect())
    }

    /// Reads the `ConfigMap`; `None` if it says nothing of use.
    pub fn read(map: &ConfigMap) -> Option<Self> {
        let text = map.data.as_ref()?.get(MEMBERS)?;
        let book: Self = serde_json::from_str(text).ok()?;
        (!book.0.is_empty()).then_some(book)
    }

    /// The `ConfigMap`.
    pub fn write(&self, inputs: &Inputs) -> ConfigMap {
        let cluster: Vec<String> = self
            .0
            .keys()
            .map(|name| format!("{name}={}", peer_url(inputs, name)))
            .collect();
        let state = if self.is_bootstrapping() {
            "new"
        } else {
            "existing"
        };
        let members = serde_json::to_string(self).unwrap_or_default();
        ConfigMap {
            metadata: inputs.metadata(inputs.names.workload(Component::Etcd), Some(Component::Etcd)),
            data: Some(
                [
                    (MEMBERS.to_owned(), members),
                    (INITIAL_CLUSTER.to_owned(), cluster.join(",")),
                    (INITIAL_CLUSTER_STATE.to_owned(), state.to_owned()),
                ]
                .into(),
            ),
            ..ConfigMap::default()
        }
    }

    /// Whether some of the first members have not been started yet.
    pub fn is_bootstrapping(&self) -> bool {
        self.0.values().any(|standing| *standing == Standing::Bootstrap)
    }

    /// Whether these are the members, and all have been started.
    pub fn is_settled(&self, wanted: &[String]) -> bool {
        self.0.keys().eq(wanted) && self.0.values().all(|standing| *standing == Standing::Member)
    }

    /// Notes that a member of the first ones works, and so has data.
    pub fn started(&mut self, name: &str) {
        if let Some(standing) = self.0.get_mut(name)
            && *standing == Standing::Bootstrap
        {
            *standing = Standing::Member;
        }
    }

    /// So many pods hold all members.
    pub fn replicas(&self) -> i32 {
        let ordinals = self.0.keys().filter_map(|name| ordinal(name));
        ordinals.max().unwrap_or(0) + 1
    }
}

/// The number of a pod in its set.
pub fn ordinal(name: &str) -> Option<i32> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// The variables by which etcd gets its flags.
pub(super) fn variables(inputs: &Inputs) -> Vec<EnvVar> {
    vec![
        variable(inputs, "ETCD_INITIAL_CLUSTER", INITIAL_CLUSTER),
        variable(inputs, "ETCD_INITIAL_CLUSTER_STATE", INITIAL_CLUSTER_STATE),
    ]
}

/// The variable that says how members stand.
pub(super) fn members_variable(inputs: &Inputs) -> EnvVar {
    variable(inputs, MEMBERS_VARIABLE, MEMBERS)
}

fn variable(inputs: &Inputs, name: &str, key: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector {
                name: inputs.names.workload(Component::Etcd),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}
