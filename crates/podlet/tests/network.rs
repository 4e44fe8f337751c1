//! Names and addresses of Services, as pods and the machine find them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clusterwright_podlet::isolation::{Entry, Isolation, Running, Signal};
use clusterwright_podlet::network::objects::{Endpoint, Port, Reach, Service, World};
use clusterwright_podlet::network::{Network, Settings};
use common::{Machine, first_line, machines, output_of, process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const SERVICE: &str = "10.96.0.7:443";

async fn network(isolation: &Arc<Isolation>, api_server: Option<SocketAddr>) -> Network {
    let settings = Settings {
        address: Ipv4Addr::new(10, 244, 0, 1),
        domain: "cluster.local".to_owned(),
        api_server,
    };
    Network::start(isolation.clone(), settings).await.unwrap()
}

fn endpoint(last: u8, ready: bool) -> Endpoint {
    Endpoint {
        address: Ipv4Addr::new(10, 244, 0, last),
        hostname: Some(format!("pod-{last}")),
        ready,
        serving: true,
        terminating: !ready,
        ports: vec![("https".to_owned(), 6443, "TCP".to_owned())],
    }
}

fn service(endpoints: Vec<Endpoint>) -> Service {
    Service {
        addresses: vec![Ipv4Addr::new(10, 96, 0, 7)],
        ports: vec![Port {
            name: "https".to_owned(),
            port: 443,
            protocol: "TCP".to_owned(),
            node_port: None,
        }],
        endpoints,
        ..Service::default()
    }
}

fn world(service: Service) -> World {
    World::from([(("prod".to_owned(), "api".to_owned()), service)])
}

/// Has a pod at an address say a word to whoever connects.
async fn echo(machine: &Machine, last: u8) -> Running {
    let pod = machine.pod(&format!("10.244.0.{last}")).await;
    let name = format!("pod-{last}");
    let echo = process(&["/test-program", "echo", "0.0.0.0:6443", &name]);
    let (running, mut output) = machine.run(&pod, echo).await;
    assert_eq!(first_line(&mut output), "listening");
    running
}

/// A connection, and the word that it was greeted with.
async fn greeted(stream: io::Result<TcpStream>) -> io::Result<(BufReader<TcpStream>, String)> {
    let mut stream = BufReader::new(stream?);
    let mut word = String::new();
    stream.read_line(&mut word).await?;
    word.pop();
    Ok((stream, word))
}

async fn to_service(machine: &Machine, address: &str) -> io::Result<(BufReader<TcpStream>, String)> {
    let stream = machine.isolation.connect(address.parse().unwrap()).await;
    let refused = |error: clusterwright_podlet::isolation::Error| {
        let source = std::error::Error::source(&error).unwrap();
        let kind = source.downcast_ref::<io::Error>().unwrap().kind();
        io::Error::from(kind)
    };
    greeted(stream.map_err(refused)).await
}

/// How often which pod answered.
async fn answers(machine: &Machine, times: usize) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for _ in 0..times {
        let (_, word) = to_service(machine, SERVICE).await.unwrap();
        *count.entry(word).or_default() += 1;
    }
    count
}

