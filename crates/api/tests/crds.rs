//! What the printed CRDs look like, and that the types read what users write.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use clusterwright_api::conditions::{ClusterCondition, HostedControlPlaneCondition};
use clusterwright_api::reasons::Reason;
use clusterwright_api::{Cluster, HostedControlPlane, cluster_crd, crds, manifest};
use serde_json::{Value, json};

fn yaml(
    crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
) -> String {
    serde_saphyr::to_string(&manifest(crd).unwrap()).unwrap()
}

#[test]
fn printed_crds() {
    for crd in crds() {
        insta::assert_snapshot!(crd.metadata.name.clone().unwrap(), yaml(&crd));
    }
    let cluster = cluster_crd();
    insta::assert_snapshot!(cluster.metadata.name.clone().unwrap(), yaml(&cluster));
}

/// Every path of the provider's spec whose manifests have to go on working, and those of the contract.
#[test]
fn every_field_of_the_spec_is_in_the_schema_and_none_is_required_but_the_version() {
    let crd = manifest(&crds()[0]).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(spec["required"], json!(["version"]));
    let container = [
        "image.registry",
        "image.repository",
        "image.tag",
        "imagePullPolicy",
        "args",
        "resources",
    ];
    let mut paths: Vec<String> = [
        "version",
        "replicas",
        "controlPlaneEndpoint.host",
        "controlPlaneEndpoint.port",
        "rollout.after",
        "gateway.namespace",
        "gateway.name",
        "deployment.apiServer.priorityClassName",
        "deployment.apiServer.mounts.*.path",
        "deployment.apiServer.mounts.*.configMap",
        "deployment.apiServer.mounts.*.secret",
        "deployment.apiServer.audit.policy",
        "deployment.apiServer.audit.mode",
        "deployment.apiServer.audit.webhook.targets.[].server",
        "deployment.apiServer.audit.webhook.targets.[].authentication.secretName",
        "deployment.apiServer.audit.webhook.targets.[].authentication.secretNamespace",
        "deployment.apiServer.audit.webhook.targets.[].authentication.tokenKey",
        "deployment.controllerManager.replicas",
        "deployment.controllerManager.priorityClassName",
        "deployment.scheduler.replicas",
        "deployment.scheduler.priorityClassName",
        "konnectivityClient.replicas",
        "konnectivityClient.priorityClassName",
        "coredns.replicas",
        "coredns.priorityClassName",
        "kubeProxy.disabled",
        "kubeProxy.priorityClassName",
        "etcd.volumeSize",
        "etcd.autoGrow",
        "etcd.priorityClassName",
        "etcd.backup.schedule",
        "etcd.backup.secret.name",
        "etcd.backup.secret.namespace",
        "etcd.backup.secret.accessKeyIDKey",
        "etcd.backup.secret.secretAccessKeyKey",
        "etcd.backup.secret.hostKey",
        "etcd.backup.secret.regionKey",
        "etcd.backup.secret.bucketKey",
        "oidcProviders.*.certificateAuthority",
        "oidcProviders.*.audiences",
        "oidcProviders.*.claimMappings.username",
        "oidcProviders.*.claimMappings.groups",
        "oidcProviders.*.claimValidationRules.[].expression",
        "oidcProviders.*.claimValidationRules.[].message",
        "certificates.rootCaCertificateDuration",
        "certificates.caCertificateDuration",
    ]
    .map(str::to_owned)
    .to_vec();
    for component in [
        "deployment.apiServer",
        "deployment.apiServer.konnectivity",
        "deployment.apiServer.audit.webhook",
        "deployment.controllerManager",
        "deployment.scheduler",
        "konnectivityClient",
        "coredns",
        "kubeProxy",
        "etcd",
    ] {
        paths.extend(container.iter().map(|field| format!("{component}.{field}")));
    }
    for path in paths {
        let mut node = spec;
        for step in path.split('.') {
            node = match step {
                "*" => &node["additionalProperties"],
                "[]" => &node["items"],
                name => &node["properties"][name],
            };
        }
        assert!(node.is_object(), "{path} is not in the schema");
    }
}

