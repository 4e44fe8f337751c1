//! The objects that are generated, as YAML, and the flags for each version.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clusterwright_hosted::components::{self, Settings};
use clusterwright_hosted::exposure::{self, Exposure};
use clusterwright_hosted::inputs::Inputs;
use clusterwright_hosted::version::Version;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn exposure(inputs: &Inputs) -> Exposure {
    let mut service = exposure::service(inputs);
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}})).unwrap();
    Exposure::of(inputs, None, Some(&service))
}

fn add(text: &mut String, object: &impl Serialize) {
    let _ = write!(
        text,
        "---\n{}",
        serde_saphyr::to_string(&serde_json::to_value(object).unwrap()).unwrap()
    );
}

/// Every object but the Secrets, which hold what no two runs make the same.
fn documents(inputs: &Inputs) -> String {
    let version = inputs.version.clone();
    let settings = Settings {
        version: version.clone(),
        rollout: None,
    };
    let mut text = String::new();
    add(&mut text, &exposure::service(inputs));
    let etcd = common::etcd(inputs, &version);
    add(&mut text, &etcd.service);
    add(&mut text, &etcd.client_service);
    add(&mut text, &etcd.stateful_set);
    add(&mut text, &etcd.budget);
    for desired in [
        components::api_server(inputs, &settings, exposure(inputs).advertise()),
        components::controller_manager(inputs, &settings),
        components::scheduler(inputs, &settings),
    ] {
        if let Some(kubeconfig) = &desired.kubeconfig {
            add(&mut text, kubeconfig);
        }
        add(&mut text, &desired.deployment);
        if let Some(budget) = &desired.budget {
            add(&mut text, budget);
        }
        let _ = writeln!(text, "# overridden: {:?}", desired.overridden);
    }
    text
}

fn command(template: &PodTemplateSpec) -> String {
    let container = &template.spec.as_ref().unwrap().containers[0];
    let mut lines = vec![format!(
        "{} ({})",
        container.name,
        container.image.as_deref().unwrap()
    )];
    lines.extend(container.args.iter().flatten().cloned());
    lines.join("\n  ")
}

#[test]
fn objects_of_the_smallest_spec() {
    insta::assert_snapshot!(documents(&common::inputs(&json!({}), &json!({}))));
}

#[test]
fn objects_with_everything_set() {
    let (control_plane, cluster) = common::everything();
    insta::assert_snapshot!(documents(&common::inputs(&control_plane, &cluster)));
}

const VERSIONS: [&str; 4] = ["v1.33.13", "v1.34.4", "v1.35.4", "v1.36.3"];

/// A hash of a pod template that no change of the order of its fields changes.
fn hash(template: &PodTemplateSpec) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<String, Value> = fields.into_iter().collect();
                fields
                    .into_iter()
                    .map(|(name, value)| (name, sorted(value)))
                    .collect()
            }
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    let digest = Sha256::digest(sorted(serde_json::to_value(template).unwrap()).to_string());
    digest[..8].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A hash that differs from the snapshot's restarts the pods of every control plane of that version when its users
