//! From a question's bytes to those of its answer.

use simple_dns::rdata::{CNAME, OPT, PTR, RData, SOA, SRV};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use super::zone::{Records, Zone};

/// How long an answer holds, in seconds; also that a name is not there. Pods come and go.
const TTL: u32 = 1;
/// The bytes before the first question.
const HEADER: usize = 12;
/// A datagram is no longer than this if the asker does not say that it takes more (RFC 1035).
const SMALL: usize = 512;
/// Nor longer than this in any case: it goes over a bridge in one piece.
const LARGE: u16 = 1232;
/// A message over TCP has two bytes for its length.
const LARGEST: usize = 65_535;
/// At most so many records go with a question: one says how it is asked, others are signatures.
const MOST_ADDITIONAL: u16 = 8;
/// At most so many names are followed from one to the next.
const MOST_ALIASES: usize = 8;

/// How an answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram.
    Datagram,
    /// Over a connection.
    Stream,
}

/// Answers a question. `None` where there is nobody to answer: it is no question, or too short to be one.
pub fn answer(zone: &Zone, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]));
    let (id, flags) = (word(0)?, word(2)?);
    if question.len() < HEADER || flags & PacketFlag::RESPONSE.bits() != 0 {
        return None;
    }
    let opcode = (flags >> 11) & 0xf;
    let mut reply = Packet::new_reply(id);
    let counts = [word(4)?, word(6)?, word(8)?];
    if opcode != 0 {
        *reply.opcode_mut() = OPCODE::from(opcode);
        *reply.rcode_mut() = RCODE::NotImplemented;
        return write(&reply, LARGEST);
    }
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if flags & PacketFlag::RECURSION_DESIRED.bits() != 0 {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    // Looked at before anything is made room for. Nobody asks two questions at once.
    let asked = (counts == [1, 0, 0] && word(10)? <= MOST_ADDITIONAL).then(|| Packet::parse(question));
    let Some(Ok(mut asked)) = asked else {
        *reply.rcode_mut() = RCODE::FormatError;
        return write(&reply, LARGEST);
    };
    let mut room = SMALL;
    if let Some(options) = asked.opt() {
        room = options.udp_packet_size.clamp(512, LARGE).into();
        *reply.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: LARGE,
            version: 0,
        });
        if options.version != 0 {
            *reply.rcode_mut() = RCODE::BADVERS;
            return write(&reply, LARGEST);
        }
    }
    if transport == Transport::Stream {
        room = LARGEST;
    }
    reply.questions = std::mem::take(&mut asked.questions);
    let question = reply.questions.first()?.clone();
    if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
        *reply.rcode_mut() = RCODE::Refused;
        return write(&reply, room);
    }
    fill(zone, &mut reply, &question.qname, question.qtype);
    write(&reply, room)
}

/// Answers, authorities and the code.
fn fill<'a>(zone: &'a Zone, reply: &mut Packet<'a>, asked: &Name<'a>, kind: QTYPE) {
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    // The owner is written as it was asked for, whatever its case.
    let mut owner = asked.clone();
    let mut name = asked.to_string().to_ascii_lowercase();
    for _ in 0..MOST_ALIASES {
        let Some(records) = zone.get(&name) else {
            // A name outside that another led to is for the asker to look for.
            if reply.answers.is_empty() {
                *reply.rcode_mut() = RCODE::NameError;
            }
            break;
        };
        reply
            .answers
            .extend(data(records, kind).map(|data| record(owner.clone(), data)));
        let Some((alias, target)) = records
            .alias
            .as_ref()
            .and_then(|alias| Some((alias, Name::new(alias).ok()?)))
        else {
            break;
        };
        reply
            .answers
            .push(record(owner, RData::CNAME(CNAME(target.clone()))));
        if matches!(kind, QTYPE::TYPE(TYPE::CNAME) | QTYPE::ANY) {
            break;
        }
        name.clone_from(alias);
        owner = target;
    }
    let domain = zone.domain();
    let ours = name
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if reply.answers.is_empty() && ours {
        reply.name_servers.extend(authority(domain));
    }
}

/// Who is to be believed, which also says how long a name is not there.
fn authority(domain: &str) -> Option<ResourceRecord<'_>> {
    let data = SOA {
        mname: Name::new(&format!("ns.dns.{domain}")).ok()?.into_owned(),
        rname: Name::new(&format!("hostmaster.{domain}")).ok()?.into_owned(),
        serial: 1,
        refresh: 7200,
        retry: 1800,
        expire: 86_400,
        minimum: TTL,
    };
    Some(record(Name::new(domain).ok()?, RData::SOA(data)))
}

fn record<'a>(owner: Name<'a>, data: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(owner, CLASS::IN, TTL, data)
}

/// What of a name's records is asked for.
fn data(records: &Records, kind: QTYPE) -> impl Iterator<Item = RData<'_>> {
    let wants = move |of: TYPE| kind == QTYPE::ANY || kind == QTYPE::TYPE(of);
    let addresses = records.addresses.iter().filter(move |_| wants(TYPE::A));
    let services = records.services.iter().filter(move |_| wants(TYPE::SRV));
    let pointers = records.pointers.iter().filter(move |_| wants(TYPE::PTR));
    let services = services.filter_map(|(port, target)| {
        Some(RData::SRV(SRV {
            priority: 0,
            weight: 100,
            port: *port,
            target: Name::new(target).ok()?,
        }))
    });
    let pointers = pointers.filter_map(|name| Some(RData::PTR(PTR(Name::new(name).ok()?))));
    addresses
        .map(|address| RData::A((*address).into()))
        .chain(services)
        .chain(pointers)
}

/// The bytes of a reply. Where they are too many, the asker is told to come again over a connection.
fn write(reply: &Packet<'_>, room: usize) -> Option<Vec<u8>> {
    let written = |reply: &Packet<'_>| {
        let bytes = reply.build_bytes_vec_compressed();
        bytes
            .inspect_err(|error| tracing::warn!(%error, "failed to write a DNS answer"))
            .ok()
    };
    let bytes = written(reply)?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    let mut short = reply.clone();
    short.set_flags(PacketFlag::TRUNCATION);
    short.answers.clear();
    short.name_servers.clear();
    written(&short)
}
