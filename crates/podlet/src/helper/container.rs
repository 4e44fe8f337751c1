//! Becomes a container's program: in the pod's namespaces, with a root of its own.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::thread::{UnshareFlags, move_into_link_name_space};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::wire::{ContainerOrder, Process, receive};
use super::{Doing, Failure, identity, mounts, unshare};

pub fn run(socket: &UnixStream) -> Result<(), Failure> {
    let Some((order, fds)) = receive::<ContainerOrder>(socket).doing(|| "read the order".to_owned())? else {
        return Ok(());
    };
    let mut fds = fds.into_iter();
    let streams = Streams::take(&mut fds)?;
    for namespace in fds {
        move_into_link_name_space(namespace.as_fd(), None)
            .doing(|| "enter the pod's namespaces".to_owned())?;
    }
    unshare(UnshareFlags::NEWNS).doing(|| "make a mount namespace".to_owned())?;
    mounts::change_root(&order.root)?;
    become_program(&order.process, streams)
}

/// Programs start with no signal ignored, whatever the podlet was started under: `nohup` and shells' background jobs
/// ignore some, and that is inherited. What is caught is as the system has it again once a program takes over.
fn heed_signals() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    let kinds = [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ];
    // The handlers stay when the listeners go.
    kinds.into_iter().try_for_each(|kind| signal(kind).map(drop))
}

/// Standard input, output and error.
pub struct Streams([OwnedFd; 3]);

impl Streams {
    pub fn take(fds: &mut impl Iterator<Item = OwnedFd>) -> Result<Self, Failure> {
        match (fds.next(), fds.next(), fds.next()) {
            (Some(input), Some(output), Some(error)) => Ok(Self([input, output, error])),
            _ => Err(Failure::because("take the streams", "some are missing")),
        }
    }
}

/// Replaces this program by the container's. The socket closes with that, which tells the podlet.
pub fn become_program(process: &Process, streams: Streams) -> Result<(), Failure> {
    let directory = match process.directory.as_str() {
        "" => "/",
        directory => directory,
    };
    if !Path::new(directory).exists() {
        std::fs::create_dir_all(directory).doing(|| format!("make {directory}"))?;
    }
    std::env::set_current_dir(directory).doing(|| format!("go to {directory}"))?;
    let Some((program, arguments)) = process.argv.split_first() else {
        return Err(Failure::because("start the program", "no command is given"));
    };
    // The podlet's terminal is not the pod's, and its signals neither.
    setsid().doing(|| "leave the podlet's session".to_owned())?;
    heed_signals().doing(|| "take back which signals are ignored".to_owned())?;
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    identity::assume(process)?;
    let Streams([input, output, error]) = streams;
    if process.terminal {
        ioctl_tiocsctty(&input).doing(|| "take the terminal".to_owned())?;
    }
    rustix::stdio::dup2_stdin(input).doing(|| "set standard input".to_owned())?;
    rustix::stdio::dup2_stdout(output).doing(|| "set standard output".to_owned())?;
    rustix::stdio::dup2_stderr(error).doing(|| "set standard error".to_owned())?;
    let failed = Command::new(OsStr::new(program))
        .args(arguments)
        .env_clear()
        .envs(&process.env)
        .exec();
    Err(Failure::of(starting(program, &failed), failed))
}

/// What failed. The kernel says of a script without its interpreter that it is not there, and the C library of a file
/// that is no program, since it tries /bin/sh for that.
fn starting(program: &str, failed: &io::Error) -> String {
    if failed.kind() == io::ErrorKind::NotFound && Path::new(program).is_file() {
        return format!(
            "start {program}, which is there but is no program for this machine, or its interpreter is missing"
        );
    }
    format!("start {program}")
}
