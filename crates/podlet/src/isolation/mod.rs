//! Namespaces, networks and processes of pods, as the podlet asks its helpers for them.

mod channel;
mod error;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
pub use rustix::process::Signal;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, pidfd_send_signal, setrlimit};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use self::channel::{Channel, Connection};
pub use self::error::Error;
pub use crate::helper::Failure;
use crate::helper::wire::{ContainerOrder, Order, Report, Setup, SocketKind};
pub use crate::helper::wire::{Ending, Entry, Process, Root};
use crate::helper::{self, Role};

/// Where and how pods are isolated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program that is started as a helper: it calls [`helper::main_if_called`]. By default this one.
    pub helper: PathBuf,
    /// A folder that is removed, with all that is in it, when the podlet ends, however it ends.
    pub volatile: PathBuf,
    /// Whether to make a user namespace. By default only if this process isn't root.
    pub user_namespace: bool,
    /// The podlet's own address in the pods' network, which no pod may have.
    pub address: Ipv4Addr,
    /// How many bits of an address name the pods' network.
    pub prefix: u8,
}

impl Config {
    /// With the defaults: 10.244.0.1/16. The network is nobody else's, so that two podlets may have the same.
    pub fn new(volatile: impl Into<PathBuf>) -> Self {
        Self {
            helper: PathBuf::from("/proc/self/exe"),
            volatile: volatile.into(),
            user_namespace: !geteuid().is_root(),
            address: Ipv4Addr::new(10, 244, 0, 1),
            prefix: 16,
        }
    }
}

/// The podlet's namespaces. All that runs in them ends when this is dropped.
#[derive(Debug)]
pub struct Isolation {
    channel: Channel,
    user_namespace: bool,
    helper: u32,
}

/// The namespaces that a pod's containers share. They last as long as this or a process in them does.
#[derive(Clone, Debug)]
pub struct Namespaces(Arc<Vec<OwnedFd>>);

/// What a process reads and writes.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
}

/// A process in a container. It goes on if this is dropped.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    ended: oneshot::Receiver<Ending>,
}

/// What sends signals to a process.
#[derive(Clone, Debug)]
pub struct Handle(Arc<OwnedFd>);

