//! The lifecycle of namespaces: those that are there from the start, what may be made in which, and how one ends.

use crate::metadata::rules;
use crate::registry::Served;
use crate::resource::Resource;
use crate::server::Inner;
use crate::status::{ApiError, ApiResult};
use crate::store::{Unwritten, encode};
use clusterwright_clock::Clock;
use serde_json::{Value, json};
use std::sync::Arc;

const INITIAL: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

fn served(inner: &Inner) -> Option<Arc<Served>> {
    inner.registry.table().find("", "v1", "namespaces").cloned()
}

/// Whether these are the namespaces themselves.
pub(crate) fn is_namespace(resource: &Resource) -> bool {
    resource.group.is_empty() && &*resource.plural == "namespaces"
}

/// Makes the namespaces that every cluster starts with.
pub(crate) fn create_initial(inner: &Inner) -> Result<(), Unwritten> {
    let Some(served) = served(inner) else {
        return Ok(());
    };
    for name in INITIAL {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": inner.clock.now_seconds().to_string(),
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        // One that an earlier server left stays.
        let _ = served.shelf.put(name, None, &encode(&namespace, served.form))?;
    }
    Ok(())
}

/// Refuses objects for namespaces that are missing or on their way out.
pub(crate) fn admit_create(
    inner: &Inner,
    resource: &Resource,
    namespace: &str,
    object: &Value,
) -> ApiResult<()> {
    if !resource.namespaced || namespace.is_empty() {
        return Ok(());
    }
    let Some(served) = served(inner) else {
        return Ok(());
    };
    let Some(entry) = served.shelf.get(namespace) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if !entry.contains("\"Terminating\"") {
        return Ok(());
    }
    let found = entry.value();
    if found["status"]["phase"] != "Terminating" {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(
        &resource.group,
        &resource.plural,
        rules::text(object, "name"),
        &why,
    );
    error.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    Err(error)
}

/// Refuses the deletion of namespaces that no cluster can do without.
pub(crate) fn admit_delete(resource: &Resource, name: &str) -> ApiResult<()> {
    if is_namespace(resource) && IMMORTAL.contains(&name) {
        return Err(ApiError::forbidden(
            "",
            "namespaces",
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

/// The namespace marked for its end; none where it was already.
pub(crate) fn terminate(live: &Value, clock: Clock) -> Option<Value> {
    if rules::is_deleting(live) {
        return None;
    }
    let mut namespace = live.clone();
    rules::set(
        &mut namespace,
        "deletionTimestamp",
        json!(clock.now_seconds().to_string()),
    );
    if !namespace["status"].is_object() {
        namespace["status"] = json!({});
    }
    namespace["status"]["phase"] = json!("Terminating");
    Some(namespace)
}

/// Whether nothing holds a namespace any more.
pub(crate) fn is_finalized(namespace: &Value) -> bool {
    namespace["spec"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty)
}
