//! The CRDs of this crate's types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, ValidationRule,
};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::hosted::MINOR_RULE;
use crate::{Cluster, HostedControlPlane, HostedControlPlaneTemplate, schema};

/// The CRDs of our own resources, in the order of their names: those that an installation brings.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut hosted = tidy(HostedControlPlane::crd());
    add_root_rules(&mut hosted);
    vec![hosted, tidy(HostedControlPlaneTemplate::crd())]
}

/// The CRD of Cluster API's `Cluster`, for API servers that have none. One that is there already is its owner's
/// and is never touched.
pub fn cluster_crd() -> CustomResourceDefinition {
    tidy(Cluster::crd())
}

/// The CRD as a document to print: keys are sorted, whole numbers have no fraction.
///
/// # Errors
///
/// None that is known: a CRD made by this crate is JSON. The type's serialization could fail for others.
pub fn manifest(crd: &CustomResourceDefinition) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    schema::whole_numbers(&mut value);
    Ok(value)
}

/// Rules that read spec and status together, which only the root of a schema can.
fn add_root_rules(crd: &mut CustomResourceDefinition) {
    let rules = [
        (
            "!has(self.spec.etcd) || !has(self.spec.etcd.volumeSize) || !has(self.status) || \
             !has(self.status.etcdVolumeSize) || quantity(string(self.spec.etcd.volumeSize))\
             .compareTo(quantity(string(self.status.etcdVolumeSize))) >= 0",
            "spec.etcd.volumeSize may not be less than the volumes' size in status.etcdVolumeSize",
        ),
        (
            MINOR_RULE,
            "spec.version may not go back to an earlier minor: Kubernetes can't be downgraded",
        ),
    ];
    for schema in schemas(crd) {
        let all = schema.x_kubernetes_validations.get_or_insert_default();
        all.extend(rules.map(|(rule, message)| ValidationRule {
            rule: rule.to_owned(),
            message: Some(message.to_owned()),
            ..ValidationRule::default()
        }));
    }
}

fn tidy(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for props in schemas(&mut crd) {
        // The derived schema came from JSON, so that the way back to JSON and again to the type can't fail; were it
        // to, the schema stays as derived, which is valid too.
        if let Ok(mut value) = serde_json::to_value(&*props) {
            schema::tidy(&mut value);
            if let Ok(tidied) = serde_json::from_value(value) {
                *props = tidied;
            }
        }
    }
    crd
}

fn schemas(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    crd.spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}
