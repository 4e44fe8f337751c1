//! The strategy of every built-in kind: what they share, with a kind's own rules in [`Rules`].

use super::defaults;
use super::rules::{self, Rules};
use crate::field::FieldErrors;
use crate::resource::{NameRule, Strategy, Surroundings};
use crate::schema::SchemaRef;
use crate::status::ApiResult;
use serde_json::{Value, json};
use std::sync::Arc;

/// Kinds that start at generation 1 and count changes of anything but metadata and status.
const COUNTED: [&str; 25] = [
    "cronjobs",
    "daemonsets",
    "deployments",
    "deviceclasses",
    "endpointslices",
    "flowschemas",
    "ingressclasses",
    "ingresses",
    "jobs",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "networkpolicies",
    "poddisruptionbudgets",
    "pods",
    "podtemplates",
    "priorityclasses",
    "prioritylevelconfigurations",
    "replicasets",
    "replicationcontrollers",
    "resourceslices",
    "statefulsets",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];
/// Kinds whose update must name the version that it changes.
const CONDITIONAL: [&str; 14] = [
    "apiservices",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "leases",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "poddisruptionbudgets",
    "runtimeclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
];
/// Kinds that a PUT may create.
const CREATED_BY_UPDATE: [&str; 10] = [
    "clusterrolebindings",
    "clusterroles",
    "endpoints",
    "events",
    "leases",
    "limitranges",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "services",
];
/// Kinds whose deletion is answered with the object.
const RETURNED: [&str; 16] = [
    "csidrivers",
    "csinodes",
    "deviceclasses",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcequotas",
    "resourceslices",
    "serviceaccounts",
    "services",
    "storageclasses",
    "volumeattachments",
];

/// A built-in kind's strategy.
pub(super) struct BuiltIn {
    schema: SchemaRef,
    plural: Arc<str>,
    has_status: bool,
    rules: Box<dyn Rules>,
}

impl BuiltIn {
    pub(super) fn new(schema: SchemaRef, group: &str, plural: &str, has_status: bool) -> Self {
        Self {
            schema,
            plural: plural.into(),
            has_status,
            rules: rules::of(group, plural),
        }
    }

    fn is_one_of(&self, plurals: &[&str]) -> bool {
        plurals.contains(&&*self.plural)
    }
}

/// Puts the old value of a field back.
fn restore(object: &mut Value, old: &Value, field: &str) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match old.get(field) {
        Some(value) => {
            map.insert(field.to_owned(), value.clone());
        }
        None => {
            map.remove(field);
        }
    }
}

/// Whether two versions of an object differ in anything but metadata and status.
fn differs(object: &Value, old: &Value) -> bool {
    let parts = |value: &Value| -> Vec<(String, Value)> {
        let fields = value.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    parts(object) != parts(old)
}

impl Strategy for BuiltIn {
    fn default(&self, object: &mut Value) {
        defaults::apply(&self.schema, object);
    }

    fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        subresource: &str,
        around: &dyn Surroundings,
    ) -> ApiResult<()> {
        self.rules.admit(object, old, subresource, around)?;
        defaults::apply(&self.schema, object);
        Ok(())
    }

    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        // Nodes register themselves with their status.
        if self.has_status
            && &*self.plural != "nodes"
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        self.rules.prepare_create(object, around);
        defaults::apply(&self.schema, object);
    }

    fn validate_create(&self, object: &Value, around: &dyn Surroundings) -> FieldErrors {
        self.rules.validate_create(object, around)
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, subresource: &str, around: &dyn Surroundings) {
        match subresource {
            "" if self.has_status => restore(object, old, "status"),
            "status" => {
                let names: Vec<String> = old
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in names {
                    if name != "status" && name != "metadata" {
                        restore(object, old, &name);
                    }
                }
            }
            _ => {}
        }
        self.rules.prepare_update(object, old, subresource, around);
        defaults::apply(&self.schema, object);
        if self.has_generation() {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            let raised = differs(object, old) || self.rules.raises_generation(object, old, subresource);
            object["metadata"]["generation"] = json!(generation + i64::from(raised));
        }
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        subresource: &str,
        around: &dyn Surroundings,
    ) -> FieldErrors {
        self.rules.validate_update(object, old, subresource, around)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
        if &*self.plural == "endpoints" {
            return vec![
                "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned(),
            ];
        }
        self.rules.warnings(object, old, subresource)
    }

    fn name_rule(&self) -> NameRule {
        match &*self.plural {
            "namespaces" | "services" | "statefulsets" => NameRule::Label1123,
            "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings" => NameRule::PathSegment,
            _ => NameRule::Subdomain,
        }
    }

    fn stored_as(&self) -> Option<(&'static str, &'static str)> {
        self.rules.stored_as()
    }

    fn convert(&self, object: &mut Value, from: &str) {
        self.rules.convert(object, from);
    }

    fn has_generation(&self) -> bool {
        self.is_one_of(&COUNTED)
    }

    fn allows_unconditional_update(&self) -> bool {
        !self.is_one_of(&CONDITIONAL)
    }

    fn allows_create_on_update(&self) -> bool {
        self.is_one_of(&CREATED_BY_UPDATE)
    }

    fn default_grace_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        self.rules.grace_seconds(object, asked)
    }

    fn returns_deleted_object(&self) -> bool {
        self.is_one_of(&RETURNED)
    }

    fn released(&self, object: &Value) {
        self.rules.released(object);
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        self.rules.selectable_fields(object)
    }
}
