//! The first process of the podlet's PID namespace, and the only parent of containers.
//!
//! It has one thread, because who makes a namespace leaves its own: for the time of an order it is in the pod's, and
//! then goes back. What must not fail is the way back; if that does, it ends, and with it everything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
    move_into_thread_name_spaces,
};

use super::netlink::Network;
use super::wire::{Ending, Order, Report, Request, Setup, SocketKind, receive, send};
use super::{Doing, Failure, Role, start, unshare};
use crate::tree;

const BRIDGE: &str = "pods";
/// What a pod calls its own link, as pods everywhere do.
const INNER: &str = "eth0";
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

pub fn run(socket: &UnixStream) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).doing(|| "follow the entrance".to_owned())?;
    let Some((setup, _)) = receive::<Setup>(socket).doing(|| "read the set-up".to_owned())? else {
        return Ok(());
    };
    // Before anything is mounted: or it would show on the machine.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "keep mounts private".to_owned())?;
    let mut spawner = Spawner::new(&setup)?;
    tell(socket, &Report::Ready, &[])?;
    let served = spawner.serve(socket);
    spawner.end_all();
    let removed = tree::remove(&setup.volatile).doing(|| format!("remove {}", setup.volatile.display()));
    served.and(removed)
}

fn tell(socket: &UnixStream, report: &Report, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    send(socket, report, fds).doing(|| "report to the podlet".to_owned())
}

struct Spawner {
    home: Home,
    network: Network,
    bridge: u32,
    gateway: Ipv4Addr,
    prefix: u8,
    /// How many pairs of links have been made.
    pairs: u32,
    /// Processes by the number of the order that started them.
    running: BTreeMap<u64, OwnedFd>,
}

impl Spawner {
    fn new(setup: &Setup) -> Result<Self, Failure> {
        let network = Network::open()?;
        network.loopback_up()?;
        network.add_bridge(BRIDGE)?;
        let bridge = network.index(BRIDGE)?;
        network.add_address(bridge, setup.address, setup.prefix)?;
        network.up(bridge)?;
        Ok(Self {
            home: Home::here()?,
            network,
            bridge,
            gateway: setup.address,
            prefix: setup.prefix,
            pairs: 0,
            running: BTreeMap::new(),
        })
    }

