//! How the API server is reached: a Service of type `LoadBalancer`, and the endpoint that is known by it.

use std::net::IpAddr;

use clusterwright_api::cluster::ApiEndpoint;
use clusterwright_api::reasons::Reason;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::components::API_SERVER_PORT;
use crate::graph::{Verdict, Why};
use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::LeafNames;

/// Where the API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// The address of the load balancer: an IP address or a name.
    pub load_balancer: Option<String>,
    /// The endpoint that clients use, once host and port are known.
    pub endpoint: Option<(String, i32)>,
}

impl Exposure {
    /// From what the control plane's spec gives, then what the Cluster's does, then the load balancer.
    ///
    /// What is in the spec once stays, whatever the load balancer does later: kubeconfigs and nodes hold it.
    pub fn of(inputs: &Inputs, cluster: Option<&ApiEndpoint>, service: Option<&Service>) -> Self {
        let load_balancer = service.and_then(load_balancer);
        let own = inputs.spec.control_plane_endpoint.clone().unwrap_or_default();
        let cluster = cluster
            .filter(|endpoint| endpoint.is_complete())
            .cloned()
            .unwrap_or_default();
        let host = [own.host, cluster.host]
            .into_iter()
            .find(|host| !host.is_empty())
            .or_else(|| load_balancer.clone());
        let port = own.port.or(cluster.port).unwrap_or(inputs.network.port);
        Self {
            endpoint: host.map(|host| (host, port)),
            load_balancer,
        }
    }

    /// How the node stands.
    pub fn verdict(&self) -> Verdict {
        let waits = || {
            Why::new(
                Reason::WaitingForLoadBalancer,
                "the Service has no load balancer address yet",
            )
        };
        match (&self.endpoint, &self.load_balancer) {
            (Some(_), Some(_)) => Verdict::Ready,
            (Some(_), None) => Verdict::Usable(waits()),
            (None, _) => Verdict::Waiting(waits()),
        }
    }

    /// The endpoint as `spec.controlPlaneEndpoint` has it.
    pub fn to_field(&self) -> Option<ApiEndpoint> {
        self.endpoint.clone().map(|(host, port)| ApiEndpoint {
            host,
            port: Some(port),
        })
    }

    /// The address that API servers tell the hosted cluster they have: only an IP address can be.
    pub fn advertise(&self) -> Option<IpAddr> {
        let hosts = [
            self.load_balancer.as_deref(),
            self.endpoint.as_ref().map(|(host, _)| host.as_str()),
        ];
        hosts.into_iter().flatten().find_map(|host| host.parse().ok())
    }

    /// The names that the API server's certificate holds for: kubeadm's, the Service's and the endpoint.
    pub fn certificate_names(&self, inputs: &Inputs) -> LeafNames {
        let mut names: LeafNames = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "127.0.0.1",
            "::1",
        ]
        .into_iter()
        .collect();
        let service = inputs.names.api_service();
        names.add(&format!("kubernetes.default.svc.{}", inputs.network.domain));
        names.add(&inputs.network.kubernetes_service.to_string());
        names.add(&format!("{service}.{}", inputs.namespace));
        names.add(&inputs.internal_host());
        names.add(&service);
        if let Some((host, _)) = &self.endpoint {
            names.add(host);
        }
        if let Some(address) = &self.load_balancer {
            names.add(address);
        }
        names
    }
}

/// The Service of the API servers.
pub fn service(inputs: &Inputs) -> Service {
    Service {
        metadata: inputs.metadata(inputs.names.api_service(), Some(Component::ApiServer)),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some("https".to_owned()),
                port: inputs.network.port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(API_SERVER_PORT)),
                ..ServicePort::default()
            }]),
            selector: Some(inputs.names.selector(Component::ApiServer)),
            type_: Some("LoadBalancer".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The first address of a Service's load balancer.
pub fn load_balancer(service: &Service) -> Option<String> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?;
    ingress.iter().find_map(|ingress| {
        [&ingress.ip, &ingress.hostname]
            .into_iter()
            .flatten()
            .find(|address| !address.is_empty())
            .cloned()
    })
}
