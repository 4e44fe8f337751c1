//! Writes on disk, so that a server that is killed loses nothing that it acknowledged.
//!
//! A write is a line in `N.log` before anyone is told of it. When a log has grown, the next one is begun and the
//! objects as they are then go to `N.state`, which stands for all logs before it; writes that happen in between are
//! in both, which does no harm: a line counts only where its version is newer than what is there.
//!
//! Lines are handed to the system and not forced to the disk: what is killed is the process. A machine that loses its
//! power may lose the last seconds.

mod line;
mod open;

pub(crate) use line::Record;
pub use open::OpenError;
pub(crate) use open::{Kind, Objects, Recovered};

use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

/// The first words of every file, and the format's number; the version of the last write before it follows.
const HEADER: &str = "clusterwright-journal 1";
/// A log is not replaced before it has so many bytes.
const LEAST: u64 = 16 * 1024 * 1024;

/// A write that could not be kept, and so was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to keep the write in {}: {why}", file.display())]
pub struct Unwritten {
    file: PathBuf,
    why: String,
}

/// The files of a server.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    log: Mutex<Log>,
    /// Held while a state is being written.
    compacting: Mutex<()>,
    /// Whom to tell that a log has grown; none before the server stands.
    grown: Mutex<Option<Sender<()>>>,
    /// Keeps other servers out for as long as it is locked.
    lock: File,
}

#[derive(Debug)]
struct Log {
    file: File,
    generation: u64,
    bytes: u64,
    /// How many bytes are worth a new state.
    limit: u64,
    /// Why nothing may be written any more.
    ended: Option<&'static str>,
}

/// The file has half a line at its end that could not be taken back.
const TORN: &str = "an earlier line could not be taken back; start the server again";
/// Another server may be at work by now.
const CLOSED: &str = "the server was closed";

impl Log {
    /// A new log.
    fn begin(folder: &Path, generation: u64, version: u64) -> io::Result<Self> {
        let path = log_path(folder, generation);
        private().append(true).create_new(true).open(&path)?;
        Self::resume(folder, generation, version).inspect_err(|_| {
            // The next attempt needs the name.
            let _ = fs::remove_file(&path);
        })
    }

    /// The log that is there, which may be empty yet.
    fn resume(folder: &Path, generation: u64, version: u64) -> io::Result<Self> {
        let mut file = private().append(true).open(log_path(folder, generation))?;
        if file.metadata()?.len() == 0 {
            file.write_all(format!("{HEADER} {version}\n").as_bytes())?;
        }
        Ok(Self {
            bytes: file.metadata()?.len(),
            file,
            generation,
            limit: LEAST,
            ended: None,
        })
    }
}

/// Where the log of a generation is.
fn log_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{generation:012}.log"))
}

/// Where the state at the start of a generation is.
fn state_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{generation:012}.state"))
}

/// A file for its owner alone: there are Secrets in it.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Journal {
    /// Keeps a write; called before it is done.
    pub(crate) fn append(&self, record: &Record<'_>) -> Result<(), Unwritten> {
        let mut line = Vec::with_capacity(128 + record.json.map_or(0, <[u8]>::len));
        record.write(&mut line);
        let mut log = self.log.lock();
        let refused = |log: &Log, why: String| Unwritten {
            file: log_path(&self.folder, log.generation),
            why,
        };
        if let Some(why) = log.ended {
            return Err(refused(&log, why.to_owned()));
        }
        if let Err(error) = log.file.write_all(&line) {
            // What came through must not stand before the next line.
            if log.file.set_len(log.bytes).is_err() {
                log.ended = Some(TORN);
            }
            return Err(refused(&log, error.to_string()));
        }
        log.bytes += line.len() as u64;
        if log.bytes >= log.limit {
            // Asked once a log, and again where it could not be done.
            log.limit = log.bytes + LEAST;
            if let Some(grown) = &*self.grown.lock() {
                // Nobody listens when the server is going down.
                let _ = grown.send(());
            }
        }
        Ok(())
    }

    /// From now on, the disk is full.
    #[cfg(test)]
    pub(super) fn fill(&self) {
        self.log.lock().file = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("a full device");
    }

    /// Ends all writes and lets other servers in.
    pub(crate) fn close(&self) {
        let _compacting = self.compacting.lock();
        let mut log = self.log.lock();
        log.ended = Some(CLOSED);
        // If that fails, the lock goes with the process.
        let _ = self.lock.unlock();
    }

    /// From now on, tells that a log has grown; at once where it has by now.
    pub(super) fn tell(&self, grown: Sender<()>) {
        let log = self.log.lock();
        if log.bytes >= log.limit {
            let _ = grown.send(());
        }
        *self.grown.lock() = Some(grown);
    }

    /// Puts a state in the place of the logs: begins a log, writes the objects that `all` then gives, and removes
    /// what they stand for. `version` is the version of the last write at any time.
    pub(super) fn compact(
        &self,
        version: &dyn Fn() -> u64,
        all: &dyn Fn(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        let _compacting = self.compacting.lock();
        let generation = {
            let mut log = self.log.lock();
            if let Some(why) = log.ended {
                return Err(io::Error::other(why));
            }
            *log = Log::begin(&self.folder, log.generation + 1, version())?;
            log.generation
        };
        let unfinished = self.folder.join("unfinished.state");
        let bytes = write_state(&unfinished, version, all).inspect_err(|_| {
            // The logs stay, so that nothing is lost by it.
            let _ = fs::remove_file(&unfinished);
        })?;
        fs::rename(&unfinished, state_path(&self.folder, generation))?;
        File::open(&self.folder)?.sync_all()?;
        {
            let mut log = self.log.lock();
            log.limit = LEAST.max(2 * bytes);
        }
        open::remove_before(&self.folder, generation)
    }
}

/// A state that is being written.
pub(super) struct State {
    writer: BufWriter<File>,
    line: Vec<u8>,
    bytes: u64,
}

impl State {
    /// Adds an object as the write that it is of.
    pub(super) fn add(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.line.clear();
        record.write(&mut self.line);
        self.bytes += self.line.len() as u64;
        self.writer.write_all(&self.line)
    }
}

/// Writes a whole state; how large it is.
fn write_state(
    path: &Path,
    version: &dyn Fn() -> u64,
    all: &dyn Fn(&mut State) -> io::Result<()>,
) -> io::Result<u64> {
    let file = private().write(true).create(true).truncate(true).open(path)?;
    let mut state = State {
        writer: BufWriter::new(file),
        line: Vec::new(),
        bytes: 0,
    };
    writeln!(state.writer, "{HEADER} {}", version())?;
    all(&mut state)?;
    let file = state
        .writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(state.bytes)
}
