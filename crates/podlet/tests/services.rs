//! Services of an API server, served by the podlet.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use clusterwright_apiserver::ApiServer;
use clusterwright_podlet::isolation::Running;
use clusterwright_podlet::network::controller::controller;
use clusterwright_podlet::network::objects::{HOST_PORTS, host_ports};
use clusterwright_podlet::network::{Network, Settings};
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::controller::Environment;
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::manager::{Manager, Options};
use common::{Machine, first_line, machines, process};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

async fn greeter(machine: &Machine, address: &str) -> Running {
    let pod = machine.pod(address).await;
    let greet = process(&["/test-program", "greet", "0.0.0.0:6443"]);
    let (running, mut output) = machine.run(&pod, greet).await;
    assert_eq!(first_line(&mut output), "listening");
    running
}

async fn said(stream: std::io::Result<TcpStream>) -> String {
    let mut said = String::new();
    // What is refused has said nothing.
    if let Ok(mut stream) = stream {
        let _ = stream.read_to_string(&mut said).await;
    }
    said
}

/// Waits until the Service is so.
async fn until(services: &Api<Service>, holds: impl Fn(&Service) -> bool) -> Service {
    loop {
        let service = services.get("api").await.unwrap();
        if holds(&service) {
            return service;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn balancer(service: &Service) -> Option<String> {
    let status = service.status.clone()?.load_balancer?.ingress?;
    status.into_iter().next()?.ip
}

#[tokio::test]
async fn a_load_balancer_from_pods_and_from_the_machine() {
    for machine in machines!() {
        let server = ApiServer::new();
        let client = server.client();
        let settings = Settings {
            address: Ipv4Addr::new(10, 244, 0, 1),
            domain: "cluster.local".to_owned(),
            api_server: None,
        };
        let network = Network::start(machine.isolation.clone(), settings).await.unwrap();
        let mut manager = Manager::new(client.clone(), Options::default()).unwrap();
        let cache = Cache::new(manager.client(), CacheOptions::default());
        let (recorder, events) = Recorder::new(manager.client(), "podlet", "test", manager.clock());
        let environment = Environment {
            client: Client::new(manager.client(), cache.clone(), "podlet"),
            clock: manager.clock(),
            metrics: manager.metrics().clone(),
            recorder,
        };
        manager.add(cache.runnable()).unwrap();
        manager.add(events).unwrap();
        manager.add(controller(network).build(&environment)).unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(manager.run(shutdown.clone()));

        let _pod = greeter(&machine, "10.244.0.2").await;
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let number = taken.local_addr().unwrap().port();
        let services: Api<Service> = Api::default_namespaced(client.clone());
        let service = json!({
            "metadata": {"name": "api", "annotations": {HOST_PORTS: format!("{{\"443\":{number}}}")}},
            "spec": {"type": "LoadBalancer", "ports": [
                {"name": "https", "port": 443},
                {"name": "quic", "port": 443, "protocol": "UDP"},
            ]},
        });
        let service = serde_json::from_value(service).unwrap();
        services.create(&PostParams::default(), &service).await.unwrap();

        // An address for pods, and a port that is free for the machine; the old one is named as taken.
        let service = until(&services, |service| {
            balancer(service).is_some() && host_ports(service).get(&443).is_some_and(|port| *port != number)
        })
        .await;
        assert_eq!(balancer(&service).as_deref(), Some("198.19.0.1"));
        let port = host_ports(&service)[&443];
        let events: Api<Event> = Api::default_namespaced(client.clone());
        let expected = [
            (
                "HostPortTaken".to_owned(),
                format!("Port {number} of 127.0.0.1 can't be had"),
            ),
            (
                "UnsupportedProtocol".to_owned(),
                "The podlet passes on TCP only: 443/UDP".to_owned(),
            ),
        ];
        for (reason, note) in expected {
            loop {
                let all = events.list(&kube::api::ListParams::default()).await.unwrap();
                if let Some(event) = all.iter().find(|event| event.reason.as_ref() == Some(&reason)) {
                    assert!(event.note.as_ref().unwrap().starts_with(&note), "{event:?}");
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        assert_eq!(said(TcpStream::connect(("127.0.0.1", port)).await).await, "");

        let slice = json!({
            "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": true}}],
        });
        let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
        let slice = serde_json::from_value(slice).unwrap();
        slices.create(&PostParams::default(), &slice).await.unwrap();
        while said(TcpStream::connect(("127.0.0.1", port)).await).await != "10.244.0.1" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for address in [
            "198.19.0.1:443".to_owned(),
            format!("{}:443", service.spec.clone().unwrap().cluster_ip.unwrap()),
        ] {
            let stream = machine.isolation.connect(address.parse().unwrap()).await;
            assert_eq!(
                said(stream.map_err(std::io::Error::other)).await,
                "10.244.0.1",
                "{address}"
            );
        }

        // What is no load balancer any more is not reached as one.
        let patch = Patch::Merge(json!({"spec": {"type": "ClusterIP"}}));
        services
            .patch("api", &PatchParams::default(), &patch)
            .await
            .unwrap();
        until(&services, |service| {
            balancer(service).is_none() && host_ports(service) == BTreeMap::new()
        })
        .await;
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
