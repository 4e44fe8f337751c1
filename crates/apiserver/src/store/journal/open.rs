//! Reading what an earlier server wrote.

use super::{HEADER, Journal, Log, Record, Unwritten, log_path, private, state_path};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server works in it.
    #[error("failed to use the data folder {}: another API server works in it; stop that one, or choose another folder", folder.display())]
    InUse {
        /// Which.
        folder: PathBuf,
    },
    /// The system refused something.
    #[error("failed to {what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was changed since it was written.
    #[error("failed to read line {line} of {}: {why}; put the folder back from a copy, or start with an empty one", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// What every server starts with could not be written.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    /// A key in the folder is none.
    #[error("failed to use {}: {why}; remove it, and the server makes another", file.display())]
    Key {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Group and plural.
pub(crate) type Kind = (String, String);
/// The JSON of the objects of a kind with its version, by key.
pub(crate) type Objects = BTreeMap<String, (u64, Box<[u8]>)>;

/// What was there when the last server ended.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The version of the last write.
    pub(crate) version: u64,
    /// Every object.
    pub(crate) objects: BTreeMap<Kind, Objects>,
}

impl Recovered {
    fn take(&mut self, record: &Record<'_>) {
        self.version = self.version.max(record.version);
        let kind = (record.kind.0.to_owned(), record.kind.1.to_owned());
        let objects = self.objects.entry(kind).or_default();
        let there = objects.get(record.key).map(|(version, _)| *version);
        if there.is_some_and(|version| version >= record.version) {
            return;
        }
        match record.json {
            Some(json) => objects.insert(record.key.to_owned(), (record.version, json.into())),
            None => objects.remove(record.key),
        };
    }

    /// Reads a file. Half a line at the end of a `last` one was never acknowledged: where that line would begin.
    fn read(&mut self, path: &Path, last: bool) -> Result<Option<u64>, OpenError> {
        let damaged = |line, why| OpenError::Damaged {
            file: path.to_owned(),
            line,
            why,
        };
        let file = File::open(path).map_err(OpenError::io("open", path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let (mut line, mut at) = (Vec::new(), 0_u64);
        for number in 1.. {
            line.clear();
            let bytes = reader
                .read_until(b'\n', &mut line)
                .map_err(OpenError::io("read", path))?;
            if bytes == 0 && number > 1 {
                break;
            }
            if line.pop_if(|end| *end == b'\n').is_none() {
                if last {
                    return Ok(Some(at));
                }
                return Err(damaged(number, "it has no end"));
            }
            if number == 1 {
                let version =
                    header(&line).ok_or_else(|| damaged(number, "this is not the head of a journal"))?;
                self.version = self.version.max(version);
            } else {
                let record =
                    Record::read(&line).ok_or_else(|| damaged(number, "it is not what was written"))?;
                self.take(&record);
            }
            at += bytes as u64;
        }
        Ok(None)
    }
}

/// The version in a header.
fn header(line: &[u8]) -> Option<u64> {
    let said = std::str::from_utf8(line).ok()?.strip_prefix(HEADER)?;
    said.strip_prefix(' ')?.parse().ok()
}

/// The numbers of the files with this ending, ascending.
fn generations(folder: &Path, ending: &str) -> io::Result<Vec<u64>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(ending));
        all.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    all.sort_unstable();
    Ok(all)
}

/// Removes the files that the state of a generation stands for.
pub(super) fn remove_before(folder: &Path, generation: u64) -> io::Result<()> {
    let old = |numbers: Vec<u64>| numbers.into_iter().filter(move |number| *number < generation);
    for number in old(generations(folder, ".log")?) {
        fs::remove_file(log_path(folder, number))?;
    }
    for number in old(generations(folder, ".state")?) {
        fs::remove_file(state_path(folder, number))?;
    }
    Ok(())
}

impl Journal {
    /// The journal in a folder, which is made where it is missing, and what it says.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Recovered), OpenError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(OpenError::io("make", folder))?;
        let lock = lock(folder)?;

        let mut recovered = Recovered::default();
        let list = |ending| generations(folder, ending).map_err(OpenError::io("list", folder));
        let state = list(".state")?.pop();
        if let Some(generation) = state {
            recovered.read(&state_path(folder, generation), false)?;
        }
        let logs: Vec<u64> = list(".log")?
            .into_iter()
            .filter(|log| state.is_none_or(|state| *log >= state))
            .collect();
        for log in &logs {
            let path = log_path(folder, *log);
            // A server goes on in the last log of the one before: only there can a line have been cut off.
            if let Some(end) = recovered.read(&path, Some(log) == logs.last())? {
                let cut = |path: &Path| private().write(true).open(path)?.set_len(end);
                cut(&path).map_err(OpenError::io("cut half a line off", &path))?;
            }
        }
        let version = recovered.version;
        let (log, generation) = match (logs.last(), state) {
            (Some(log), _) => (Log::resume(folder, *log, version), *log),
            (None, state) => {
                let next = state.unwrap_or_default() + 1;
                (Log::begin(folder, next, version), next)
            }
        };
        let log = log.map_err(OpenError::io("write", &log_path(folder, generation)))?;
        let journal = Self {
            folder: folder.to_owned(),
            log: Mutex::new(log),
            compacting: Mutex::default(),
            grown: Mutex::default(),
            lock,
        };
        Ok((journal, recovered))
    }
}

/// Keeps other servers out. The system frees it with the process, however that ends.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let file = private()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::io("lock", &path)(source)),
    }
}
