//! The controller managers.

use super::{
    Desired, Flags, PodSpecification, Probes, Settings, Source, annotations, budget, component_kubeconfig,
    deployment, kubeconfig, leaf_files, pki, template,
};
use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::{Leaf, Root, SERVICE_ACCOUNT_PURPOSE};
use clusterwright_api::meta;

/// The port of health and metrics.
const PORT: i32 = 10257;

/// The controller managers as they are to be.
pub fn controller_manager(inputs: &Inputs, settings: &Settings) -> Desired {
    let component = Component::ControllerManager;
    let given = inputs
        .spec
        .inline
        .deployment
        .clone()
        .unwrap_or_default()
        .controller_manager
        .unwrap_or_default();
    let args = flags(inputs).with(&given.pod.container.args);
    let replicas = given.replicas.unwrap_or(1);
    let config = component_kubeconfig(inputs, component, Leaf::ControllerManager);
    let mut annotations = annotations(&settings.version, settings.rollout.as_deref());
    annotations.insert(meta::KUBECONFIG_ANNOTATION.to_owned(), kubeconfig::hash(&config));
    let pod = PodSpecification {
        component,
        container: &given.pod.container,
        tag: settings.version.image_tag(),
        requests: &[("cpu", "200m")],
        args: args.args,
        priority_class: given.pod.priority_class_name.clone(),
        ports: Vec::new(),
        probes: Probes {
            scheme: "HTTPS",
            port: PORT,
            startup: "/healthz",
            readiness: "/healthz",
            liveness: "/healthz",
        },
        pod_name: false,
        pki: vec![
            // The one component that signs: kubelets' requests for certificates.
            Source::Secret(
                inputs.names.contract_secret(Root::Cluster.purpose()),
                vec![("tls.crt", "ca.crt".to_owned()), ("tls.key", "ca.key".to_owned())],
            ),
            Source::Secret(
                inputs.names.contract_secret(Root::FrontProxy.purpose()),
                vec![("tls.crt", "front-proxy-ca.crt".to_owned())],
            ),
            Source::Secret(
                inputs.names.contract_secret(SERVICE_ACCOUNT_PURPOSE),
                vec![("tls.key", "sa.key".to_owned())],
            ),
            leaf_files(inputs, Leaf::ControllerManager),
        ],
        volumes: vec![kubeconfig::volume(&config)],
        mounts: Vec::new(),
        annotations,
        spread_keys: &["pod-template-hash"],
        capabilities: &[],
    };
    Desired {
        deployment: deployment(inputs, component, replicas, template(inputs, pod)),
        budget: budget(inputs, component, replicas),
        kubeconfig: Some(config),
        overridden: args.overridden,
    }
}

fn flags(inputs: &Inputs) -> Flags {
    let mut flags = Flags::default();
    // Addresses for nodes come from the pods' blocks, where the Cluster names any.
    if !inputs.network.pods.is_empty() {
        flags
            .set("allocate-node-cidrs", "true")
            .set("cluster-cidr", inputs.network.pods.join(","))
            .set("service-cluster-ip-range", inputs.network.services.join(","));
    }
    flags
        .set("authentication-kubeconfig", kubeconfig::path())
        .set("authorization-kubeconfig", kubeconfig::path())
        // kubeadm's 127.0.0.1 is for the host's network: here the kubelet asks the pod's address.
        .set("bind-address", "0.0.0.0")
        .set("client-ca-file", pki("ca.crt"))
        .set("cluster-name", inputs.names.cluster())
        .set("cluster-signing-cert-file", pki("ca.crt"))
        .set("cluster-signing-key-file", pki("ca.key"))
        .set("controllers", "*,bootstrapsigner,tokencleaner")
        .set("kubeconfig", kubeconfig::path())
        // Also with one replica: while pods are replaced there are two.
        .set("leader-elect", "true")
        .set("requestheader-client-ca-file", pki("front-proxy-ca.crt"))
        .set("root-ca-file", pki("ca.crt"))
        .set("service-account-private-key-file", pki("sa.key"))
        .set("use-service-account-credentials", "true");
    flags
}
