//! The API servers.

use std::net::IpAddr;

use clusterwright_api::hosted::{ApiServer, Mount};
use k8s_openapi::api::core::v1::{Volume, VolumeMount};

use super::{
    Desired, Flags, PodSpecification, Probes, Settings, Source, annotations, budget, deployment, leaf_files,
    pki, template,
};
use crate::etcd;
use crate::inputs::Inputs;
use crate::names::Component;
use crate::pki::{Leaf, Root, SERVICE_ACCOUNT_PURPOSE};

/// The port that API servers listen on.
pub const API_SERVER_PORT: i32 = 6443;

/// How long an API server that is to end goes on as before, in seconds. Whoever passes connections on has this time to
/// hear that it is not ready any more; then it takes no new ones and tells those that it has to go elsewhere.
const SHUTDOWN_DELAY: i64 = 10;
/// The flag that says so, which the spec may give another value: load balancers that ask seldom need longer.
const SHUTDOWN_DELAY_FLAG: &str = "shutdown-delay-duration";
/// How long it takes then to end the watches, in seconds. Without this time it would wait for them to end by themselves,
/// for a minute.
const WATCHES: i64 = 5;
/// How long requests that are under way after that have to end, in seconds: `--request-timeout`'s default, and a margin.
const DRAIN: i64 = 60 + 10;

/// The API servers as they are to be. `advertise` is the address that the hosted cluster's own Service `kubernetes`
/// leads to: the load balancer's, where it has an IP address.
pub fn api_server(inputs: &Inputs, settings: &Settings, advertise: Option<IpAddr>) -> Desired {
    let component = Component::ApiServer;
    let given = inputs
        .spec
        .inline
        .deployment
        .clone()
        .unwrap_or_default()
        .api_server
        .unwrap_or_default();
    let mut flags = flags(inputs, advertise);
    let mut delay = SHUTDOWN_DELAY;
    match given_delay(&given) {
        Some(given) => delay = given,
        None => drop(flags.set(SHUTDOWN_DELAY_FLAG, format!("{SHUTDOWN_DELAY}s"))),
    }
    flags.set("shutdown-watch-termination-grace-period", format!("{WATCHES}s"));
    let args = flags.with(&given.pod.container.args);
    let replicas = inputs.spec.replicas();
    let pod = PodSpecification {
        component,
        container: &given.pod.container,
        tag: settings.version.image_tag(),
        requests: &[("cpu", "250m")],
        args: args.args,
        priority_class: given.pod.priority_class_name.clone(),
        ports: Vec::new(),
        probes: Probes {
            scheme: "HTTPS",
            port: API_SERVER_PORT,
            startup: "/livez",
            readiness: "/readyz",
            liveness: "/livez",
        },
        pod_name: false,
        pki: files(inputs),
        volumes: mounts(&given),
        mounts: Vec::new(),
        annotations: annotations(&settings.version, settings.rollout.as_deref()),
        spread_keys: &["pod-template-hash"],
        capabilities: &["NET_BIND_SERVICE"],
    };
    let mut template = template(inputs, pod);
    if let Some(spec) = &mut template.spec {
        spec.termination_grace_period_seconds = Some(delay + DRAIN);
    }
    Desired {
        deployment: deployment(inputs, component, replicas, template),
        kubeconfig: None,
        budget: budget(inputs, component, replicas),
        overridden: args.overridden,
    }
}

/// The delay that the spec gives, in seconds. Of one that can't be read, the program says so.
fn given_delay(given: &ApiServer) -> Option<i64> {
    let args = given.pod.container.args.iter();
    let mut given = args.filter(|(name, _)| name.trim_start_matches('-') == SHUTDOWN_DELAY_FLAG);
    let (_, value) = given.next()?;
    let delay = value.parse::<jiff::SignedDuration>().unwrap_or_default();
    Some(delay.as_secs().clamp(0, i64::from(i32::MAX)))
}

