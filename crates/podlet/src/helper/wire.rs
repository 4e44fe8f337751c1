//! What the podlet and its helpers say to each other: JSON frames over stream sockets, with file descriptors beside.
//!
//! A frame is its length (four bytes, little endian) and a JSON document. Descriptors travel with its first byte.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Failure;

/// At most this many descriptors go with a frame.
const MAX_FDS: usize = 8;
/// A frame is at most this long: far more than a Kubernetes object can be.
const MAX_FRAME: usize = 64 << 20;
/// The bytes before a frame's document.
pub(crate) const HEADER: usize = 4;

/// The first message to the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The bridge's address, which is the pods' gateway.
    pub address: Ipv4Addr,
    /// How many bits of an address name the network.
    pub prefix: u8,
    /// A folder that goes when the podlet does.
    pub volatile: PathBuf,
}

/// What the spawner is asked for. Each is answered by a [`Report`] with the same number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub number: u64,
    pub order: Order,
}

/// What the spawner can do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Namespaces of a pod. Answered with their descriptors: network, host name, IPC.
    Namespaces { hostname: String, address: Ipv4Addr },
    /// An address for the bridge, or one that it is to have no longer. Answered when that is so.
    Address { address: Ipv4Addr, present: bool },
    /// A socket in the podlet's network, or in that of the process whose pidfd is the descriptor. Answered with its own.
    Socket(SocketKind),
    /// A container: the first descriptor is the socket by which it is told the rest. Answered with a pidfd.
    Container,
    /// A visitor of the container whose pidfd is the second descriptor. Answered with a pidfd.
    Visitor,
}

/// Which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SocketKind {
    /// TCP, to connect by.
    Stream,
    /// TCP, that listens here.
    Listener(SocketAddr),
    /// UDP, bound here.
    Datagram(SocketAddr),
}

/// What a helper tells the podlet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The spawner stands.
    Ready,
    /// Done what was asked for under this number.
    Done(u64),
    /// Not done what was asked for under this number, and why.
    Refused(u64, Failure),
    /// The process started under this number has ended.
    Ended(u64, Ending),
    /// The helper ends, for this reason.
    Failed(Failure),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

impl Ending {
    /// The exit code as container runtimes give it: 128 more than the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// What a process is. Descriptors: standard input, output, error; then, for a container, the namespaces of its pod, and
/// for a visitor the pidfd of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program, as a path or to be found by `PATH`, and its arguments. The first is the program's own name.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts; made if it is not there.
    pub directory: String,
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
    /// More groups.
    pub groups: Vec<u32>,
    /// Capabilities that it may have, by name without `CAP_`; every other is taken away.
    pub capabilities: Vec<String>,
    /// Whether programs that it starts may gain privileges.
    pub no_new_privileges: bool,
    /// Whether standard input is a terminal, to be the one that controls it.
    pub terminal: bool,
}

/// A container's file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// An empty folder to build it at. Nothing is written into it: what is mounted there is seen by the container only.
    pub at: PathBuf,
    /// How many bytes may be written to it besides volumes.
    pub size: u64,
    /// Whether nothing may be written to it besides volumes.
    pub read_only: bool,
    /// What is in it, in the order in which it is made.
    pub entries: Vec<Entry>,
}

/// Something in a container's file system. Paths are absolute, as the container sees them; folders on the way are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// An empty folder.
    Folder {
        /// Where.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// A file.
    File {
        /// Where.
        path: String,
        /// What is in it.
        content: String,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: String,
        /// What it says.
        target: String,
    },
    /// A file or folder of the machine's.
    Bind {
        /// Where.
        path: String,
        /// What: an absolute path of the machine's.
        source: PathBuf,
        /// A path below `source`. It may be what a pod wrote: symbolic links do not lead out of `source`.
        below: Option<String>,
        /// Whether the container may only read it.
        read_only: bool,
    },
}

/// What a container is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerOrder {
    pub root: Root,
    pub process: Process,
}

/// The frame of a message.
pub(crate) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - HEADER).map_err(|_| too_long())?;
    frame[..HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// The length that a header gives.
pub(crate) fn length(header: [u8; HEADER]) -> io::Result<usize> {
    usize::try_from(u32::from_le_bytes(header))
        .ok()
        .filter(|&length| length <= MAX_FRAME)
        .ok_or_else(too_long)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the message is too long")
}

/// Sends as much of `bytes` as fits, with descriptors, and returns how much that was.
pub(crate) fn send_some(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    Ok(rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Reads what is there into `bytes`, and descriptors, and returns how many bytes that was.
pub(crate) fn receive_some(socket: impl AsFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}

/// Sends a message, and waits until it is sent.
pub(crate) fn send(
    mut socket: &UnixStream,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = frame(message)?;
    let sent = send_some(socket, &frame, fds)?;
    socket.write_all(&frame[sent..])
}

/// Waits for a message. `None` when the other side has gone.
pub(crate) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; HEADER];
    let mut fds = Vec::new();
    let mut filled = 0;
    while filled < HEADER {
        match receive_some(socket, &mut header[filled..], &mut fds) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut body = vec![0; length(header)?];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}
