//! The variables by which programs find Services without asking for names: what in-cluster clients look for. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};

/// The API server's own Service, which every pod is told of.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// The variables that a pod is given for Services: for the API server's, and unless the pod declines for those of its
/// namespace.
pub fn variables(pod: &Pod, services: &[Service]) -> BTreeMap<String, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let links = spec.and_then(|spec| spec.enable_service_links) != Some(false);
    let of = |service: &&Service| {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let at = service.metadata.namespace.as_deref().unwrap_or_default();
        (at, name) == API_SERVER || (links && at == namespace)
    };
    services.iter().filter(of).flat_map(links_of).collect()
}

fn links_of(service: &Service) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let spec = service.spec.clone().unwrap_or_default();
    let address = spec
        .cluster_ip
        .filter(|address| !["", "None"].contains(&address.as_str()));
    let ports = spec.ports.unwrap_or_default();
    let (Some(address), Some(first)) = (address, ports.first()) else {
        return variables;
    };
    let shouted = |text: &str| text.to_uppercase().replace('-', "_");
    let name = shouted(service.metadata.name.as_deref().unwrap_or_default());
    let mut add = |suffix: String, value: String| variables.push((format!("{name}_{suffix}"), value));
    let protocol = |given: &Option<String>| given.clone().unwrap_or_else(|| "TCP".to_owned());
    let url = |protocol: &str, port: i32| format!("{}://{address}:{port}", protocol.to_lowercase());
    add("SERVICE_HOST".to_owned(), address.clone());
    add("SERVICE_PORT".to_owned(), first.port.to_string());
    add("PORT".to_owned(), url(&protocol(&first.protocol), first.port));
    for port in &ports {
        if let Some(named) = port.name.as_deref().filter(|named| !named.is_empty()) {
            add(format!("SERVICE_PORT_{}", shouted(named)), port.port.to_string());
        }
        let protocol = protocol(&port.protocol);
        let prefix = format!("PORT_{}_{protocol}", port.port);
        add(prefix.clone(), url(&protocol, port.port));
        add(format!("{prefix}_PROTO"), protocol.to_lowercase());
        add(format!("{prefix}_PORT"), port.port.to_string());
        add(format!("{prefix}_ADDR"), address.clone());
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pod: &str) -> Vec<String> {
        let pod: Pod = serde_saphyr::from_str(pod).unwrap();
        let services: Vec<Service> = serde_saphyr::from_str(
            "
            - metadata: {name: kubernetes, namespace: default}
              spec: {clusterIP: 10.0.0.1, ports: [{name: https, port: 443}]}
            - {metadata: {name: my-db, namespace: ns}, spec: {clusterIP: 10.0.0.2, ports: [{port: 53, protocol: UDP}]}}
            - {metadata: {name: headless, namespace: ns}, spec: {clusterIP: None, ports: [{port: 1}]}}
            - {metadata: {name: other, namespace: elsewhere}, spec: {clusterIP: 10.0.0.3, ports: [{port: 1}]}}
            ",
        )
        .unwrap();
        let variables = variables(&pod, &services);
        variables
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn services_are_told_of_as_kubelets_do() {
        let api_server = [
            "KUBERNETES_PORT=tcp://10.0.0.1:443",
            "KUBERNETES_PORT_443_TCP=tcp://10.0.0.1:443",
            "KUBERNETES_PORT_443_TCP_ADDR=10.0.0.1",
            "KUBERNETES_PORT_443_TCP_PORT=443",
            "KUBERNETES_PORT_443_TCP_PROTO=tcp",
            "KUBERNETES_SERVICE_HOST=10.0.0.1",
            "KUBERNETES_SERVICE_PORT=443",
            "KUBERNETES_SERVICE_PORT_HTTPS=443",
        ];
        let own = [
            "MY_DB_PORT=udp://10.0.0.2:53",
            "MY_DB_PORT_53_UDP=udp://10.0.0.2:53",
            "MY_DB_PORT_53_UDP_ADDR=10.0.0.2",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_SERVICE_HOST=10.0.0.2",
            "MY_DB_SERVICE_PORT=53",
        ];
        let declines = "{metadata: {namespace: ns}, spec: {enableServiceLinks: false, containers: []}}";
        assert_eq!(names(declines), api_server);
        let all: Vec<&str> = api_server.into_iter().chain(own).collect();
        assert_eq!(names("{metadata: {namespace: ns}}"), all);
    }
}