/// Says something, ends, and returns all that comes back.
async fn conversation(mut stream: BufReader<TcpStream>) -> String {
    stream.write_all(b"hello\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn pods_find_names() {
    for machine in machines!() {
        let mut network = network(&machine.isolation, None).await;
        let mut world = world(service(vec![]));
        let mut many = service((2..=200).map(|last| endpoint(last, true)).collect());
        many.addresses.clear();
        world.insert(("prod".to_owned(), "many".to_owned()), many);
        assert_eq!(network.apply(&world).await, [""; 0]);

        let pod = machine.pod("10.244.0.2").await;
        let mut root = machine.root();
        root.entries.push(Entry::File {
            path: "/etc/resolv.conf".to_owned(),
            content: "search prod.svc.cluster.local svc.cluster.local cluster.local\n\
                      nameserver 10.244.0.1\noptions ndots:5\n"
                .to_owned(),
            mode: 0o644,
        });
        let script = "getent ahostsv4 api | cut -d' ' -f1 | sort -u; \
                      getent ahostsv4 pod-7.many | cut -d' ' -f1 | sort -u; \
                      getent ahostsv4 many.prod.svc | cut -d' ' -f1 | sort -u | wc -l; \
                      getent hosts 10.96.0.7 | tr -s ' '; \
                      getent ahostsv4 nobody.prod.svc || echo $?; getent ahostsv4 example.com || echo $?";
        let (_running, output) = machine
            .run_in(&pod, root, process(&["sh", "-c", script]))
            .await
            .unwrap();
        // The hundreds take more than a datagram: asked for again over a connection.
        let expected = "10.96.0.7\n10.244.0.7\n199\n10.96.0.7 api.prod.svc.cluster.local\n2\n2\n";
        assert_eq!(output_of(output).await, expected);
    }
}

#[tokio::test]
async fn connections_are_spread_over_what_is_ready() {
    for machine in machines!() {
        let mut network = network(&machine.isolation, None).await;
        let refused = async || to_service(&machine, SERVICE).await.unwrap_err().kind();
        // Nobody has endpoints yet: refused at once, not waited for.
        assert_eq!(network.apply(&world(service(vec![]))).await, [""; 0]);
        assert_eq!(refused().await, ErrorKind::ConnectionRefused);

        let mut pods = [
            echo(&machine, 2).await,
            echo(&machine, 3).await,
            echo(&machine, 4).await,
        ];
        let three = vec![endpoint(2, true), endpoint(3, true), endpoint(4, false)];
        network.apply(&world(service(three))).await;
        let even: BTreeMap<_, _> = [("pod-2".to_owned(), 5), ("pod-3".to_owned(), 5)].into();
        assert_eq!(answers(&machine, 10).await, even);

        // Who is served by a pod that goes from the Service stays with it.
        let (stays, word) = to_service(&machine, SERVICE).await.unwrap();
        let other = if word == "pod-2" { 3 } else { 2 };
        network
            .apply(&world(service(vec![endpoint(other, true), endpoint(4, false)])))
            .await;
        let only: BTreeMap<_, _> = [(format!("pod-{other}"), 5)].into();
        assert_eq!(answers(&machine, 5).await, only);
        // The end of one direction is passed on, and the other goes on.
        assert_eq!(conversation(stays).await, "hello\nend\n");

        // None is ready: who ends still answers.
        network.apply(&world(service(vec![endpoint(4, false)]))).await;
        assert_eq!(answers(&machine, 2).await, [("pod-4".to_owned(), 2)].into());
        network.apply(&world(service(vec![]))).await;
        assert_eq!(refused().await, ErrorKind::ConnectionRefused);

        // A pod that has gone without a word: the next one is tried before anything is lost.
        let gone = &mut pods[0];
        gone.handle().signal(Signal::KILL).unwrap();
        gone.ended().await.unwrap();
        network
            .apply(&world(service(vec![endpoint(2, true), endpoint(3, true)])))
            .await;
        assert_eq!(answers(&machine, 6).await, [("pod-3".to_owned(), 6)].into());
        network.apply(&world(service(vec![endpoint(2, true)]))).await;
        // Without a next one the connection is reset.
        let refused = to_service(&machine, SERVICE).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset);

        // Pods reach it as the podlet does.
        network.apply(&world(service(vec![endpoint(3, true)]))).await;
        let pod = machine.pod("10.244.0.9").await;
        let script = "exec 3<>/dev/tcp/10.96.0.7/443; read word <&3; echo $word";
        let (_running, output) = machine.run(&pod, process(&["bash", "-c", script])).await;
        assert_eq!(output_of(output).await, "pod-3\n");

        // A Service that is gone has no address.
        network.apply(&World::new()).await;
        let (_running, output) = machine
            .run(
                &pod,
                process(&[
                    "bash",
                    "-c",
                    "timeout 1 bash -c '</dev/tcp/10.96.0.7/443' || echo gone",
                ]),
            )
            .await;
        assert!(output_of(output).await.ends_with("gone\n"));
    }
}

#[tokio::test]
async fn the_machine_reaches_load_balancers() {
    for machine in machines!() {
        let mut network = network(&machine.isolation, None).await;
        let _pod = echo(&machine, 2).await;
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = taken.local_addr().map(|address| (address.port(), taken)).unwrap();
        let mut balanced = service(vec![endpoint(2, true)]);
        balanced.reach = Reach::Balancer;
        balanced.balancer = vec![Ipv4Addr::new(198, 19, 0, 1)];
        balanced.host_ports = [(443, taken.0)].into();
        assert_eq!(network.apply(&world(balanced.clone())).await, [""; 0]);

        let (key, given) = network.given().next().unwrap();
        assert_eq!(key.1, 443);
        assert_eq!(given.refused.as_ref().map(|(number, _)| *number), Some(taken.0));
        let at = ("127.0.0.1", given.number);
        let (stream, word) = greeted(TcpStream::connect(at).await).await.unwrap();
        assert_eq!(word, "pod-2");
        assert_eq!(conversation(stream).await, "hello\nend\n");
        let (_, word) = to_service(&machine, "198.19.0.1:443").await.unwrap();
        assert_eq!(word, "pod-2");

        // The port stays while nobody answers.
        balanced.endpoints.clear();
        network.apply(&world(balanced)).await;
        let refused = greeted(TcpStream::connect(at).await).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
        network.apply(&World::new()).await;
        let refused = TcpStream::connect(at).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn pods_reach_the_api_server_of_the_machine() {
    for machine in machines!() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api_server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"api server\n").await.unwrap();
        });
        let mut network = network(&machine.isolation, Some(api_server)).await;
        let world = World::from([(("default".to_owned(), "kubernetes".to_owned()), service(vec![]))]);
        assert_eq!(network.apply(&world).await, [""; 0]);
        let (_, said) = to_service(&machine, SERVICE).await.unwrap();
        assert_eq!(said, "api server");
    }
}
