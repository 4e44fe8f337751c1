//! The podlet's end of the sockets to its helpers.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::{Error, Handle, Running};
use crate::helper::wire::{self, Ending, Order, Report, Request};

/// Frames over a socket.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    pub fn new(socket: OwnedFd) -> Result<Self, Error> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true).map_err(Error::Talk)?;
        UnixStream::from_std(socket).map(Self).map_err(Error::Talk)
    }

    /// Sends a message. Two at once would mix: that is the caller's to prevent.
    pub async fn send(&self, message: &impl Serialize, mut fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = wire::frame(message)?;
        let mut left = frame.as_slice();
        while !left.is_empty() {
            let sent = self
                .0
                .async_io(Interest::WRITABLE, || wire::send_some(&self.0, left, fds))
                .await?;
            left = &left[sent..];
            fds = &[];
        }
        Ok(())
    }

    /// Sends the first message, and waits for the answer to it. `None` when the helper closed the socket instead.
    pub async fn ask(
        &self,
        message: &impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Option<Report>, Error> {
        let sent = self.send(message, fds).await;
        match self.receive().await {
            // It may have failed before it was told anything.
            Ok(Some((report, _))) => Ok(Some(report)),
            Ok(None) => sent.map(|()| None).map_err(Error::Talk),
            Err(error) => Err(Error::Talk(error)),
        }
    }

    /// Waits for a message, alone. `None` when the other side has gone.
    pub async fn receive(&self) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
        let mut fds = Vec::new();
        let mut header = [0; wire::HEADER];
        if !self.fill(&mut header, &mut fds).await? {
            return Ok(None);
        }
        let mut body = vec![0; wire::length(header)?];
        if !self.fill(&mut body, &mut fds).await? {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&body)?, fds)))
    }

    /// Reads until `bytes` are full. Not, when the other side has gone before.
    async fn fill(&self, mut bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
        while !bytes.is_empty() {
            let received = self
                .0
                .async_io(Interest::READABLE, || wire::receive_some(&self.0, bytes, fds))
                .await;
            match received {
                Ok(0) => return Ok(false),
                Ok(received) => bytes = &mut bytes[received..],
                // The helper was killed before it had read what we sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

type Answer = Result<Vec<OwnedFd>, Error>;

/// Orders to the spawner, many at once.
#[derive(Debug)]
pub struct Channel {
    connection: Arc<Connection>,
    sending: tokio::sync::Mutex<()>,
    waiting: Arc<Mutex<Waiting>>,
    gone: watch::Receiver<bool>,
    reader: tokio::task::JoinHandle<()>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    gone: bool,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    endings: HashMap<u64, oneshot::Sender<Ending>>,
}

impl Channel {
    pub fn open(connection: Connection) -> Self {
        let connection = Arc::new(connection);
        let waiting = Arc::<Mutex<Waiting>>::default();
        let (goes, gone) = watch::channel(false);
        let reader = tokio::spawn(read(connection.clone(), waiting.clone(), goes));
        Self {
            connection,
            sending: tokio::sync::Mutex::new(()),
            waiting,
            gone,
            reader,
        }
    }

    /// Waits until the spawner has gone.
    pub async fn gone(&self) {
        // The sender goes with the reader, which is gone then too.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Lets the spawner go, whoever else holds this.
    pub fn close(&self) {
        // If it has gone by itself, all the better.
        let _ = rustix::net::shutdown(&self.connection.0, rustix::net::Shutdown::Both);
    }

    pub fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Has something done.
    pub async fn order(&self, order: Order, fds: &[BorrowedFd<'_>]) -> Answer {
        self.send(order, fds, None).await
    }

    /// Has a process started.
    pub async fn start(&self, order: Order, fds: &[BorrowedFd<'_>]) -> Result<Running, Error> {
        let (ends, ended) = oneshot::channel();
        let process = self.send(order, fds, Some(ends)).await?;
        let process = process.into_iter().next().ok_or(Error::Gone)?;
        Ok(Running {
            handle: Handle(Arc::new(process)),
            ended,
        })
    }

    async fn send(
        &self,
        order: Order,
        fds: &[BorrowedFd<'_>],
        ends: Option<oneshot::Sender<Ending>>,
    ) -> Answer {
        let (answers, answer) = oneshot::channel();
        let number = {
            let mut waiting = self.waiting.lock();
            if waiting.gone {
                return Err(Error::Gone);
            }
            waiting.last += 1;
            let number = waiting.last;
            waiting.answers.insert(number, answers);
            // Before it can end.
            if let Some(ends) = ends {
                waiting.endings.insert(number, ends);
            }
            number
        };
        let sent = {
            let _alone = self.sending.lock().await;
            self.connection.send(&Request { number, order }, fds).await
        };
        if let Err(error) = sent {
            let mut waiting = self.waiting.lock();
            waiting.answers.remove(&number);
            waiting.endings.remove(&number);
            return Err(Error::Talk(error));
        }
        answer.await.map_err(|_| Error::Gone)?
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // It holds the socket, whose end is what the spawner waits for.
        self.reader.abort();
    }
}

async fn read(connection: Arc<Connection>, waiting: Arc<Mutex<Waiting>>, goes: watch::Sender<bool>) {
    loop {
        let (report, fds) = match connection.receive().await {
            Ok(Some(received)) => received,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "failed to read what the podlet's helper reports");
                break;
            }
        };
        let mut waiting = waiting.lock();
        // Whoever is told may have stopped waiting.
        match report {
            Report::Done(number) => {
                let _ = waiting.answers.remove(&number).map(|answer| answer.send(Ok(fds)));
            }
            Report::Refused(number, failure) => {
                waiting.endings.remove(&number);
                let refused = Err(Error::Refused(failure));
                let _ = waiting.answers.remove(&number).map(|answer| answer.send(refused));
            }
            Report::Ended(number, ending) => {
                let _ = waiting.endings.remove(&number).map(|end| end.send(ending));
            }
            Report::Failed(failure) => {
                tracing::error!(error = %failure, "the podlet's helper failed, and every pod with it");
            }
            Report::Ready => {}
        }
    }
    // Before those who wait are told, so that they find it so.
    goes.send_replace(true);
    let mut waiting = waiting.lock();
    waiting.gone = true;
    waiting.answers.clear();
    waiting.endings.clear();
}
