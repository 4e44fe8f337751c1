//! The schedulers.

use super::{
    Desired, Flags, PodSpecification, Probes, Settings, Source, annotations, budget, component_kubeconfig,
    deployment, kubeconfig, leaf_files, template,
};
use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::{Leaf, Root};
use clusterwright_api::meta;

/// The port of health and metrics.
const PORT: i32 = 10259;

/// The schedulers as they are to be.
pub fn scheduler(inputs: &Inputs, settings: &Settings) -> Desired {
    let component = Component::Scheduler;
    let given = inputs
        .spec
        .inline
        .deployment
        .clone()
        .unwrap_or_default()
        .scheduler
        .unwrap_or_default();
    let args = flags().with(&given.pod.container.args);
    let replicas = given.replicas.unwrap_or(1);
    let config = component_kubeconfig(inputs, component, Leaf::Scheduler);
    let mut annotations = annotations(&settings.version, settings.rollout.as_deref());
    annotations.insert(meta::KUBECONFIG_ANNOTATION.to_owned(), kubeconfig::hash(&config));
    let pod = PodSpecification {
        component,
        container: &given.pod.container,
        tag: settings.version.image_tag(),
        requests: &[("cpu", "100m")],
        args: args.args,
        priority_class: given.pod.priority_class_name.clone(),
        ports: Vec::new(),
        probes: Probes {
            scheme: "HTTPS",
            port: PORT,
            startup: "/livez",
            readiness: "/readyz",
            liveness: "/livez",
        },
        pod_name: false,
        pki: vec![
            Source::Secret(
                inputs.names.contract_secret(Root::Cluster.purpose()),
                vec![("tls.crt", "ca.crt".to_owned())],
            ),
            leaf_files(inputs, Leaf::Scheduler),
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

fn flags() -> Flags {
    let mut flags = Flags::default();
    flags
        .set("authentication-kubeconfig", kubeconfig::path())
        .set("authorization-kubeconfig", kubeconfig::path())
        // kubeadm's 127.0.0.1 is for the host's network: here the kubelet asks the pod's address.
        .set("bind-address", "0.0.0.0")
        .set("kubeconfig", kubeconfig::path())
        // Also with one replica: while pods are replaced there are two.
        .set("leader-elect", "true");
    flags
}
