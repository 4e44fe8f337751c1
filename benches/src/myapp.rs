//! The custom resource that the benchmarks store: 1.4 KB of JSON as an API server sends it, 0.55 KB without what no
//! controller reads.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An application, as tutorials have it.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "MyApp",
    namespaced,
    status = "MyAppStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct MyAppSpec {
    pub image: String,
    pub replicas: i32,
    pub port: u16,
    pub secret_ref: String,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MyAppStatus {
    pub observed_generation: i64,
    pub ready_replicas: i32,
    pub phase: String,
}

/// The name of the application of that number.
pub fn name(number: usize) -> String {
    format!("app-{number:05}")
}

/// The application of that number as a server shows it at `version`.
pub fn stored(number: usize, version: u64) -> Value {
    let name = name(number);
    let time = "2026-01-01T00:00:00Z";
    json!({
        "apiVersion": "example.com/v1",
        "kind": "MyApp",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": format!("5d5a1c2e-0000-4000-8000-{number:012}"),
            "resourceVersion": version.to_string(),
            "generation": 1,
            "creationTimestamp": time,
            "labels": { "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "bench" },
            "annotations": { "example.com/team": "platform" },
            "managedFields": [
                {
                    "manager": "kubectl", "operation": "Apply", "apiVersion": "example.com/v1", "time": time,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:metadata": {
                            "f:annotations": { "f:example.com/team": {} },
                            "f:labels": { "f:app.kubernetes.io/managed-by": {}, "f:app.kubernetes.io/name": {} },
                        },
                        "f:spec": { "f:image": {}, "f:port": {}, "f:replicas": {}, "f:secretRef": {} },
                    },
                },
                {
                    "manager": "myapp-controller", "operation": "Apply", "apiVersion": "example.com/v1",
                    "time": time, "subresource": "status", "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:status": { "f:observedGeneration": {}, "f:phase": {}, "f:readyReplicas": {} },
                    },
                },
            ],
        },
        "spec": {
            "image": format!("registry.example.com/team/{name}:1.2.3"),
            "replicas": 3,
            "port": 8080,
            "secretRef": format!("{name}-credentials"),
        },
        "status": { "observedGeneration": 1, "readyReplicas": 3, "phase": "Running" },
    })
}
