//! One podlet per folder, and the removal of what one that was killed has left.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::tree;

/// How long the helpers of a podlet that was killed have for their clean-up before they are ended.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Why a folder can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another podlet has it.
    #[error("another podlet runs in {}: end it, or give this one a folder of its own", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system refused something.
    #[error("failed to {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

impl InstanceError {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// The folder of a podlet, which is nobody else's until this is dropped.
#[derive(Debug)]
pub struct Instance {
    folder: PathBuf,
    /// The lock goes with it.
    _lock: File,
}

impl Instance {
    /// Takes a folder, and removes what an earlier podlet left in it: all but claims. Blocks for as long as that
    /// one's helpers take to end.
    ///
    /// # Errors
    /// If another podlet has it, or something can't be removed.
    pub fn take(folder: &Path) -> Result<Self, InstanceError> {
        let shown = folder.display();
        fs::create_dir_all(folder).map_err(InstanceError::io(format!("make {shown}")))?;
        let folder = folder
            .canonicalize()
            .map_err(InstanceError::io(format!("resolve {shown}")))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(InstanceError::io(format!("open the lock in {shown}")))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(InstanceError::Taken { folder }),
            Err(error) => return Err(InstanceError::io(format!("lock {shown}"))(error.into())),
        }
        let instance = Self { folder, _lock: lock };
        instance.clean()?;
        for folder in [instance.volatile(), instance.claims()] {
            let made = fs::create_dir_all(&folder);
            made.map_err(InstanceError::io(format!("make {}", folder.display())))?;
        }
        Ok(instance)
    }

    /// What is removed when the podlet ends.
    pub fn volatile(&self) -> PathBuf {
        self.folder.join("volatile")
    }

    /// What stays: claims.
    pub fn claims(&self) -> PathBuf {
        self.folder.join("claims")
    }

    fn record(&self) -> PathBuf {
        self.folder.join("helper")
    }

    /// Remembers which helper runs for this podlet.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn remember(&self, helper: u32) -> Result<(), InstanceError> {
        let Some(start) = start_of(helper) else {
            // It has ended, and will be missed elsewhere.
            return Ok(());
        };
        let text = format!("{helper} {start}\n");
        fs::write(self.record(), text).map_err(InstanceError::io("record the helper"))
    }

    /// Waits until the helper has ended, and sees to it that nothing but claims is left.
    ///
    /// # Errors
    /// If something can't be removed.
    pub fn clean(&self) -> Result<(), InstanceError> {
        if let Ok(text) = fs::read_to_string(self.record())
            && let Some((number, start)) = text.trim().split_once(' ')
            && let Ok(number) = number.parse()
        {
            end(number, start).map_err(InstanceError::io("end what a podlet that was killed left"))?;
        }
        let volatile = self.volatile();
        // Its helper may be removing it at this moment: what is gone by then is no error.
        let mut tries = 0;
        while let Err(error) = tree::remove(&volatile) {
            tries += 1;
            if tries > 20 {
                return Err(InstanceError::io(format!("remove {}", volatile.display()))(error));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        match fs::remove_file(self.record()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(InstanceError::io("remove the record of the helper")(error))
            }
            _ => Ok(()),
        }
    }
}

/// Removes the folder of a podlet that has ended or was killed, claims too; false where one is at work in it.
///
/// # Errors
/// If something can't be removed.
pub fn remove(folder: &Path) -> Result<bool, InstanceError> {
    let instance = match Instance::take(folder) {
        Err(InstanceError::Taken { .. }) => return Ok(false),
        taken => taken?,
    };
    let folder = instance.folder.clone();
    tree::remove(&folder).map_err(InstanceError::io(format!("remove {}", folder.display())))?;
    Ok(true)
}

/// When a process started, in a form that no other process of this machine's ever shares with its number.
fn start_of(process: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything. The start is the 20th word after it.
    let start = line.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{start} {}", boot.trim()))
}

/// Waits until a process has ended, and ends it if it does not. With it the kernel ends all that it made.
fn end(process: u32, start: &str) -> io::Result<()> {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    // Looked at after it is held: the number may have gone to another by now.
    if start_of(process).as_deref() != Some(start) {
        return Ok(());
    }
    let ended = |patience: &Timespec| poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(patience));
    if ended(&PATIENCE)? == 0 {
        tracing::warn!(
            process,
            "the helper of a podlet that was killed does not end; it is killed"
        );
        pidfd_send_signal(&handle, Signal::KILL)?;
        ended(&PATIENCE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_folder_is_one_podlets() {
        let folder = tempfile::tempdir().unwrap();
        let first = Instance::take(folder.path()).unwrap();
        let second = Instance::take(folder.path()).unwrap_err();
        assert!(
            second.to_string().starts_with("another podlet runs in "),
            "{second}"
        );
        assert!(!remove(folder.path()).unwrap());
        drop(first);
        Instance::take(folder.path()).unwrap();
        assert!(remove(folder.path()).unwrap());
        assert!(!folder.path().exists());
    }

    #[test]
    fn what_was_left_goes_and_claims_stay() {
        let folder = tempfile::tempdir().unwrap();
        let first = Instance::take(folder.path()).unwrap();
        fs::create_dir_all(first.volatile().join("pods/a")).unwrap();
        fs::create_dir_all(first.claims().join("data")).unwrap();
        let mut helper = Command::new("sleep").arg("0.2").spawn().unwrap();
        first.remember(helper.id()).unwrap();
        drop(first);
        let reaper = std::thread::spawn(move || helper.wait());
        let second = Instance::take(folder.path()).unwrap();
        // It was waited for.
        assert!(reaper.join().unwrap().unwrap().success());
        assert!(!second.volatile().join("pods").exists());
        assert!(second.claims().join("data").exists());
    }

    #[test]
    fn a_process_that_only_has_the_number_is_left_alone() {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        end(other.id(), "1 another-boot").unwrap();
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
