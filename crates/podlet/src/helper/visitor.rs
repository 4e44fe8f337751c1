//! Becomes a program in a container that runs already.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::container::{Streams, become_program};
use super::wire::{Process, receive};
use super::{Doing, Failure};

pub fn run(socket: &UnixStream) -> Result<(), Failure> {
    let Some((process, fds)) = receive::<Process>(socket).doing(|| "read the order".to_owned())? else {
        return Ok(());
    };
    let mut fds = fds.into_iter();
    let streams = Streams::take(&mut fds)?;
    let host = fds
        .next()
        .ok_or_else(|| Failure::because("enter the container", "it is not named"))?;
    // The mount namespace brings the container's root with it.
    let spaces = ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::MOUNT;
    move_into_thread_name_spaces(host.as_fd(), spaces).doing(|| "enter the container".to_owned())?;
    become_program(&process, streams)
}