#[test]
fn optional_fields_are_not_required_anywhere() {
    fn walk(path: &str, node: &Value, found: &mut Vec<String>) {
        if let Some(required) = node.get("required").and_then(Value::as_array) {
            found.extend(
                required
                    .iter()
                    .map(|name| format!("{path}.{}", name.as_str().unwrap())),
            );
        }
        for (name, child) in node
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            walk(&format!("{path}.{name}"), child, found);
        }
        for (key, sign) in [("items", "[]"), ("additionalProperties", "*")] {
            if let Some(child) = node.get(key) {
                walk(&format!("{path}.{sign}"), child, found);
            }
        }
    }
    let mut found = Vec::new();
    for crd in [&crds()[0], &cluster_crd()] {
        let crd = manifest(crd).unwrap();
        walk(
            "",
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
            &mut found,
        );
    }
    found.sort();
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn a_cluster_keeps_what_is_not_read() {
    let written = json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": "c", "namespace": "ns"},
        "spec": {
            "paused": true,
            "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "HostedControlPlane", "name": "c"},
            "controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443},
            "clusterNetwork": {
                "apiServerPort": 6443,
                "pods": {"cidrBlocks": ["10.244.0.0/16"]},
                "services": {"cidrBlocks": ["10.96.0.0/12"]},
                "serviceDomain": "cluster.local",
            },
            "topology": {"classRef": {"name": "k"}, "version": "v1.36.3", "workers": {"machineDeployments": []}},
            "availabilityGates": [{"conditionType": "Nice", "polarity": "Positive"}],
        },
        "status": {"phase": "Provisioned", "workers": {"replicas": 3}, "conditions": []},
    });
    let cluster: Cluster = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(
        cluster.spec.control_plane_ref.as_ref().unwrap().kind,
        "HostedControlPlane"
    );
    let mut expected = written;
    expected["status"].as_object_mut().unwrap().remove("conditions");
    assert_eq!(serde_json::to_value(cluster).unwrap(), expected);
}

#[test]
fn a_manifest_of_the_existing_provider_is_read_whole() {
    let written = json!({
        "apiVersion": "controlplane.cluster.x-k8s.io/v1alpha1",
        "kind": "HostedControlPlane",
        "metadata": {"name": "c"},
        "spec": {
            "version": "v1.33.0",
            "replicas": 3,
            "gateway": {"namespace": "gw", "name": "public"},
            "deployment": {
                "apiServer": {
                    "args": {"v": "4"},
                    "priorityClassName": "high",
                    "mounts": {"extra": {"path": "/extra", "configMap": {"name": "extra"}}},
                    "konnectivity": {"imagePullPolicy": "IfNotPresent"},
                    "audit": {"policy": {"rules": [{"level": "Metadata"}]}, "mode": "blocking-strict"},
                },
                "controllerManager": {"replicas": 2, "resources": {"requests": {"cpu": "100m"}}},
            },
            "kubeProxy": {"disabled": true},
            "etcd": {
                "autoGrow": false,
                "volumeSize": "8Gi",
                "backup": {"schedule": "@daily", "secret": {"name": "s3", "accessKeyIDKey": "id"}},
            },
            "oidcProviders": {"https://id.example": {"audiences": ["a"], "claimMappings": {"username": "claims.sub"}}},
            "certificates": {"rootCaCertificateDuration": "96h", "caCertificateDuration": "48h"},
        },
    });
    let object: HostedControlPlane = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(object).unwrap(), written);
}

#[test]
fn words_are_unique_and_keep_the_form_that_the_api_asks_for() {
    let lists: [Vec<&str>; 3] = [
        HostedControlPlaneCondition::ALL
            .iter()
            .map(|word| word.as_str())
            .collect(),
        ClusterCondition::ALL.iter().map(|word| word.as_str()).collect(),
        Reason::ALL.iter().map(|word| word.as_str()).collect(),
    ];
    for list in lists {
        let mut unique = list.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), list.len());
        for word in list {
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
        }
    }
}