    /// Until the podlet has gone.
    fn serve(&mut self, socket: &UnixStream) -> Result<(), Failure> {
        loop {
            let numbers: Vec<u64> = self.running.keys().copied().collect();
            let mut events: Vec<PollFd<'_>> = self
                .running
                .values()
                .map(|process| PollFd::new(process, PollFlags::IN))
                .collect();
            events.push(PollFd::new(socket, PollFlags::IN));
            match poll(&mut events, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::of("wait", error)),
            }
            let asked = events.pop().is_some_and(|event| !event.revents().is_empty());
            let ended: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
            for (number, _) in numbers.into_iter().zip(ended).filter(|(_, ended)| *ended) {
                self.reap(number, socket)?;
            }
            if asked {
                let Some((request, fds)) = receive(socket).doing(|| "read an order".to_owned())? else {
                    return Ok(());
                };
                self.answer(request, fds, socket)?;
            }
        }
    }

    fn reap(&mut self, number: u64, socket: &UnixStream) -> Result<(), Failure> {
        let Some(process) = self.running.remove(&number) else {
            return Ok(());
        };
        let status = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)
            .doing(|| "learn how a process ended".to_owned())?;
        let ending = match status {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ending::Exited(code),
                (None, signal) => Ending::Killed(signal.unwrap_or_default()),
            },
            None => Ending::Killed(0),
        };
        tell(socket, &Report::Ended(number, ending), &[])
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>, socket: &UnixStream) -> Result<(), Failure> {
        let number = request.number;
        let mut fds = fds.into_iter();
        let done = match request.order {
            Order::Namespaces { hostname, address } => self.namespaces(&hostname, address)?,
            Order::Address { address, present } => self.address(address, present).map(|()| Vec::new()),
            Order::Socket(kind) => self.socket(kind, fds.next().as_ref())?,
            Order::Container => self.start(number, Role::Container, fds.next(), None)?,
            Order::Visitor => self.start(number, Role::Visitor, fds.next(), fds.next().as_ref())?,
        };
        match done {
            Ok(fds) => {
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                tell(socket, &Report::Done(number), &fds)
            }
            Err(failure) => tell(socket, &Report::Refused(number, failure), &[]),
        }
    }

    /// Makes a pod's namespaces. The outer error is one that this process can't go on after.
    fn namespaces(
        &mut self,
        hostname: &str,
        address: Ipv4Addr,
    ) -> Result<Result<Vec<OwnedFd>, Failure>, Failure> {
        let made = in_new_namespaces(hostname);
        self.home.back()?;
        let (inside, fds) = match made {
            Ok(made) => made,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self.connect(&inside, address, &fds[0]).map(|()| fds))
    }

    /// Opens a socket here, or in the network of a process.
    fn socket(
        &self,
        kind: SocketKind,
        host: Option<&OwnedFd>,
    ) -> Result<Result<Vec<OwnedFd>, Failure>, Failure> {
        let Some(host) = host else {
            return Ok(open_socket(kind).map(|socket| vec![socket]));
        };
        let opened = move_into_thread_name_spaces(host.as_fd(), ThreadNameSpaceType::NETWORK)
            .doing(|| "enter a container's network".to_owned())
            .and_then(|()| open_socket(kind));
        self.home.back()?;
        Ok(opened.map(|socket| vec![socket]))
    }

    /// Gives the bridge another address, or takes one from it. That it is so already is no error.
    fn address(&self, address: Ipv4Addr, present: bool) -> Result<(), Failure> {
        let (changed, already) = if present {
            (self.network.add_address(self.bridge, address, 32), Errno::EXIST)
        } else {
            (
                self.network.remove_address(self.bridge, address, 32),
                Errno::ADDRNOTAVAIL,
            )
        };
        match changed {
            Err(failure) if failure.code != Some(already.raw_os_error()) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Connects a pod's network with the bridge.
    fn connect(&mut self, inside: &Network, address: Ipv4Addr, namespace: &OwnedFd) -> Result<(), Failure> {
        self.pairs += 1;
        let outer = format!("pod{}", self.pairs);
        // Made from the address, so that whoever knows the address of a pod that is gone finds the next one by it.
        let [a, b, c, d] = address.octets();
        let hardware = [0x0a, 0x58, a, b, c, d];
        self.network
            .add_pair(&outer, self.bridge, INNER, hardware, namespace.as_fd())?;
        // The first link after the loopback.
        let link = 2;
        inside.add_address(link, address, self.prefix)?;
        inside.up(link)?;
        inside.add_default_route(self.gateway)
    }

    /// Starts a helper in a new PID namespace, or in that of `host`.
    fn start(
        &mut self,
        number: u64,
        role: Role,
        socket: Option<OwnedFd>,
        host: Option<&OwnedFd>,
    ) -> Result<Result<Vec<OwnedFd>, Failure>, Failure> {
        let entered = match host {
            None => unshare(UnshareFlags::NEWPID).doing(|| "make a PID namespace".to_owned()),
            Some(host) => move_into_thread_name_spaces(host.as_fd(), ThreadNameSpaceType::PROCESS_ID)
                .doing(|| "enter a container's PID namespace".to_owned()),
        };
        let started = entered.and_then(|()| {
            let socket = socket.ok_or_else(|| Failure::because("start a helper", "its socket is missing"))?;
            start(role, socket)
        });
        self.home.children_back()?;
        let opened = started.and_then(|child| {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| Failure::because("start a helper", "it has no number"))?;
            pidfd_open(pid, PidfdFlags::empty()).doing(|| "hold on to a helper".to_owned())
        });
        let process = match opened {
            Ok(process) => process,
            Err(failure) => return Ok(Err(failure)),
        };
        let copy = process.try_clone().doing(|| "copy a descriptor".to_owned());
        self.running.insert(number, process);
        Ok(copy.map(|copy| vec![copy]))
    }

    fn end_all(&mut self) {
        for process in self.running.values() {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        while let Some((_, process)) = self.running.pop_first() {
            let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// Steps into new namespaces, and returns their network and descriptors: network, host name, IPC.
fn in_new_namespaces(hostname: &str) -> Result<(Network, Vec<OwnedFd>), Failure> {
    unshare(UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
        .doing(|| "make a pod's namespaces".to_owned())?;
    rustix::system::sethostname(hostname.as_bytes()).doing(|| format!("set the host name {hostname}"))?;
    // Every port is free for every user, as container runtimes have it.
    let ports = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    fs::write(ports, "0").doing(|| format!("write {ports}"))?;
    let inside = Network::open()?;
    inside.loopback_up()?;
    Ok((inside, Home::open(&["net", "uts", "ipc"])?))
}

/// A socket in the present network.
fn open_socket(kind: SocketKind) -> Result<OwnedFd, Failure> {
    let open = |kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::INET, kind, flags, None).doing(|| "open a socket".to_owned())
    };
    let bind = |socket: &OwnedFd, address: &SocketAddr| {
        rustix::net::bind(socket, address).doing(|| format!("listen at {address}"))
    };
    match kind {
        SocketKind::Stream => open(SocketType::STREAM),
        SocketKind::Listener(address) => {
            let socket = open(SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&socket, true).doing(|| "set up a socket".to_owned())?;
            bind(&socket, &address)?;
            rustix::net::listen(&socket, BACKLOG).doing(|| format!("listen at {address}"))?;
            Ok(socket)
        }
        SocketKind::Datagram(address) => {
            let socket = open(SocketType::DGRAM)?;
            bind(&socket, &address)?;
            Ok(socket)
        }
    }
}

/// The spawner's own namespaces.
struct Home {
    links: Vec<OwnedFd>,
    processes: OwnedFd,
}

impl Home {
    fn here() -> Result<Self, Failure> {
        let mut links = Self::open(&["net", "uts", "ipc", "pid"])?;
        let processes = links
            .pop()
            .ok_or_else(|| Failure::because("open namespaces", "none"))?;
        Ok(Self { links, processes })
    }

    fn open(names: &[&str]) -> Result<Vec<OwnedFd>, Failure> {
        names
            .iter()
            .map(|name| {
                let path = Path::new("/proc/self/ns").join(name);
                File::open(&path)
                    .map(OwnedFd::from)
                    .doing(|| format!("open {}", path.display()))
            })
            .collect()
    }

    fn back(&self) -> Result<(), Failure> {
        for link in &self.links {
            move_into_link_name_space(link.as_fd(), None).doing(|| "return to a namespace".to_owned())?;
        }
        Ok(())
    }

    fn children_back(&self) -> Result<(), Failure> {
        move_into_link_name_space(self.processes.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .doing(|| "return to the PID namespace".to_owned())
    }
}
