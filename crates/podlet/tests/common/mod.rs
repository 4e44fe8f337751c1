//! A machine for pods, once as root and once in a user namespace, as far as this one has them.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses a part"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use clusterwright_podlet::image::Image;
use clusterwright_podlet::isolation::{
    Config, Ending, Entry, Error, Isolation, Namespaces, Process, Root, Running, Streams,
};
use rustix::process::geteuid;
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_podlet-test-program");
const MEBIBYTE: u64 = 1 << 20;

pub struct Machine {
    pub isolation: Arc<Isolation>,
    pub folder: TempDir,
    pub user_namespace: bool,
}

impl Machine {
    pub async fn start(user_namespace: bool) -> Result<Self, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("volatile/root")).unwrap();
        let mut config = Config::new(folder.path().join("volatile"));
        config.helper = PathBuf::from(PROGRAM);
        config.user_namespace = user_namespace;
        Ok(Self {
            isolation: Arc::new(Isolation::start(&config).await?),
            folder,
            user_namespace,
        })
    }

    /// As root, where this is root, and in a user namespace.
    pub async fn all() -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        if geteuid().is_root() {
            all.push(Self::start(false).await?);
        }
        all.push(Self::start(true).await?);
        Ok(all)
    }

    pub fn volatile(&self) -> PathBuf {
        self.folder.path().join("volatile")
    }

    /// The machine's own programs, which are read-only.
    pub fn root(&self) -> Root {
        let entries = shell_image().entries();
        Root {
            at: self.volatile().join("root"),
            size: 16 * MEBIBYTE,
            read_only: false,
            entries,
        }
    }

    pub async fn pod(&self, address: &str) -> Namespaces {
        let address: Ipv4Addr = address.parse().unwrap();
        self.isolation.namespaces("pod-name", address).await.unwrap()
    }

    pub async fn run(&self, pod: &Namespaces, process: Process) -> (Running, std::io::PipeReader) {
        self.run_in(pod, self.root(), process).await.unwrap()
    }

    pub async fn run_in(
        &self,
        pod: &Namespaces,
        root: Root,
        process: Process,
    ) -> Result<(Running, std::io::PipeReader), Error> {
        let (streams, reader) = piped();
        let running = self.isolation.container(pod, root, process, streams).await?;
        Ok((running, reader))
    }
}

/// An image with this machine's programs and the test program.
pub fn shell_image() -> Image {
    let own = ["/usr", "/bin"].map(|path| (path.to_owned(), PathBuf::from(path)));
    let mut files = BTreeMap::from(own);
    files.insert("/test-program".to_owned(), PathBuf::from(PROGRAM));
    Image {
        files,
        libraries: true,
        ..Image::default()
    }
}

/// Streams whose output and errors come out of the pipe.
pub fn piped() -> (Streams, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let error: OwnedFd = writer.try_clone().unwrap().into();
    let streams = Streams {
        output: writer.into(),
        error,
        ..Streams::null().unwrap()
    };
    (streams, reader)
}

/// A program of root's, with what root may do in containers.
pub fn process(argv: &[&str]) -> Process {
    Process {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: [("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())].into(),
        capabilities: vec!["KILL".to_owned(), "CHOWN".to_owned()],
        ..Process::default()
    }
}

/// All that comes out of a pipe until it closes.
pub async fn output_of(mut reader: std::io::PipeReader) -> String {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    })
    .await
    .unwrap()
}

/// Runs a script in a pod of its own, and returns how it ended and what it said.
pub async fn sh(machine: &Machine, address: &str, script: &str) -> (Ending, String) {
    let pod = machine.pod(address).await;
    let (mut running, reader) = machine.run(&pod, process(&["sh", "-c", script])).await;
    let output = output_of(reader).await;
    (running.ended().await.unwrap(), output)
}

/// The machines, or the test is skipped.
macro_rules! machines {
    () => {
        match $crate::common::Machine::all().await {
            Ok(machines) => machines,
            Err(error @ clusterwright_podlet::isolation::Error::Unavailable(_)) => {
                clusterwright_testkit::skip!("{error}")
            }
            Err(error) => panic!("{error}"),
        }
    };
}
pub(crate) use machines;

/// The next line that comes out of a pipe.
pub fn first_line(reader: &mut std::io::PipeReader) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while reader.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Waits until something holds. It is given half a minute, which only a failure takes.
pub async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it does not come to hold");
}

/// As [`until`], for what has to be asked for.
pub async fn until_async(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it does not come to hold");
}
