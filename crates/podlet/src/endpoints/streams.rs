//! Streams of a connection that carries several, whatever it carries them by.

use bytes::Bytes;
use tokio::sync::mpsc;

/// So many pieces wait at most for whoever reads or writes them.
pub const WAITING: usize = 16;
/// A piece is at most this long.
pub const PIECE: usize = 32 << 10;

/// What the other side says, until it ends or goes.
pub type Source = mpsc::Receiver<Bytes>;

/// What is said to the other side.
#[derive(Debug)]
pub enum Outgoing {
    /// A part of a stream.
    Data(u32, Bytes),
    /// The end of a stream.
    End(u32),
    /// That a stream is given up, and why, in SPDY's numbers.
    Reset(u32, u32),
    /// That a stream is taken on.
    Reply(u32),
    /// The answer to a question for life.
    Pong(u32),
    /// That the connection is at its end.
    Close,
}

/// The way to the other side's end of a stream.
#[derive(Clone, Debug)]
pub struct Sink {
    stream: u32,
    outgoing: mpsc::Sender<Outgoing>,
}

/// The other side has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub struct Gone;

impl Sink {
    /// The way to this stream.
    pub fn new(stream: u32, outgoing: mpsc::Sender<Outgoing>) -> Self {
        Self { stream, outgoing }
    }

    /// Says something, as soon as there is room.
    pub async fn send(&self, data: Bytes) -> Result<(), Gone> {
        let data = Outgoing::Data(self.stream, data);
        self.outgoing.send(data).await.map_err(|_| Gone)
    }

    /// Ends the stream.
    pub async fn end(&self) {
        // If the other side has gone, nobody needs to know.
        let _ = self.outgoing.send(Outgoing::End(self.stream)).await;
    }

    /// Waits until the other side has gone.
    pub async fn gone(&self) {
        self.outgoing.closed().await;
    }
}
