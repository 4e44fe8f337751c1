//! A container's log: lines as container runtimes write them, in files of bounded size.
//!
//! A line is `TIME STREAM TAG TEXT`, where the tag is `F` for a whole line and `P` for a part of one. Beside the file
//! lie older parts of it, `.1` the youngest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clusterwright_clock::Clock;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// A file is no longer than this, as the kubelet's `containerLogMaxSize`.
const MAX_SIZE: u64 = 10 << 20;
/// There are so many of them, as the kubelet's `containerLogMaxFiles`.
const MAX_FILES: u32 = 5;
/// A line that is longer is written in parts, as containerd does.
const MAX_LINE: usize = 16 << 10;
/// How much of a log stands in for last words.
const TAIL_LINES: usize = 80;
const TAIL_BYTES: usize = 2048;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Output => "stdout",
            Self::Error => "stderr",
        }
    }
}

/// The log of one run of a container.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    clock: Clock,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    size: u64,
    max_size: u64,
    failed: bool,
}

impl Log {
    /// Begins the log of the run after `restarts` restarts, in a container's folder. Of older runs the last is kept.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn create(folder: &Path, restarts: u32, clock: Clock) -> io::Result<Self> {
        Self::with_size(folder, restarts, clock, MAX_SIZE)
    }

    fn with_size(folder: &Path, restarts: u32, clock: Clock, max_size: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        if let Some(old) = restarts.checked_sub(2) {
            let old = Self::file(folder, old);
            remove(&old)?;
            for part in 1..MAX_FILES {
                remove(&part_of(&old, part))?;
            }
        }
        let path = Self::file(folder, restarts);
        let file = open(&path)?;
        let size = file.metadata()?.len();
        let writer = Writer {
            file,
            size,
            max_size,
            failed: false,
        };
        Ok(Self {
            path,
            clock,
            writer: Mutex::new(writer),
        })
    }

    /// The file of the run after `restarts` restarts.
    pub fn file(folder: &Path, restarts: u32) -> PathBuf {
        folder.join(format!("{restarts}.log"))
    }

    /// Writes all that comes out of a pipe, until it closes. What can't be written is dropped: the program goes on.
    pub async fn copy(&self, stream: Stream, mut pipe: Receiver) {
        let mut buffer = vec![0; MAX_LINE];
        let mut filled = 0;
        loop {
            let read = match pipe.read(&mut buffer[filled..]).await {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, log = %self.path.display(), "failed to read what a container writes");
                    0
                }
            };
            let end = filled + read;
            // At the end, what is left is a line that was never finished.
            let written = self.lines(stream, &buffer[..end], read == 0);
            if read == 0 {
                return;
            }
            buffer.copy_within(written..end, 0);
            filled = end - written;
        }
    }

    /// Writes the lines in `bytes`, and returns how much that was. A line that has no end yet is left, unless there is
    /// no room for more of it.
    fn lines(&self, stream: Stream, bytes: &[u8], last: bool) -> usize {
        let time = self.clock.now();
        let mut text = Vec::with_capacity(bytes.len() + 64);
        let mut taken = 0;
        let mut add = |tag: &str, line: &[u8]| {
            text.extend_from_slice(format!("{time} {} {tag} ", stream.name()).as_bytes());
            text.extend_from_slice(line);
            text.push(b'\n');
        };
        while let Some(length) = bytes[taken..].iter().position(|&byte| byte == b'\n') {
            add("F", &bytes[taken..taken + length]);
            taken += length + 1;
        }
        if taken < bytes.len() && (last || (taken == 0 && bytes.len() == MAX_LINE)) {
            add("P", &bytes[taken..]);
            taken = bytes.len();
        }
        if !text.is_empty() {
            self.write(&text);
        }
        taken
    }

    fn write(&self, text: &[u8]) {
        let mut writer = self.writer.lock();
        let written = writer.write(&self.path, text);
        if let Err(error) = &written
            && !writer.failed
        {
            tracing::warn!(%error, log = %self.path.display(), "failed to write a container's log; what it writes is lost");
        }
        writer.failed = written.is_err();
    }

    /// The end of what was written, without times and streams.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        let mut tail = String::new();
        for line in &lines[from..] {
            let mut words = line.splitn(4, ' ').skip(2);
            let (tag, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            tail.push_str(text);
            if tag == "F" {
                tail.push('\n');
            }
        }
        let mut from = tail.len().saturating_sub(TAIL_BYTES);
        while !tail.is_char_boundary(from) {
            from += 1;
        }
        tail.split_off(from)
    }
}

impl Writer {
    fn write(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        let length = text.len() as u64;
        if self.size > 0 && self.size + length > self.max_size {
            for part in (1..MAX_FILES - 1).rev() {
                match fs::rename(part_of(path, part), part_of(path, part + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::rename(path, part_of(path, 1))?;
            self.file = open(path)?;
            self.size = 0;
        }
        self.file.write_all(text)?;
        self.size += length;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn part_of(path: &Path, part: u32) -> PathBuf {
    path.with_extension(format!("log.{part}"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn clock() -> Clock {
        Clock::at(Timestamp::UNIX_EPOCH)
    }

    async fn copied(log: &Log, texts: &[&[u8]]) {
        let (reader, mut writer) = io::pipe().unwrap();
        for text in texts {
            writer.write_all(text).unwrap();
        }
        drop(writer);
        log.copy(Stream::Output, Receiver::from_owned_fd(reader.into()).unwrap())
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn lines_and_parts_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path(), 0, clock()).unwrap();
        let endless = vec![b'x'; MAX_LINE + 3];
        copied(&log, &[b"one\n\ntwo\n", &endless, b"\nunfinished"]).await;
        let text = fs::read_to_string(folder.path().join("0.log")).unwrap();
        let expected = [
            "F one".to_owned(),
            "F ".to_owned(),
            "F two".to_owned(),
            format!("P {}", "x".repeat(MAX_LINE)),
            "F xxx".to_owned(),
            "P unfinished".to_owned(),
        ];
        let expected: Vec<String> = expected
            .iter()
            .map(|line| format!("1970-01-01T00:00:00Z stdout {line}"))
            .collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(log.tail().ends_with("xxx\nunfinished"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::with_size(folder.path(), 3, clock(), 1000).unwrap();
        for _ in 0..100 {
            copied(&log, &[&[b'y'; 150], b"\n"]).await;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert!(entry.metadata().unwrap().len() <= 1000);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["3.log", "3.log.1", "3.log.2", "3.log.3", "3.log.4"]);
        // Of earlier runs one is kept.
        Log::create(folder.path(), 4, clock()).unwrap();
        assert!(folder.path().join("3.log.4").exists());
        Log::create(folder.path(), 5, clock()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
