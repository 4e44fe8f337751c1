//! Commands in containers.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{Gid, Uid, fchown};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::streams::{PIECE, Sink, Source};
use crate::isolation::{Ending, Error, Handle, Isolation, Process, Signal, Streams};

/// For how long what a command left in the background may say nothing before it is not listened to any more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a command talks to.
#[derive(Debug)]
pub struct Talk {
    /// What it reads.
    pub input: Option<Source>,
    /// Where its output goes.
    pub output: Option<Sink>,
    /// Where its errors go.
    pub error: Option<Sink>,
    /// The size of its terminal, as it changes. Without it there is no terminal.
    pub sizes: Option<Source>,
    /// Where it is told how it ended.
    pub status: Sink,
}

/// Runs a command in a container, and tells how it ended. If the other side goes before, it is killed.
pub async fn run(
    isolation: &Isolation,
    host: &Handle,
    container: &Process,
    command: Vec<String>,
    talk: Talk,
) {
    let mut process = Process {
        argv: command,
        terminal: talk.sizes.is_some(),
        ..container.clone()
    };
    if process.terminal {
        process
            .env
            .entry("TERM".to_owned())
            .or_insert_with(|| "xterm".to_owned());
    }
    let Talk {
        input,
        output,
        error,
        sizes,
        status,
    } = talk;
    let told = match start(isolation, &process, input, output, error, sizes) {
        Ok((streams, tasks)) => {
            let ended = end(isolation, host, process, streams, &status, tasks).await;
            ended.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let told = match told {
        Ok(None) => return,
        Ok(Some(Ending::Exited(0))) => json!({"metadata": {}, "status": "Success"}),
        Ok(Some(ending)) => failed(ending.code()),
        Err(why) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: error executing command in container: {why}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": format!("error executing command in container: {why}")}]},
            "code": 500,
        }),
    };
    // If the other side has gone, nobody needs to know.
    let _ = status.send(Bytes::from(told.to_string())).await;
}

fn failed(code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// What copies between a command and the other side.
#[derive(Default)]
struct Tasks {
    input: Vec<JoinHandle<()>>,
    output: Vec<JoinHandle<()>>,
    /// Whether the command has ended.
    over: CancellationToken,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.input.iter().chain(&self.output) {
            task.abort();
        }
    }
}

/// Runs it. `None` if the other side has gone.
async fn end(
    isolation: &Isolation,
    host: &Handle,
    process: Process,
    streams: Streams,
    status: &Sink,
    mut tasks: Tasks,
) -> Result<Option<Ending>, Error> {
    let mut visitor = isolation.visit(host, process, streams).await?;
    let ending = tokio::select! {
        ending = visitor.ended() => ending?,
        () = status.gone() => {
            visitor.handle().signal(Signal::KILL)?;
            return Ok(None);
        }
    };
    tasks.over.cancel();
    for task in &mut tasks.output {
        // It ends by itself, and with the other side.
        let _ = task.await;
    }
    Ok(Some(ending))
}

fn start(
    isolation: &Isolation,
    process: &Process,
    input: Option<Source>,
    output: Option<Sink>,
    error: Option<Sink>,
    sizes: Option<Source>,
) -> io::Result<(Streams, Tasks)> {
    if let Some(sizes) = sizes {
        return terminal(isolation, process, input, output, sizes);
    }
    let mut streams = Streams::null()?;
    let mut tasks = Tasks::default();
    if let Some(mut input) = input {
        let (theirs, ours) = io::pipe()?;
        streams.input = theirs.into();
        let mut ours = pipe::Sender::from_owned_fd(ours.into())?;
        tasks.input.push(tokio::spawn(async move {
            while let Some(data) = input.recv().await {
                if ours.write_all(&data).await.is_err() {
                    return;
                }
            }
        }));
    }
    let mut heard_by = |sink: Sink| -> io::Result<OwnedFd> {
        let (ours, theirs) = io::pipe()?;
        let ours = pipe::Receiver::from_owned_fd(ours.into())?;
        let copied = copy(ours, sink, tasks.over.clone());
        tasks.output.push(tokio::spawn(copied));
        Ok(theirs.into())
    };
    if let Some(output) = output {
        streams.output = heard_by(output)?;
    }
    if let Some(error) = error {
        streams.error = heard_by(error)?;
    }
    Ok((streams, tasks))
}

/// Tells what comes out of a pipe, however slowly it is heard, until its end; once the command is over, until there is
/// nothing for a while.
async fn copy(mut from: pipe::Receiver, to: Sink, over: CancellationToken) {
    let mut piece = vec![0; PIECE];
    loop {
        let quiet = async {
            over.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            () = quiet => return,
        };
        // From a terminal reading fails when the last program has gone from it.
        let Ok(length @ 1..) = read else { return };
        if to.send(Bytes::copy_from_slice(&piece[..length])).await.is_err() {
            return;
        }
    }
}

/// A terminal of the machine's. The container has it as its standard streams, and as the one that controls it.
fn terminal(
    isolation: &Isolation,
    process: &Process,
    input: Option<Source>,
    output: Option<Sink>,
    mut sizes: Source,
) -> io::Result<(Streams, Tasks)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    if !isolation.single_user() {
        // So that programs can open it again, by `/dev/stdin`.
        fchown(
            &theirs,
            Some(Uid::from_raw(process.user)),
            Some(Gid::from_raw(process.group)),
        )?;
    }
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut keyboard = pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?)?;
    let screen = pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?;
    let mut tasks = Tasks::default();
    tasks.input.push(tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            if let Ok(Size { width, height }) = serde_json::from_slice(&size) {
                let size = Winsize {
                    ws_row: height,
                    ws_col: width,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                // A terminal that has gone has no size.
                let _ = tcsetwinsize(&ours, size);
            }
        }
    }));
    if let Some(mut input) = input {
        tasks.input.push(tokio::spawn(async move {
            while let Some(data) = input.recv().await {
                if keyboard.write_all(&data).await.is_err() {
                    return;
                }
            }
        }));
    }
    if let Some(output) = output {
        tasks
            .output
            .push(tokio::spawn(copy(screen, output, tasks.over.clone())));
    }
    let streams = Streams {
        input: theirs.try_clone()?,
        output: theirs.try_clone()?,
        error: theirs,
    };
    Ok((streams, tasks))
}

/// A terminal's size, as clients say it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}
