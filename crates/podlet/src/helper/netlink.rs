//! Links, addresses and routes, by the kernel's netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with};

use super::{Doing, Failure};

/// The index of a network namespace's own loopback, which is always its first link.
const LOOPBACK: u32 = 1;

/// The network of the namespace that this process was in when it was opened.
pub struct Network {
    socket: OwnedFd,
}

impl Network {
    /// Opens the network of the present namespace.
    pub fn open() -> Result<Self, Failure> {
        let socket = socket_with(
            rustix::net::AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // Of netlink's protocols the first, which is routing.
            None,
        )
        .doing(|| "open a netlink socket".to_owned())?;
        Ok(Self { socket })
    }

    /// The index of a link of the present namespace.
    pub fn index(&self, name: &str) -> Result<u32, Failure> {
        netdevice::name_to_index(&self.socket, name).doing(|| format!("find the link {name}"))
    }

    /// Makes a bridge.
    pub fn add_bridge(&self, name: &str) -> Result<(), Failure> {
        let message = link(vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ]);
        self.create(RouteNetlinkMessage::NewLink(message))
            .doing(|| format!("make the bridge {name}"))
    }

    /// Makes a pair of links: `name` here, on the bridge with index `bridge`, and `inner` in the other namespace, with
    /// a hardware address.
    pub fn add_pair(
        &self,
        name: &str,
        bridge: u32,
        inner: &str,
        hardware: [u8; 6],
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Failure> {
        let peer = link(vec![
            LinkAttribute::IfName(inner.to_owned()),
            LinkAttribute::Address(hardware.to_vec()),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        ]);
        let mut message = link(vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        up(&mut message);
        self.create(RouteNetlinkMessage::NewLink(message))
            .doing(|| format!("make the links {name} and {inner}"))
    }

    /// Takes the loopback into use.
    pub fn loopback_up(&self) -> Result<(), Failure> {
        self.up(LOOPBACK)
    }

    /// Takes a link into use.
    pub fn up(&self, index: u32) -> Result<(), Failure> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        up(&mut message);
        self.request(RouteNetlinkMessage::SetLink(message), 0)
            .doing(|| format!("take link {index} into use"))
    }

    /// Gives a link an address.
    pub fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), Failure> {
        self.create(RouteNetlinkMessage::NewAddress(of_link(index, address, prefix)))
            .doing(|| format!("give link {index} the address {address}/{prefix}"))
    }

    /// Takes an address from a link.
    pub fn remove_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), Failure> {
        self.request(
            RouteNetlinkMessage::DelAddress(of_link(index, address, prefix)),
            0,
        )
        .doing(|| format!("take the address {address}/{prefix} from link {index}"))
    }

    /// Sends what goes elsewhere to `gateway`.
    pub fn add_default_route(&self, gateway: Ipv4Addr) -> Result<(), Failure> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
        self.create(RouteNetlinkMessage::NewRoute(message))
            .doing(|| format!("route to {gateway}"))
    }

    fn create(&self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.request(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sends a request and waits for the answer to it, the only one there can be.
    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut answer = vec![0; 32 << 10];
        let (_, length) = recv(&self.socket, answer.as_mut_slice(), RecvFlags::empty())?;
        let answer =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer.get(..length).unwrap_or_default())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match answer.payload {
            NetlinkPayload::Error(error) => match error.code {
                None => Ok(()),
                Some(_) => Err(error.to_io()),
            },
            other => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the kernel answered {other:?}"),
            )),
        }
    }
}

fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

fn of_link(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    message
}

fn up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}
