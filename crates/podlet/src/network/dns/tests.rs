use std::net::Ipv4Addr;

use proptest::prelude::*;
use serde_json::{Value, json};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

use super::{Transport, Zone, answer};
use crate::network::objects::world;

fn service(name: &str, spec: &Value) -> k8s_openapi::api::core::v1::Service {
    let service = json!({"metadata": {"name": name, "namespace": "prod"}, "spec": spec});
    serde_json::from_value(service).unwrap()
}

fn slice(service: &str, endpoints: &Value) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let slice = json!({
        "metadata": {
            "name": format!("{service}-abc"),
            "namespace": "prod",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "peer", "port": 2380, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    serde_json::from_value(slice).unwrap()
}

fn zone() -> Zone {
    let ports = json!([{"name": "https", "port": 443, "protocol": "TCP"}]);
    let services = [
        service(
            "web",
            &json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": ports}),
        ),
        service(
            "etcd",
            &json!({"clusterIP": "None", "clusterIPs": ["None"], "publishNotReadyAddresses": true}),
        ),
        service("ready", &json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        service("empty", &json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        service(
            "far",
            &json!({"type": "ExternalName", "externalName": "example.com"}),
        ),
        service(
            "near",
            &json!({"type": "ExternalName", "externalName": "Web.prod.svc.cluster.local."}),
        ),
        service(
            "loop",
            &json!({"type": "ExternalName", "externalName": "loop.prod.svc.cluster.local"}),
        ),
        service("many", &json!({"clusterIP": "None", "clusterIPs": ["None"]})),
    ];
    let members = json!([
        {"addresses": ["10.244.0.5"], "hostname": "etcd-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.6"], "hostname": "etcd-1", "conditions": {"ready": false}},
        {"addresses": ["10.244.0.8"], "conditions": {"ready": true}},
    ]);
    let many: Vec<Value> = (0..100)
        .map(|last| json!({"addresses": [format!("10.244.9.{last}")]}))
        .collect();
    let slices = [
        slice("etcd", &members),
        slice("ready", &members),
        slice("many", &json!(many)),
    ];
    Zone::new("cluster.local", &world(services.iter(), slices.iter()))
}

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).unwrap(),
        kind.into(),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

/// The code, the answers, and whether an authority says how long it holds.
fn ask(name: &str, kind: TYPE) -> (RCODE, Vec<String>, bool) {
    let reply = answer(&zone(), &question(name, kind), Transport::Stream).unwrap();
    let reply = Packet::parse(&reply).unwrap();
    assert_eq!(reply.id(), 7);
    assert_eq!(reply.questions[0].qname.to_string(), name);
    assert!(
        reply
            .answers
            .iter()
            .chain(&reply.name_servers)
            .all(|record| record.ttl <= 1)
    );
    let said = reply.answers.iter().map(|record| match &record.rdata {
        RData::A(address) => Ipv4Addr::from(address.address).to_string(),
        RData::CNAME(alias) => format!("alias {}", alias.0),
        RData::SRV(service) => format!("{}:{}", service.target, service.port),
        RData::PTR(name) => name.0.to_string(),
        other => format!("{other:?}"),
    });
    let authority = reply
        .name_servers
        .iter()
        .any(|record| matches!(&record.rdata, RData::SOA(soa) if soa.minimum <= 1));
    (reply.rcode(), said.collect(), authority)
}

fn found(name: &str, kind: TYPE) -> Vec<String> {
    let (code, answers, authority) = ask(name, kind);
    assert_eq!((code, authority), (RCODE::NoError, answers.is_empty()), "{name}");
    answers
}

#[test]
fn services_are_their_addresses() {
    assert_eq!(found("web.prod.svc.cluster.local", TYPE::A), ["10.96.0.7"]);
    assert_eq!(found("WEB.Prod.svc.CLUSTER.local", TYPE::A), ["10.96.0.7"]);
    assert!(found("web.prod.svc.cluster.local", TYPE::AAAA).is_empty());
    let port = found("_https._tcp.web.prod.svc.cluster.local", TYPE::SRV);
    assert_eq!(port, ["web.prod.svc.cluster.local:443"]);
    assert_eq!(
        found("7.0.96.10.in-addr.arpa", TYPE::PTR),
        ["web.prod.svc.cluster.local"]
    );
}

#[test]
fn headless_services_are_their_endpoints() {
    let all = ["10.244.0.5", "10.244.0.6", "10.244.0.8"];
    assert_eq!(found("etcd.prod.svc.cluster.local", TYPE::A), all);
    assert_eq!(
        found("ready.prod.svc.cluster.local", TYPE::A),
        ["10.244.0.5", "10.244.0.8"]
    );
    assert_eq!(
        found("etcd-1.etcd.prod.svc.cluster.local", TYPE::A),
        ["10.244.0.6"]
    );
    assert_eq!(
        found("10-244-0-8.etcd.prod.svc.cluster.local", TYPE::A),
        ["10.244.0.8"]
    );
    assert_eq!(
        ask("etcd-1.ready.prod.svc.cluster.local", TYPE::A),
        (RCODE::NameError, vec![], true)
    );
    let ports = found("_peer._tcp.ready.prod.svc.cluster.local", TYPE::SRV);
    let expected = [
        "10-244-0-8.ready.prod.svc.cluster.local:2380",
        "etcd-0.ready.prod.svc.cluster.local:2380",
    ];
    assert_eq!(ports, expected);
    // Who verifies a peer by its address finds its names.
    let names = found("5.0.244.10.in-addr.arpa", TYPE::PTR);
    assert_eq!(
        names,
        [
            "etcd-0.etcd.prod.svc.cluster.local",
            "etcd-0.ready.prod.svc.cluster.local"
        ]
    );
    assert!(found("empty.prod.svc.cluster.local", TYPE::A).is_empty());
}

#[test]
fn other_names_of_services() {
    assert_eq!(
        found("far.prod.svc.cluster.local", TYPE::A),
        ["alias example.com"]
    );
    assert_eq!(
        found("near.prod.svc.cluster.local", TYPE::A),
        ["alias web.prod.svc.cluster.local", "10.96.0.7"]
    );
    assert_eq!(found("loop.prod.svc.cluster.local", TYPE::A).len(), 8);
}

#[test]
fn what_is_not_there() {
    let gone = (RCODE::NameError, vec![], true);
    assert_eq!(ask("none.prod.svc.cluster.local", TYPE::A), gone);
    assert_eq!(ask("web.other.svc.cluster.local", TYPE::A), gone);
    assert_eq!(ask("x.web.prod.svc.cluster.local", TYPE::A), gone);
    // Names on the way to others are there, with nothing.
    assert!(found("prod.svc.cluster.local", TYPE::A).is_empty());
    assert!(found("cluster.local", TYPE::A).is_empty());
    // There is no way out for pods; nobody needs to come again for that.
    let outside = (RCODE::NameError, vec![], false);
    assert_eq!(ask("example.com", TYPE::A), outside);
    assert_eq!(ask("notcluster.local", TYPE::A), outside);
    assert_eq!(ask("9.9.9.9.in-addr.arpa", TYPE::PTR), outside);
}

#[test]
fn what_does_not_fit_is_asked_for_again() {
    let asked = question("many.prod.svc.cluster.local", TYPE::A);
    let reply = answer(&zone(), &asked, Transport::Datagram).unwrap();
    assert!(reply.len() <= 512);
    let reply = Packet::parse(&reply).unwrap();
    assert!(reply.has_flags(PacketFlag::TRUNCATION) && reply.answers.is_empty());
    let reply = answer(&zone(), &asked, Transport::Stream).unwrap();
    assert_eq!(Packet::parse(&reply).unwrap().answers.len(), 100);

    // Who says that it takes more gets it, within bounds.
    let mut larger = Packet::parse(&asked).unwrap();
    *larger.opt_mut() = Some(simple_dns::rdata::OPT {
        opt_codes: Vec::new(),
        udp_packet_size: 60_000,
        version: 0,
    });
    let asked = larger.build_bytes_vec().unwrap();
    let reply = answer(&zone(), &asked, Transport::Datagram).unwrap();
    assert!(reply.len() <= 1232);
    let reply = Packet::parse(&reply).unwrap();
    assert!(reply.opt().is_some() && reply.has_flags(PacketFlag::TRUNCATION));
}

/// The code that a question of these bytes is answered with.
fn code(question: &[u8]) -> Option<RCODE> {
    let reply = answer(&zone(), question, Transport::Datagram)?;
    Some(Packet::parse(&reply).unwrap().rcode())
}

#[test]
fn malformed_questions() {
    let good = question("web.prod.svc.cluster.local", TYPE::A);
    for length in 0..good.len() {
        let expected = (length >= 12).then_some(RCODE::FormatError);
        assert_eq!(code(&good[..length]), expected, "{length}");
    }
    // An answer is not answered: two servers would never stop.
    let mut reply = good.clone();
    reply[2] |= 0x80;
    assert_eq!(code(&reply), None);
    // Many questions, many records, none.
    for (at, count) in [(4, 2), (4, 255), (5, 0), (6, 255), (8, 255), (10, 255)] {
        let mut many = good.clone();
        many[at] = count;
        assert_eq!(code(&many), Some(RCODE::FormatError), "{at}");
    }
    let mut update = good.clone();
    update[2] = 5 << 3;
    assert_eq!(code(&update), Some(RCODE::NotImplemented));
    let mut chaos = good.clone();
    let last = chaos.len() - 1;
    chaos[last] = 3;
    assert_eq!(code(&chaos), Some(RCODE::Refused));
    // A name that points at itself, at what comes after it, and at nothing.
    for pointer in [[0xc0, 12], [0xc0, 14], [0xff, 0xff]] {
        let mut wound = good[..12].to_vec();
        wound.extend(pointer);
        wound.extend([0, 1, 0, 1]);
        assert_eq!(code(&wound), Some(RCODE::FormatError), "{pointer:?}");
    }
    // A name of more than 255 bytes.
    let mut long = good[..12].to_vec();
    for _ in 0..5 {
        long.push(63);
        long.extend([b'x'; 63]);
    }
    long.extend([0, 0, 1, 0, 1]);
    assert_eq!(code(&long), Some(RCODE::FormatError));
}

proptest! {
    #[test]
    fn any_bytes_are_answered_within_bounds_or_not_at_all(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        flips in proptest::collection::vec((0usize..60, any::<u8>()), 0..4),
    ) {
        let zone = zone();
        let mut near = question("near.prod.svc.cluster.local", TYPE::A);
        for (at, byte) in flips {
            if let Some(place) = near.get_mut(at) {
                *place = byte;
            }
        }
        for question in [bytes, near] {
            if let Some(reply) = answer(&zone, &question, Transport::Datagram) {
                prop_assert!(reply.len() <= 1232);
                prop_assert!(Packet::parse(&reply).is_ok());
                prop_assert_eq!(&reply[..2], &question[..2]);
            }
        }
    }
}

#[test]
fn everything_at_once_is_answered() {
    let mut packet = Packet::new_query(1);
    let name = Name::new("etcd-0.etcd.prod.svc.cluster.local").unwrap();
    packet
        .questions
        .push(Question::new(name, QTYPE::ANY, CLASS::IN.into(), false));
    let reply = answer(&zone(), &packet.build_bytes_vec().unwrap(), Transport::Datagram).unwrap();
    assert_eq!(Packet::parse(&reply).unwrap().answers.len(), 1);
}
