//! What single kinds ask beyond defaults: admission, allocation, validation. The order of the checks in a kind's
//! module is the real server's, because several errors are told in that order.

mod admission;
mod check;
mod claims;
mod configuration;
mod containers;
mod disruption;
mod endpoint_slices;
mod events;
mod job_status;
mod jobs;
mod labels;
mod leases;
mod namespaces;
mod persistent_volumes;
mod pod_changes;
mod pod_spec;
mod pod_status;
mod pods;
mod probes;
mod resources;
mod roles;
mod scheduling;
mod secrets;
mod service_spec;
mod services;
mod volumes;
mod warnings;
mod workloads;

#[cfg(test)]
mod tests;

use crate::field::FieldErrors;
use crate::resource::Surroundings;
use crate::status::ApiResult;
use serde_json::Value;

/// A kind's own rules; see [`crate::resource::Strategy`] for what each is.
pub(super) trait Rules: Send + Sync {
    fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        sub: &str,
        around: &dyn Surroundings,
    ) -> ApiResult<()> {
        let _ = (object, old, sub, around);
        Ok(())
    }

    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        let _ = (object, around);
    }

    fn validate_create(&self, object: &Value, around: &dyn Surroundings) -> FieldErrors {
        let _ = (object, around);
        FieldErrors::new()
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, sub: &str, around: &dyn Surroundings) {
        let _ = (object, old, sub, around);
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        sub: &str,
        around: &dyn Surroundings,
    ) -> FieldErrors {
        let _ = (object, old, sub, around);
        FieldErrors::new()
    }

    /// Whether a change that is not of the spec raises the generation too.
    fn raises_generation(&self, object: &Value, old: &Value, sub: &str) -> bool {
        let _ = (object, old, sub);
        false
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, sub: &str) -> Vec<String> {
        let _ = (object, old, sub);
        Vec::new()
    }

    fn stored_as(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    fn convert(&self, object: &mut Value, from: &str) {
        let _ = (object, from);
    }

    fn grace_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let _ = (object, asked);
        None
    }

    fn released(&self, object: &Value) {
        let _ = object;
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let _ = object;
        Vec::new()
    }
}

/// The rules of a kind.
pub(super) fn of(group: &str, plural: &str) -> Box<dyn Rules> {
    match (group, plural) {
        ("", "pods") => Box::new(pods::Pods),
        ("", "services") => Box::new(services::Services::default()),
        ("", "namespaces") => Box::new(namespaces::Namespaces),
        ("", "configmaps") => Box::new(configuration::ConfigMaps),
        ("", "secrets") => Box::new(secrets::Secrets),
        ("", "persistentvolumeclaims") => Box::new(claims::Claims),
        ("", "persistentvolumes") => Box::new(persistent_volumes::Volumes),
        ("", "events") => Box::new(events::Events { newer: false }),
        ("events.k8s.io", "events") => Box::new(events::Events { newer: true }),
        ("apps", "deployments") => Box::new(workloads::Deployments),
        ("apps", "replicasets") => Box::new(workloads::ReplicaSets),
        ("apps", "statefulsets") => Box::new(workloads::StatefulSets),
        ("rbac.authorization.k8s.io", "roles") => Box::new(roles::Roles { namespaced: true }),
        ("rbac.authorization.k8s.io", "clusterroles") => Box::new(roles::Roles { namespaced: false }),
        ("rbac.authorization.k8s.io", "rolebindings") => Box::new(roles::Bindings { namespaced: true }),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => {
            Box::new(roles::Bindings { namespaced: false })
        }
        ("batch", "jobs") => Box::new(jobs::Jobs),
        ("policy", "poddisruptionbudgets") => Box::new(disruption::Budgets),
        ("discovery.k8s.io", "endpointslices") => Box::new(endpoint_slices::EndpointSlices),
        ("coordination.k8s.io", "leases") => Box::new(leases::Leases),
        _ => Box::new(Plain(fields_of(group, plural))),
    }
}

/// A kind without rules of its own, with the paths that field selectors may name.
struct Plain(&'static [&'static str]);

impl Rules for Plain {
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        self.0.iter().map(|path| (*path, at(object, path))).collect()
    }
}

fn fields_of(group: &str, plural: &str) -> &'static [&'static str] {
    match (group, plural) {
        ("", "nodes") => &["spec.unschedulable"],
        ("", "replicationcontrollers") => &["status.replicas"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        ("resource.k8s.io", "resourceslices") => &["spec.driver", "spec.nodeName"],
        _ => &[],
    }
}

/// The value at a path, as field selectors compare it.
fn at(object: &Value, path: &str) -> String {
    let mut value = object;
    for name in path.split('.') {
        // The only field whose name in selectors is not its own.
        let name = if path == "status.successful" && name == "successful" {
            "succeeded"
        } else {
            name
        };
        value = &value[name];
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Null if path == "spec.unschedulable" => "false".to_owned(),
        Value::Null if ["status.replicas", "status.successful"].contains(&path) => "0".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
