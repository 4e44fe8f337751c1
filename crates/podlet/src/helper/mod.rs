//! The processes between the podlet and its pods: this program again, with one thread and one duty each.
//!
//! ```text
//! podlet ── entrance            makes the podlet's namespaces, waits for the spawner
//!            └─ spawner         PID 1 of them: makes pods' network namespaces, starts and reaps containers
//!                ├─ container   PID 1 of its own namespace; builds its root and becomes the container's program
//!                └─ visitor     enters a container's namespaces and becomes the program to run there
//! ```
//!
//! Each has a socket to the podlet as its standard input, by which it is told what to do. The entrance and the spawner
//! stay. The spawner ends when its socket does, that is, with the podlet however that ends, and the kernel ends
//! everything below with it.

mod container;
mod entrance;
mod identity;
mod mounts;
mod netlink;
mod spawner;
mod visitor;
pub(crate) mod wire;

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::thread::UnshareFlags;

/// What a helper is called: the name by which it knows itself, and which `ps` shows.
const NAME: &str = "clusterwright-podlet";
/// What a helper runs that starts another one.
const ITSELF: &str = "/proc/self/exe";

/// What a helper is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Makes the podlet's namespaces.
    Entrance,
    /// The same, in a user namespace.
    UserEntrance,
    /// The first process in them.
    Spawner,
    /// Becomes the first process of a container.
    Container,
    /// Becomes another process in a container.
    Visitor,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Entrance,
        Self::UserEntrance,
        Self::Spawner,
        Self::Container,
        Self::Visitor,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Entrance => "entrance",
            Self::UserEntrance => "user-entrance",
            Self::Spawner => "spawner",
            Self::Container => "container",
            Self::Visitor => "visitor",
        }
    }
}

/// Does a helper's work if this process was started as one, and returns how it is to exit then.
///
/// Call it first in `main`, before any thread exists:
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     if let Some(code) = clusterwright_podlet::helper::main_if_called() {
///         return code;
///     }
///     // The program.
///     ExitCode::SUCCESS
/// }
/// ```
pub fn main_if_called() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next()? != NAME {
        return None;
    }
    let role = args.next()?;
    let role = Role::ALL.into_iter().find(|known| role == known.name())?;
    let socket = match take_socket() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{NAME}: failed to take the socket to the podlet: {error}");
            return Some(ExitCode::FAILURE);
        }
    };
    let failure = match role {
        Role::Entrance => entrance::run(&socket, false),
        Role::UserEntrance => entrance::run(&socket, true),
        Role::Spawner => spawner::run(&socket),
        Role::Container => container::run(&socket),
        Role::Visitor => visitor::run(&socket),
    };
    Some(match failure {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If nobody listens any more, nobody wants to know.
            let _ = wire::send(&socket, &wire::Report::Failed(failure), &[]);
            ExitCode::FAILURE
        }
    })
}

/// A helper that is about to be started as `program`, with `socket` to whoever directs it.
pub(crate) fn command(program: &Path, role: Role, socket: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command
        .arg0(NAME)
        .arg(role.name())
        .stdin(socket)
        .stdout(Stdio::null());
    command
}

/// Starts another helper from a helper.
fn start(role: Role, socket: OwnedFd) -> Result<Child, Failure> {
    command(ITSELF.as_ref(), role, socket)
        .spawn()
        .map_err(|error| Failure::of("start a helper", error))
}

/// Takes the socket from standard input, and leaves `/dev/null` there.
fn take_socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Leaves namespaces for new ones.
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "what makes it deprecated is FILES, which is never among the flags"
    )]
    rustix::thread::unshare(flags)?;
    Ok(())
}

/// What a helper failed to do.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("failed to {what}: {why}")]
pub struct Failure {
    what: String,
    why: String,
    /// The system's number, where there is one.
    code: Option<i32>,
}

impl Failure {
    /// Whether what was to be started or opened is not there.
    pub fn is_not_found(&self) -> bool {
        self.code == Some(rustix::io::Errno::NOENT.raw_os_error())
    }

    fn of(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self {
            what: what.into(),
            code: error.raw_os_error(),
            why: error.to_string(),
        }
    }

    fn because(what: impl Into<String>, why: impl Display) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
            code: None,
        }
    }
}

/// Adds to an error what was about to be done.
trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(what(), error))
    }
}

/// How messages name a path.
fn shown(path: impl AsRef<OsStr>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}