fn flags(inputs: &Inputs, advertise: Option<IpAddr>) -> Flags {
    let mut flags = Flags::default();
    if let Some(address) = advertise {
        flags.set("advertise-address", address.to_string());
    }
    flags
        .set("allow-privileged", "true")
        .set("authorization-mode", "Node,RBAC")
        .set("client-ca-file", pki("ca.crt"))
        .set("enable-admission-plugins", "NodeRestriction")
        .set("enable-bootstrap-token-auth", "true")
        .set("etcd-cafile", pki("etcd-ca.crt"))
        .set("etcd-certfile", pki("apiserver-etcd-client.crt"))
        .set("etcd-keyfile", pki("apiserver-etcd-client.key"))
        .set("etcd-servers", etcd::client_url(inputs))
        .set("kubelet-client-certificate", pki("apiserver-kubelet-client.crt"))
        .set("kubelet-client-key", pki("apiserver-kubelet-client.key"))
        .set(
            "kubelet-preferred-address-types",
            "InternalIP,ExternalIP,Hostname",
        )
        .set("proxy-client-cert-file", pki("front-proxy-client.crt"))
        .set("proxy-client-key-file", pki("front-proxy-client.key"))
        .set("requestheader-allowed-names", "front-proxy-client")
        .set("requestheader-client-ca-file", pki("front-proxy-ca.crt"))
        .set("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .set("requestheader-group-headers", "X-Remote-Group")
        .set("requestheader-username-headers", "X-Remote-User")
        .set("secure-port", API_SERVER_PORT.to_string())
        .set(
            "service-account-issuer",
            format!("https://kubernetes.default.svc.{}", inputs.network.domain),
        )
        .set("service-account-key-file", pki("sa.pub"))
        .set("service-account-signing-key-file", pki("sa.key"))
        .set("service-cluster-ip-range", inputs.network.services.join(","))
        .set("tls-cert-file", pki("apiserver.crt"))
        .set("tls-private-key-file", pki("apiserver.key"));
    flags
}

/// Certificates and keys: of the roots, the certificates only.
fn files(inputs: &Inputs) -> Vec<Source> {
    let root = |root: Root, file: &str| {
        Source::Secret(
            inputs.names.contract_secret(root.purpose()),
            vec![("tls.crt", file.to_owned())],
        )
    };
    vec![
        root(Root::Cluster, "ca.crt"),
        root(Root::Etcd, "etcd-ca.crt"),
        root(Root::FrontProxy, "front-proxy-ca.crt"),
        Source::Secret(
            inputs.names.contract_secret(SERVICE_ACCOUNT_PURPOSE),
            vec![("tls.crt", "sa.pub".to_owned()), ("tls.key", "sa.key".to_owned())],
        ),
        leaf_files(inputs, Leaf::ApiServer),
        leaf_files(inputs, Leaf::ApiServerEtcdClient),
        leaf_files(inputs, Leaf::ApiServerKubeletClient),
        leaf_files(inputs, Leaf::FrontProxyClient),
    ]
}

/// The files that the spec mounts, which have to be there.
fn mounts(given: &ApiServer) -> Vec<(Volume, VolumeMount)> {
    let volume = |name: &String, mount: &Mount| {
        let name = format!("mount-{name}");
        let mut volume = Volume {
            name: name.clone(),
            ..Volume::default()
        };
        if let Some(mut source) = mount.config_map.clone() {
            source.optional = Some(false);
            volume.config_map = Some(source);
        }
        if let Some(mut source) = mount.secret.clone() {
            source.optional = Some(false);
            volume.secret = Some(source);
        }
        let mount = VolumeMount {
            name,
            mount_path: mount.path.clone(),
            read_only: Some(true),
            ..VolumeMount::default()
        };
        (volume, mount)
    };
    given
        .mounts
        .iter()
        .map(|(name, mount)| volume(name, mount))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_delay_counts() {
        let delay = |name: &str, value: &str| {
            let mut given = ApiServer::default();
            let args = &mut given.pod.container.args;
            args.insert(name.to_owned(), value.to_owned());
            given_delay(&given)
        };
        assert_eq!(delay("v", "4"), None);
        assert_eq!(delay("shutdown-delay-duration", "1m30s"), Some(90));
        assert_eq!(delay("--shutdown-delay-duration", "40s"), Some(40));
        assert_eq!(delay("shutdown-delay-duration", "soon"), Some(0));
    }
}
