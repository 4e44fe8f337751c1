//! Child processes that never outlive the test.
//!
//! Each child leads a process group of its own. A *warden*, a small shell that holds the read end of a pipe, knows
//! the groups: when the pipe closes, because the [`Nursery`] is dropped or because the test's process itself was
//! killed, it kills them all and removes the temporary folder.

use crate::Error;
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const WARDEN: &str = r#"
groups=
while read -r group; do groups="$groups $group"; done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$1"
"#;

/// A temporary folder and the child processes that work in it.
#[derive(Debug)]
pub struct Nursery {
    folder: PathBuf,
    warden: Child,
    children: Vec<Process>,
}

/// One child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Nursery {
    /// An empty nursery with a new temporary folder.
    ///
    /// # Errors
    /// When the folder or the warden cannot be made.
    pub fn new() -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("clusterwright-")
            .tempdir()
            .map_err(Error::io("make a temporary folder"))?
            .keep();
        let warden = Command::new("/bin/sh")
            .args(["-c", WARDEN, "warden"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("start the warden of child processes"))?;
        Ok(Self {
            folder,
            warden,
            children: Vec::new(),
        })
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file in the folder and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io(format!("make {}", parent.display())))?;
        }
        fs::write(&path, content).map_err(Error::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Starts `program` in the folder, its output in `<name>.log`, with an environment of only `env`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn<A: AsRef<OsStr>>(
        &mut self,
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
    ) -> Result<(), Error> {
        let path = self.folder.join(format!("{name}.log"));
        let log = File::create(&path).map_err(Error::io(format!("make {}", path.display())))?;
        let errors = log
            .try_clone()
            .map_err(Error::io(format!("open {}", path.display())))?;
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .env("HOME", &self.folder)
            .envs(env.iter().copied())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {}", program.display())))?;
        if let Some(pipe) = &mut self.warden.stdin {
            writeln!(pipe, "{}", child.id()).map_err(Error::io("tell the warden of a child process"))?;
        }
        self.children.push(Process {
            name: name.to_owned(),
            log: path,
            child,
        });
        Ok(())
    }

    /// Kills the child `name` and waits for its end. Without such a child nothing happens.
    pub fn stop(&mut self, name: &str) {
        for process in self.children.iter_mut().filter(|process| process.name == name) {
            // A child that has ended already is what is wanted.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        self.children.retain(|process| process.name != name);
    }

    /// The resident memory of the child `name` in bytes, where the system tells it.
    pub fn resident_bytes(&self, name: &str) -> Option<u64> {
        let process = self.children.iter().find(|process| process.name == name)?;
        let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// The process id of the child `name`.
    pub fn id(&self, name: &str) -> Option<u32> {
        let process = self.children.iter().find(|process| process.name == name)?;
        Some(process.child.id())
    }

    /// Waits until `ready` answers `Ok`, the child `name` ends, or `within` has passed.
    ///
    /// # Errors
    /// In the latter two cases, with the end of the child's log.
    pub fn wait_for(
        &mut self,
        name: &str,
        within: Duration,
        mut ready: impl FnMut() -> Result<(), String>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let last = match ready() {
                Ok(()) => return Ok(()),
                Err(last) => last,
            };
            let Some(process) = self.children.iter_mut().find(|process| process.name == name) else {
                return Ok(());
            };
            let ended = process
                .child
                .try_wait()
                .map_err(Error::io(format!("wait for {name}")))?;
            let (name, log) = (process.name.clone(), process.log.clone());
            let tail = || {
                fs::read_to_string(&log).map_or_else(|error| error.to_string(), |text| last_lines(&text, 20))
            };
            if ended.is_some() {
                return Err(Error::Ended {
                    name,
                    tail: tail(),
                    log,
                });
            }
            if start.elapsed() > within {
                return Err(Error::NotReady {
                    name,
                    after: within,
                    last,
                    tail: tail(),
                    log,
                });
            }
            thread::sleep(Duration::from_millis(25));
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // The warden kills and removes; waiting for it makes the drop complete.
        drop(self.warden.stdin.take());
        let _ = self.warden.wait();
        for process in &mut self.children {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// A loopback port that nobody listens on, outside the range that outgoing connections use.
///
/// # Errors
/// When no port is free.
pub fn free_port() -> Result<u16, Error> {
    use std::hash::{BuildHasher, RandomState};
    let mut last = None;
    for _ in 0..64 {
        let spread = RandomState::new().hash_one(std::process::id()) % 12_000;
        let port = 20_000 + u16::try_from(spread).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(Error::Io {
        doing: "find a free port".to_owned(),
        source: last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()),
    })
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(id: u32) -> bool {
        fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn dropping_ends_the_children_and_theirs_and_removes_the_folder() {
        let mut nursery = Nursery::new().unwrap();
        let script = "sleep 1000 & echo $! > inner; wait";
        nursery
            .spawn(
                "sleeper",
                Path::new("/bin/sh"),
                ["-c", script],
                &[("PATH", "/bin:/usr/bin")],
            )
            .unwrap();
        let inner = nursery.folder().join("inner");
        let read = || fs::read_to_string(&inner).map_err(|error| error.to_string());
        let ready = || {
            read()?
                .trim()
                .parse::<u32>()
                .map(drop)
                .map_err(|error| error.to_string())
        };
        nursery
            .wait_for("sleeper", Duration::from_secs(10), ready)
            .unwrap();
        let inner: u32 = read().unwrap().trim().parse().unwrap();
        let (outer, folder) = (nursery.id("sleeper").unwrap(), nursery.folder().to_owned());
        assert!(alive(outer) && alive(inner));
        drop(nursery);
        // A killed process that is nobody's child here takes a moment to be gone.
        let patience = Instant::now() + Duration::from_secs(10);
        while alive(inner) && Instant::now() < patience {
            thread::yield_now();
        }
        assert!(!alive(outer) && !alive(inner) && !folder.exists());
    }

    #[test]
    fn a_child_that_ends_is_reported_with_its_last_words() {
        let mut nursery = Nursery::new().unwrap();
        nursery
            .spawn(
                "brief",
                Path::new("/bin/sh"),
                ["-c", "echo bad flag; exit 1"],
                &[],
            )
            .unwrap();
        let error = nursery
            .wait_for("brief", Duration::from_secs(10), || Err("no".into()))
            .unwrap_err();
        assert!(error.to_string().contains("bad flag"), "{error}");
    }

    #[test]
    fn a_child_that_is_never_ready_is_reported_with_the_last_answer() {
        let mut nursery = Nursery::new().unwrap();
        nursery
            .spawn("slow", Path::new("/bin/sleep"), ["1000"], &[])
            .unwrap();
        let error = nursery
            .wait_for("slow", Duration::ZERO, || Err("503".into()))
            .unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }
}
