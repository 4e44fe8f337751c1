//! The binary as a child process that a test reads, signals and ends.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod control_plane;
pub mod hosted;
pub mod processes;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with nothing of the user's environment that it would heed.
pub fn clusterwright(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterwright"));
    command
        .args(args)
        .env_remove("KUBECONFIG")
        .env_remove("LOG_LEVEL")
        .stdin(Stdio::null());
    command
}

/// A running binary, killed where a test fails before it ends. What it says is always read, so that it never waits for
/// a test that is busy elsewhere.
pub struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self {
            child,
            out: lines(out),
            err: lines(err),
        }
    }

    /// The next line of its standard output that starts so, without that.
    pub fn line(&mut self, start: &str) -> String {
        let found = self
            .out
            .iter()
            .find_map(|line| Some(line.strip_prefix(start)?.trim_end().to_owned()));
        found.unwrap_or_else(|| panic!("no line {start:?}; {}", self.err.iter().collect::<String>()))
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; gives its status, and what it printed and was not read yet.
    pub fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        while !self.has_ended() {
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = self.out.iter().chain(self.err.iter()).collect();
        (self.child.wait().unwrap(), said)
    }
}

/// The lines that a program prints, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        while matches!(from.read_line(&mut line), Ok(1..)) && sender.send(std::mem::take(&mut line)).is_ok() {
        }
    });
    receiver
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