/// upgrade the manager. Where that is meant, CHANGELOG.md says so, and `INSTA_UPDATE=always` writes the new ones.
#[test]
fn hashes_of_pod_templates() {
    let (everything, cluster) = common::everything();
    let mut text = String::new();
    for (title, spec, cluster) in [
        ("the smallest spec", json!({}), json!({})),
        ("everything set", everything, cluster),
    ] {
        for version in VERSIONS {
            let mut spec = spec.clone();
            spec["version"] = json!(version);
            let inputs = common::inputs(&spec, &cluster);
            let settings = Settings {
                version: inputs.version.clone(),
                rollout: None,
            };
            let etcd = common::etcd(&inputs, &inputs.version);
            let mut templates = vec![("etcd", etcd.stateful_set.spec.unwrap().template)];
            for (name, desired) in [
                (
                    "kube-apiserver",
                    components::api_server(&inputs, &settings, exposure(&inputs).advertise()),
                ),
                (
                    "kube-controller-manager",
                    components::controller_manager(&inputs, &settings),
                ),
                ("kube-scheduler", components::scheduler(&inputs, &settings)),
            ] {
                templates.push((name, desired.deployment.spec.unwrap().template));
            }
            for (name, template) in templates {
                let _ = writeln!(text, "{title}, {version}, {name}: {}", hash(&template));
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn flags_for_each_version() {
    for version in VERSIONS {
        let inputs = common::inputs(
            &json!({"version": version}),
            &json!({"clusterNetwork": {"pods": {"cidrBlocks": ["10.244.0.0/16"]}}}),
        );
        let parsed: Version = version.parse().unwrap();
        let settings = Settings {
            version: parsed.clone(),
            rollout: None,
        };
        let etcd = common::etcd(&inputs, &parsed);
        let mut text = command(&etcd.stateful_set.spec.unwrap().template);
        for desired in [
            components::api_server(&inputs, &settings, exposure(&inputs).advertise()),
            components::controller_manager(&inputs, &settings),
            components::scheduler(&inputs, &settings),
        ] {
            let _ = write!(text, "\n{}", command(&desired.deployment.spec.unwrap().template));
        }
        insta::assert_snapshot!(format!("flags_{version}"), text);
    }
}

#[test]
fn what_is_generated_is_the_same_each_time() {
    let (control_plane, cluster) = common::everything();
    let inputs = common::inputs(&control_plane, &cluster);
    assert_eq!(documents(&inputs), documents(&inputs));
}

#[test]
fn quantities_are_written_as_the_api_server_stores_them() {
    let (control_plane, cluster) = common::everything();
    let text = documents(&common::inputs(&control_plane, &cluster));
    for stored in [
        "cpu: 500m",
        "memory: 1Gi",
        "memory: 1536Mi",
        "storage: 8Gi",
        "--quota-backend-bytes=7730941131",
    ] {
        assert!(text.contains(stored), "{stored}");
    }
}

#[test]
fn names_in_the_api_servers_certificate() {
    let (control_plane, cluster) = common::everything();
    let inputs = common::inputs(&control_plane, &cluster);
    let names = exposure(&inputs).certificate_names(&inputs);
    let all: Vec<String> = names
        .dns
        .iter()
        .cloned()
        .chain(names.ips.iter().map(ToString::to_string))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn the_endpoint_is_the_specs_then_the_clusters_then_the_load_balancers() {
    let endpoint = |fields: Value, cluster: Option<Value>, address: Option<&str>| {
        let inputs = common::inputs(&fields, &json!({}));
        let mut service = exposure::service(&inputs);
        service.status = address.map(|host| {
            serde_json::from_value(json!({"loadBalancer": {"ingress": [{"hostname": host}]}})).unwrap()
        });
        let cluster = cluster.map(|cluster| serde_json::from_value(cluster).unwrap());
        Exposure::of(&inputs, cluster.as_ref(), Some(&service)).endpoint
    };
    let spec = || json!({"controlPlaneEndpoint": {"host": "api.example", "port": 8443}});
    let other = || Some(json!({"host": "other.example", "port": 9443}));
    let some = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(endpoint(json!({}), None, None), None);
    assert_eq!(
        endpoint(json!({}), None, Some("lb.example")),
        some("lb.example", 6443)
    );
    assert_eq!(
        endpoint(json!({}), other(), Some("lb.example")),
        some("other.example", 9443)
    );
    assert_eq!(
        endpoint(spec(), other(), Some("lb.example")),
        some("api.example", 8443)
    );
    assert_eq!(
        endpoint(
            json!({"controlPlaneEndpoint": {"port": 8443}}),
            None,
            Some("lb.example")
        ),
        some("lb.example", 8443)
    );
    assert_eq!(
        endpoint(
            json!({"controlPlaneEndpoint": {"host": "api.example"}}),
            None,
            None
        ),
        some("api.example", 6443)
    );
}
