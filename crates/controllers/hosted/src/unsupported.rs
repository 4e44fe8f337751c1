//! Fields of the spec that are kept but not acted on yet. Never in silence: a condition and an Event name them.

use clusterwright_api::hosted::HostedControlPlaneSpec;

/// The paths of the fields that are set and not acted on, in the order of the schema.
///
/// `volume_differs`: etcd's volumes are there and have another size than the spec asks for.
pub fn unsupported(spec: &HostedControlPlaneSpec, volume_differs: bool) -> Vec<&'static str> {
    let inline = &spec.inline;
    let api_server = inline
        .deployment
        .as_ref()
        .and_then(|deployment| deployment.api_server.as_ref());
    let etcd = inline.etcd.as_ref();
    // Leaving kube-proxy out is what happens anyway.
    let kube_proxy = inline.kube_proxy.as_ref().is_some_and(|proxy| {
        let mut rest = proxy.clone();
        let disabled = rest.disabled.take();
        disabled != Some(true) || rest != clusterwright_api::hosted::KubeProxy::default()
    });
    [
        ("spec.gateway", inline.gateway.is_some()),
        (
            "spec.deployment.apiServer.konnectivity",
            api_server.is_some_and(|server| server.konnectivity.is_some()),
        ),
        (
            "spec.deployment.apiServer.audit",
            api_server.is_some_and(|server| server.audit.is_some()),
        ),
        ("spec.konnectivityClient", inline.konnectivity_client.is_some()),
        ("spec.coredns", inline.coredns.is_some()),
        ("spec.kubeProxy", kube_proxy),
        ("spec.etcd.volumeSize", volume_differs),
        (
            "spec.etcd.autoGrow",
            etcd.is_some_and(|etcd| etcd.auto_grow == Some(true)),
        ),
        ("spec.etcd.backup", etcd.is_some_and(|etcd| etcd.backup.is_some())),
        ("spec.oidcProviders", !inline.oidc_providers.is_empty()),
        ("spec.certificates", inline.certificates.is_some()),
    ]
    .into_iter()
    .filter_map(|(path, set)| set.then_some(path))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(fields: &Value) -> Vec<&'static str> {
        let mut spec = json!({"version": "v1.36.3", "replicas": 3});
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        unsupported(&serde_json::from_value(spec).unwrap(), false)
    }

    #[test]
    fn what_is_acted_on_is_not_named() {
        assert!(of(&json!({})).is_empty());
        assert!(
            of(&json!({
                "controlPlaneEndpoint": {"host": "api.example", "port": 443},
                "rollout": {"after": "2026-01-01T00:00:00Z"},
                "deployment": {
                    "apiServer": {"args": {"v": "2"}, "priorityClassName": "x", "mounts": {"a": {"path": "/a", "secret": {"secretName": "s"}}}},
                    "controllerManager": {"replicas": 2},
                    "scheduler": {"image": {"tag": "x"}},
                },
                "kubeProxy": {"disabled": true},
                "etcd": {"autoGrow": false, "volumeSize": "2Gi", "args": {"v": "1"}},
            }))
            .is_empty()
        );
    }

    #[test]
    fn what_is_not_acted_on_is_named_by_its_path() {
        let found = of(&json!({
            "gateway": {"namespace": "n", "name": "g"},
            "deployment": {"apiServer": {"konnectivity": {}, "audit": {"policy": {}}}},
            "konnectivityClient": {"replicas": 2},
            "coredns": {},
            "kubeProxy": {"disabled": true, "args": {"v": "1"}},
            "etcd": {"autoGrow": true, "backup": {"schedule": "@daily", "secret": {"name": "s"}}},
            "oidcProviders": {"https://id": {"audiences": ["a"], "claimMappings": {"username": "claims.sub"}}},
            "certificates": {"caCertificateDuration": "48h"},
        }));
        assert_eq!(
            found,
            [
                "spec.gateway",
                "spec.deployment.apiServer.konnectivity",
                "spec.deployment.apiServer.audit",
                "spec.konnectivityClient",
                "spec.coredns",
                "spec.kubeProxy",
                "spec.etcd.autoGrow",
                "spec.etcd.backup",
                "spec.oidcProviders",
                "spec.certificates",
            ]
        );
    }
}
