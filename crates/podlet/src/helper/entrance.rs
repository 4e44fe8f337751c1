//! Makes the podlet's namespaces, and waits while the spawner works in them.
//!
//! A process can't enter a PID namespace that it makes: only its children are in it. Hence two processes.

use std::fs;
use std::os::unix::net::UnixStream;

use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::identity::Mapping;
use super::{Doing, Failure, Role, start, unshare};

pub fn run(socket: &UnixStream, user: bool) -> Result<(), Failure> {
    // What whoever started the podlet left open is not for pods.
    close_fds::set_fds_cloexec(3, &[]);
    let settings = Settings::read();
    if user {
        let mapping = Mapping {
            user: 0,
            group: 0,
            outer_user: geteuid().as_raw(),
            outer_group: getegid().as_raw(),
        };
        unshare(UnshareFlags::NEWUSER).doing(|| format!("make a user namespace{}", settings.shown()))?;
        mapping.write()?;
    }
    for (flag, name) in [
        (UnshareFlags::NEWNS, "mount"),
        (UnshareFlags::NEWNET, "network"),
        (UnshareFlags::NEWPID, "PID"),
        (UnshareFlags::NEWIPC, "IPC"),
        (UnshareFlags::NEWUTS, "host name"),
    ] {
        unshare(flag).doing(|| format!("make a {name} namespace{}", settings.shown()))?;
    }
    let spawner = socket.try_clone().doing(|| "hand the socket on".to_owned())?;
    let mut spawner = start(Role::Spawner, spawner.into())?;
    spawner.wait().doing(|| "wait for the spawner".to_owned())?;
    Ok(())
}

/// Settings of this machine by which it refuses namespaces.
struct Settings(Vec<(String, &'static str)>);

impl Settings {
    /// Reads them, before a user namespace shows its own instead.
    fn read() -> Self {
        let limits = ["user", "mnt", "net", "pid", "ipc", "uts"]
            .map(|kind| (format!("/proc/sys/user/max_{kind}_namespaces"), "0"));
        let others = [
            ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            // Ubuntu lets any program make a user namespace, and refuses all others in it.
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        ];
        let others = others.map(|(path, refuses)| (path.to_owned(), refuses));
        let holds =
            |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|found| found.trim() == value);
        Self(
            limits
                .into_iter()
                .chain(others)
                .filter(|(path, value)| holds(path, value))
                .collect(),
        )
    }

    /// Those that refuse, for a message.
    fn shown(&self) -> String {
        let shown: Vec<_> = self
            .0
            .iter()
            .map(|(path, value)| format!(" ({path} is {value})"))
            .collect();
        shown.concat()
    }
}
