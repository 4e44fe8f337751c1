//! Reads a container's log as whoever asks wants it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use jiff::Timestamp;

use super::log_options::LogOptions;

/// So much is read at once.
const BLOCK: usize = 32 << 10;
/// A line of a log file is not longer than this, with its head.
const LONGEST: usize = 64 << 10;

/// A log that is being read.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: File,
    options: LogOptions,
    /// What was read of a line that has no end yet.
    begun: Vec<u8>,
    left: Option<u64>,
}

impl LogReader {
    /// Opens a log, at what is wanted of it.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(path: PathBuf, options: LogOptions) -> io::Result<Self> {
        let mut file = File::open(&path)?;
        if let Some(lines) = options.tail {
            let start = tail(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            path,
            file,
            left: options.limit,
            options,
            begun: Vec::new(),
        })
    }

    /// At its end: only what comes later.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open_at_end(path: PathBuf, options: LogOptions) -> io::Result<Self> {
        let mut reader = Self::open(path, options)?;
        reader.file.seek(SeekFrom::End(0))?;
        Ok(reader)
    }

    /// Whether no more is wanted.
    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// What comes next: none, if that is not written yet.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn next(&mut self) -> io::Result<Option<Vec<Line>>> {
        let mut block = vec![0; BLOCK];
        let mut read = self.file.read(&mut block)?;
        if read == 0 && self.turn()? {
            read = self.file.read(&mut block)?;
        }
        if read == 0 {
            return Ok(None);
        }
        self.begun.extend_from_slice(&block[..read]);
        let begun = std::mem::take(&mut self.begun);
        let mut lines = Vec::new();
        let mut rest = begun.as_slice();
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            lines.extend(self.line(&rest[..end]));
            rest = &rest[end + 1..];
        }
        // What is longer than any line is none.
        if rest.len() <= LONGEST {
            self.begun = rest.to_vec();
        }
        Ok(Some(lines))
    }

    /// Goes on in the file that has taken the place of the one that is read.
    fn turn(&mut self) -> io::Result<bool> {
        let Ok(there) = std::fs::metadata(&self.path) else {
            return Ok(false);
        };
        let turned = there.ino() != self.file.metadata()?.ino();
        if turned {
            self.file = File::open(&self.path)?;
        }
        Ok(turned)
    }

    /// A line as it is told. None, if it is not wanted or no line of a log.
    fn line(&mut self, line: &[u8]) -> Option<Line> {
        let mut parts = line.splitn(4, |&byte| byte == b' ');
        let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let written = std::str::from_utf8(time).ok()?;
        if let Some(since) = self.options.since
            && written.parse::<Timestamp>().ok()? < since
        {
            return None;
        }
        if self
            .options
            .stream
            .is_some_and(|wanted| wanted.as_bytes() != stream)
        {
            return None;
        }
        let mut told = Vec::with_capacity(line.len() + 1);
        if self.options.timestamps {
            told.extend_from_slice(time);
            told.push(b' ');
        }
        told.extend_from_slice(text);
        if tag == b"F" {
            told.push(b'\n');
        }
        if let Some(left) = &mut self.left {
            told.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= told.len() as u64;
        }
        Some(Line {
            error: stream == b"stderr",
            text: told,
        })
    }
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether it came from standard error.
    pub error: bool,
    /// What it says, with its end if it has one.
    pub text: Vec<u8>,
}

/// Where the last lines of a file begin.
fn tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut block = vec![0; BLOCK];
    let mut at = end;
    let mut ends = 0;
    while at > 0 {
        let length = usize::try_from(at).unwrap_or(BLOCK).min(BLOCK);
        at -= length as u64;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block[..length])?;
        for (place, _) in block[..length]
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            // The last byte of the file ends its last line.
            if at + place as u64 + 1 == end {
                continue;
            }
            ends += 1;
            if ends == lines {
                return Ok(at + place as u64 + 1);
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    const LOG: &str = "2026-01-01T00:00:00Z stdout F one\n\
                       2026-01-01T00:00:01.5Z stderr F two\n\
                       2026-01-01T00:00:02Z stdout P thr\n\
                       2026-01-01T00:00:03Z stdout F ee\n\
                       nonsense\n";

    fn read(reader: &mut LogReader) -> String {
        let mut text = Vec::new();
        while let Some(lines) = reader.next().unwrap() {
            text.extend(lines.into_iter().flat_map(|line| line.text));
        }
        String::from_utf8(text).unwrap()
    }

    fn told(text: &str, options: LogOptions) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(&path, text).unwrap();
        read(&mut LogReader::open(path, options).unwrap())
    }

    #[test]
    fn what_is_wanted_of_a_log() {
        let options = LogOptions::default;
        assert_eq!(told(LOG, options()), "one\ntwo\nthree\n");
        assert_eq!(
            told(
                LOG,
                LogOptions {
                    tail: Some(3),
                    ..options()
                }
            ),
            "three\n"
        );
        assert_eq!(
            told(
                LOG,
                LogOptions {
                    tail: Some(0),
                    ..options()
                }
            ),
            ""
        );
        assert_eq!(
            told(
                LOG,
                LogOptions {
                    tail: Some(100),
                    ..options()
                }
            ),
            "one\ntwo\nthree\n"
        );
        assert_eq!(
            told(
                LOG,
                LogOptions {
                    stream: Some("stderr"),
                    ..options()
                }
            ),
            "two\n"
        );
        let since = "2026-01-01T00:00:01.5Z".parse().ok();
        assert_eq!(told(LOG, LogOptions { since, ..options() }), "two\nthree\n");
        assert_eq!(
            told(
                LOG,
                LogOptions {
                    limit: Some(6),
                    ..options()
                }
            ),
            "one\ntw"
        );
        let timestamps = LogOptions {
            timestamps: true,
            tail: Some(5),
            ..options()
        };
        assert!(told(LOG, timestamps).starts_with("2026-01-01T00:00:00Z one\n2026-01-01T00:00:01.5Z two\n"));
    }

    #[test]
    fn the_last_of_many_lines() {
        let lines = |head: &str, from, to| {
            let lines = (from..to).map(|number: u32| format!("{head}{number}\n"));
            lines.collect::<Vec<_>>().concat()
        };
        let many = lines("2026-01-01T00:00:00Z stdout F ", 0, 20_000);
        let tail = told(
            &many,
            LogOptions {
                tail: Some(5000),
                ..LogOptions::default()
            },
        );
        assert_eq!(tail, lines("", 15_000, 20_000));
    }

    #[test]
    fn a_log_that_grows_and_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(&path, LOG).unwrap();
        let mut reader = LogReader::open_at_end(path.clone(), LogOptions::default()).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        write!(file, "2026-01-01T00:00:04Z stdout F fo").unwrap();
        assert_eq!(read(&mut reader), "");
        writeln!(file, "ur").unwrap();
        fs::rename(&path, folder.path().join("0.log.1")).unwrap();
        fs::write(&path, "2026-01-01T00:00:05Z stderr F five\n").unwrap();
        assert_eq!(read(&mut reader), "four\nfive\n");
        fs::remove_file(&path).unwrap();
        assert_eq!(reader.next().unwrap(), None);
    }
}
