//! Kubeconfigs.
//!
//! Those of components name files, which programs read again when they change. So they hold no secret, are the
//! same for ever, and a renewed certificate restarts nothing. The administrator's holds its certificate and key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clusterwright_api::meta;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Volume, VolumeMount};
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{PKI_DIR, pki};
use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::{Leaf, Material};

/// The key of a kubeconfig in a component's `ConfigMap`, and the file's name.
const FILE: &str = "kubeconfig";
/// Where a component's kubeconfig is.
const DIR: &str = "/etc/kubernetes/kubeconfig";
/// The key of the kubeconfig in the contract's Secret.
const CONTRACT_KEY: &str = "value";

/// The path of a component's kubeconfig in its container.
pub(super) fn path() -> String {
    format!("{DIR}/{FILE}")
}

/// The kubeconfig of a component that runs beside the API servers.
pub fn component_kubeconfig(inputs: &Inputs, component: Component, leaf: Leaf) -> ConfigMap {
    let user = leaf.profile(crate::pki::LeafNames::default()).common_name;
    let config = kubeconfig(
        inputs.names.cluster(),
        &user,
        &json!({
            "certificate-authority": pki("ca.crt"),
            "server": format!("https://{}:{}", inputs.internal_host(), inputs.network.port),
        }),
        &json!({
            "client-certificate": format!("{PKI_DIR}/{}.crt", leaf.name()),
            "client-key": format!("{PKI_DIR}/{}.key", leaf.name()),
        }),
    );
    ConfigMap {
        metadata: inputs.metadata(inputs.names.workload(component), Some(component)),
        data: Some([(FILE.to_owned(), config)].into()),
        ..ConfigMap::default()
    }
}

/// The administrator's kubeconfig, in the Secret of the contract.
pub fn admin_kubeconfig(inputs: &Inputs, host: &str, port: i32, authority: &str, admin: &Material) -> Secret {
    let user = Leaf::Admin.profile(crate::pki::LeafNames::default()).common_name;
    let server = server_url(host, port);
    let config = user_kubeconfig(inputs.names.cluster(), &server, authority, &user, admin);
    Secret {
        metadata: inputs.metadata(inputs.names.contract_secret("kubeconfig"), None),
        type_: Some(meta::CLUSTER_SECRET_TYPE.to_owned()),
        data: Some([(CONTRACT_KEY.to_owned(), ByteString(config.into_bytes()))].into()),
        ..Secret::default()
    }
}

/// A kubeconfig that holds all that it needs.
pub fn user_kubeconfig(
    cluster: &str,
    server: &str,
    authority: &str,
    user: &str,
    client: &Material,
) -> String {
    kubeconfig(
        cluster,
        user,
        &json!({
            "certificate-authority-data": STANDARD.encode(authority),
            "server": server,
        }),
        &json!({
            "client-certificate-data": STANDARD.encode(client.certificate()),
            "client-key-data": STANDARD.encode(client.key()),
        }),
    )
}

/// Where an API server is, as kubeconfigs have it.
pub fn server_url(host: &str, port: i32) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }
}

/// A hash that changes when pods have to start anew to read their kubeconfig.
pub(super) fn hash(map: &ConfigMap) -> String {
    let text = map
        .data
        .as_ref()
        .and_then(|data| data.get(FILE))
        .map(String::as_str)
        .unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    let start = digest
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{start:016x}")
}

/// The volume with a component's kubeconfig.
pub(super) fn volume(map: &ConfigMap) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: FILE.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: map.metadata.name.clone().unwrap_or_default(),
            items: Some(vec![KeyToPath {
                key: FILE.to_owned(),
                path: FILE.to_owned(),
                mode: None,
            }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: FILE.to_owned(),
        mount_path: DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    (volume, mount)
}

/// A kubeconfig as JSON, which is YAML too.
fn kubeconfig(name: &str, user: &str, cluster: &Value, credentials: &Value) -> String {
    let context = format!("{user}@{name}");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": context, "context": {"cluster": name, "user": user}}],
        "current-context": context,
        "users": [{"name": user, "user": credentials}],
    });
    format!("{config:#}\n")
}