impl Isolation {
    /// Makes the namespaces.
    ///
    /// # Errors
    /// If this machine refuses them, with the reason.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        raise_limit();
        let (ours, theirs) = pair()?;
        let role = if config.user_namespace {
            Role::UserEntrance
        } else {
            Role::Entrance
        };
        let mut command = helper::command(&config.helper, role, theirs);
        // Ctrl-C is for the podlet, which ends its pods in its own way.
        let mut entrance = command.process_group(0).spawn().map_err(Error::Start)?;
        let helper = entrance.id();
        // It holds the helper's end of the socket, whose end is how we learn of the helper's.
        drop(command);
        // It ends when we end or drop the socket; on a thread, so that it is reaped even when no runtime is left.
        std::thread::Builder::new()
            .name("podlet-entrance".to_owned())
            .spawn(move || entrance.wait())
            .map_err(Error::Start)?;
        let connection = Connection::new(ours)?;
        let setup = Setup {
            address: config.address,
            prefix: config.prefix,
            volatile: config.volatile.clone(),
        };
        match connection.ask(&setup, &[]).await? {
            Some(Report::Ready) => {}
            Some(Report::Failed(failure)) => return Err(Error::Unavailable(failure)),
            _ => return Err(Error::Gone),
        }
        Ok(Self {
            channel: Channel::open(connection),
            user_namespace: config.user_namespace,
            helper,
        })
    }

    /// The process with which all of them end.
    pub fn helper(&self) -> u32 {
        self.helper
    }

    /// Whether pods are in a user namespace, where there is a single user.
    pub fn single_user(&self) -> bool {
        self.user_namespace
    }

    /// Waits until the namespaces, and all that ran in them, are gone.
    pub async fn gone(&self) {
        self.channel.gone().await;
    }

    /// Ends them, whoever else holds this.
    pub fn end(&self) {
        self.channel.close();
    }

    /// Whether they are.
    pub fn is_gone(&self) -> bool {
        self.channel.is_gone()
    }

    /// Makes namespaces for a pod, and connects it under this address.
    pub async fn namespaces(&self, hostname: &str, address: Ipv4Addr) -> Result<Namespaces, Error> {
        let order = Order::Namespaces {
            hostname: hostname.to_owned(),
            address,
        };
        Ok(Namespaces(Arc::new(self.channel.order(order, &[]).await?)))
    }

    /// Starts a container's program. It has started when this returns.
    pub async fn container(
        &self,
        pod: &Namespaces,
        root: Root,
        process: Process,
        streams: Streams,
    ) -> Result<Running, Error> {
        let (ours, theirs) = pair()?;
        let started = self.channel.start(Order::Container, &[theirs.as_fd()]).await?;
        drop(theirs);
        let mut fds = streams.borrow();
        fds.extend(pod.0.iter().map(AsFd::as_fd));
        direct(ours, &ContainerOrder { root, process }, &fds).await?;
        Ok(started)
    }

    /// Starts another program in a container. It has started when this returns.
    pub async fn visit(&self, host: &Handle, process: Process, streams: Streams) -> Result<Running, Error> {
        let (ours, theirs) = pair()?;
        let fds = [theirs.as_fd(), host.0.as_fd()];
        let started = self.channel.start(Order::Visitor, &fds).await?;
        drop(theirs);
        let mut fds = streams.borrow();
        fds.push(host.0.as_fd());
        direct(ours, &process, &fds).await?;
        Ok(started)
    }

    /// Connects to a pod.
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream, Error> {
        connect(self.socket(SocketKind::Stream, &[]).await?, address).await
    }

    /// Connects from within a pod: to what listens at its own loopback.
    pub async fn connect_inside(&self, host: &Handle, address: SocketAddr) -> Result<TcpStream, Error> {
        connect(self.socket(SocketKind::Stream, &[host.0.as_fd()]).await?, address).await
    }

    /// Listens in the pods' network, at one of the podlet's addresses.
    pub async fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        let socket = self.socket(SocketKind::Listener(address), &[]).await?;
        TcpListener::from_std(std::net::TcpListener::from(socket)).map_err(Error::Talk)
    }

    /// Receives datagrams in the pods' network, at one of the podlet's addresses.
    pub async fn bind(&self, address: SocketAddr) -> Result<UdpSocket, Error> {
        let socket = self.socket(SocketKind::Datagram(address), &[]).await?;
        UdpSocket::from_std(std::net::UdpSocket::from(socket)).map_err(Error::Talk)
    }

    /// Gives the podlet another address in the pods' network.
    pub async fn add_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        let order = Order::Address {
            address,
            present: true,
        };
        self.channel.order(order, &[]).await.map(drop)
    }

    /// Takes it away again. Connections to it break.
    pub async fn remove_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        let order = Order::Address {
            address,
            present: false,
        };
        self.channel.order(order, &[]).await.map(drop)
    }

    async fn socket(&self, kind: SocketKind, host: &[BorrowedFd<'_>]) -> Result<OwnedFd, Error> {
        let fds = self.channel.order(Order::Socket(kind), host).await?;
        fds.into_iter().next().ok_or(Error::Gone)
    }
}

/// Lets this process and all that it starts have as many files open as they may: connections to Services take two
/// each, and container runtimes give pods as many as there can be.
fn raise_limit() {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Connects. A socket belongs to the network that it was made in, whoever uses it.
async fn connect(socket: OwnedFd, address: SocketAddr) -> Result<TcpStream, Error> {
    let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket
        .connect(address)
        .await
        .map_err(|source| Error::Connect { address, source })
}

/// Tells a process what to become, and waits until it has.
async fn direct(socket: OwnedFd, order: &impl serde::Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    match Connection::new(socket)?.ask(order, fds).await? {
        // The socket closes with the helper's program. If it was killed before, that shows in how it ended.
        None => Ok(()),
        Some(Report::Failed(failure)) => Err(Error::Refused(failure)),
        Some(_) => Err(Error::Gone),
    }
}

impl Streams {
    /// None: nothing to read, and what is written is lost.
    ///
    /// # Errors
    /// If `/dev/null` can't be opened.
    pub fn null() -> std::io::Result<Self> {
        let null = |write: bool| {
            let file = std::fs::OpenOptions::new()
                .read(!write)
                .write(write)
                .open("/dev/null")?;
            Ok::<OwnedFd, std::io::Error>(file.into())
        };
        Ok(Self {
            input: null(false)?,
            output: null(true)?,
            error: null(true)?,
        })
    }

    fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.input.as_fd(), self.output.as_fd(), self.error.as_fd()]
    }
}

impl Running {
    /// What sends signals to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If the helpers are gone, and it with them.
    pub async fn ended(&mut self) -> Result<Ending, Error> {
        (&mut self.ended).await.map_err(|_| Error::Gone)
    }
}

impl Handle {
    /// Sends a signal. A process that has ended takes none.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&*self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::Signal(error.into())),
        }
    }

    /// Whether it has ended, as far as the kernel knows.
    pub fn has_ended(&self) -> bool {
        let now = Timespec::default();
        poll(&mut [PollFd::new(&*self.0, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// A connected pair: ours and the helper's.
fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| Error::Talk(error.into()))
}
