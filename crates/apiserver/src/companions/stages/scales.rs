//! Scales of whatever controls a pod, asked for when a disruption budget counts on them.

use super::world::{number, text};
use crate::companions::access;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::{Client, Error};
use serde_json::Value;
use std::collections::HashMap;

/// Which object, as an owner reference names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Owner {
    /// The owner that a reference in this namespace is to.
    pub(super) fn of(reference: &Value, namespace: &str) -> Self {
        Self {
            api_version: text(reference, "/apiVersion").to_owned(),
            kind: text(reference, "/kind").to_owned(),
            namespace: namespace.to_owned(),
            name: text(reference, "/name").to_owned(),
        }
    }
}

/// The uid and the replicas of an owner; none where it is not there, or why it can have no scale.
pub(super) type Scale = Result<Option<(String, i64)>, String>;
pub(super) type Scales = HashMap<Owner, Scale>;

/// Asks for the scale of an owner.
pub(super) async fn ask(client: &Client, owner: &Owner) -> Scale {
    let (group, version) = owner
        .api_version
        .split_once('/')
        .unwrap_or(("", &owner.api_version));
    let served = if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(&owner.api_version).await
    };
    let served = match served {
        Ok(served) => served.resources,
        Err(error) if access::code(&error) == 404 => Vec::new(),
        Err(error) => return Err(error.to_string()),
    };
    let is_kind = |resource: &&APIResource| resource.kind == owner.kind && !resource.name.contains('/');
    let Some(resource) = served.iter().find(is_kind) else {
        return Err(format!(
            "no matches for kind {:?} in version {:?}",
            owner.kind, owner.api_version
        ));
    };
    let scale = format!("{}/scale", resource.name);
    if !served.iter().any(|other| other.name == scale) {
        let qualified = if group.is_empty() {
            resource.name.clone()
        } else {
            format!("{}.{group}", resource.name)
        };
        return Err(format!("{qualified} does not implement the scale subresource"));
    }
    let root = if group.is_empty() { "api" } else { "apis" };
    let path = format!(
        "/{root}/{}/namespaces/{}/{}/{}/scale",
        owner.api_version, owner.namespace, resource.name, owner.name
    );
    let found = async {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        client.request::<Value>(request).await
    };
    match found.await {
        Ok(scale) => Ok(Some((
            text(&scale, "/metadata/uid").to_owned(),
            number(&scale, "/spec/replicas").unwrap_or_default(),
        ))),
        Err(error) if access::code(&error) == 404 => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
