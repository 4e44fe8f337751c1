//! A connection with streams that the other side begins.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf, split,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{self, Control, HEAD, Headers, Kind, Malformed, Reader, Writer};
use crate::endpoints::streams::{Outgoing, PIECE, Sink, Source, WAITING};

/// So many streams are open at once at most.
const STREAMS: usize = 256;
/// How long the other side may take to see that a connection is at its end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Why a stream is given up: the other side broke the rules; there are too many.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED: u32 = 3;

/// A stream that the other side has begun.
#[derive(Debug)]
pub struct Stream {
    /// What it is for.
    pub headers: Headers,
    /// What it brings.
    pub source: Source,
    /// What goes back.
    pub sink: Sink,
}

impl Stream {
    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// Reads and writes for as long as both sides want it: until the other side ends, or `streams` is dropped by whoever
/// takes them and all that was to be sent is.
///
/// There is no control of flow beyond that of the connection: Kubernetes' clients have none either. So a stream whose
/// reader is slow holds up the others.
pub async fn serve(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, streams: mpsc::Sender<Stream>) {
    let (from, to) = split(io);
    let (outgoing, sent) = mpsc::channel(WAITING);
    let writing = tokio::spawn(async move {
        if let Err(error) = write(to, sent).await {
            tracing::debug!(%error, "a SPDY connection can't be written to");
        }
    });
    let last = outgoing.clone();
    let mut reading = Reading {
        from: BufReader::new(from),
        reader: Reader::default(),
        open: HashMap::new(),
        last: 0,
        streams,
        outgoing,
    };
    if let Err(error) = reading.run().await {
        tracing::debug!(%error, "a SPDY connection broke off");
    }
    // If the writer has gone, so has the other side.
    let _ = last.send(Outgoing::Close).await;
    drop(last);
    let Reading {
        mut from, outgoing, ..
    } = reading;
    drop(outgoing);
    // A connection that is closed before all was read is reset, and what was sent last may be lost.
    let rest = async {
        let mut piece = vec![0; PIECE];
        while let Ok(1..) = from.read(&mut piece).await {}
    };
    let _ = tokio::join!(writing, timeout(FAREWELL, rest));
}

struct Reading<T> {
    from: BufReader<ReadHalf<T>>,
    reader: Reader,
    /// Where streams go that the other side has not ended.
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    last: u32,
    streams: mpsc::Sender<Stream>,
    outgoing: mpsc::Sender<Outgoing>,
}

impl<T: AsyncRead> Reading<T> {
    async fn run(&mut self) -> io::Result<()> {
        let malformed = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            let mut bytes = [0; HEAD];
            tokio::select! {
                read = self.from.read_exact(&mut bytes) => match read {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    read => drop(read?),
                },
                () = self.streams.closed() => return Ok(()),
            }
            let head = frame::head(bytes).map_err(malformed)?;
            match head.kind {
                Kind::Data(stream) => self.data(stream, head.length, head.last).await?,
                Kind::Control(kind) => {
                    let mut content = vec![0; head.length];
                    self.from.read_exact(&mut content).await?;
                    let control = self.reader.control(kind, &content).map_err(malformed)?;
                    if !self.control(control, head.last).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, mut length: usize, last: bool) -> io::Result<()> {
        while length > 0 {
            let mut piece = vec![0; length.min(PIECE)];
            self.from.read_exact(&mut piece).await?;
            length -= piece.len();
            // Nobody may want to hear it any more.
            if let Some(to) = self.open.get(&stream)
                && to.send(piece.into()).await.is_err()
            {
                self.open.remove(&stream);
            }
        }
        if last {
            self.open.remove(&stream);
        }
        Ok(())
    }

    /// Whether the connection goes on.
    async fn control(&mut self, control: Control, last: bool) -> bool {
        let answer = match control {
            Control::Begin { stream, headers } => return self.begin(stream, headers, last).await,
            Control::Ping(number) => Outgoing::Pong(number),
            Control::Reset { stream } => {
                self.open.remove(&stream);
                return true;
            }
            Control::GoAway => return false,
            Control::Reply { .. } | Control::Other => return true,
        };
        self.outgoing.send(answer).await.is_ok()
    }

    async fn begin(&mut self, number: u32, headers: Headers, last: bool) -> bool {
        self.open.retain(|_, to| !to.is_closed());
        // The other side's are odd, and never come twice.
        let refused = if number.is_multiple_of(2) || number <= self.last {
            Some(PROTOCOL_ERROR)
        } else if self.open.len() >= STREAMS {
            Some(REFUSED)
        } else {
            None
        };
        if let Some(status) = refused {
            return self.outgoing.send(Outgoing::Reset(number, status)).await.is_ok();
        }
        self.last = number;
        let (to, source) = mpsc::channel(WAITING);
        if !last {
            self.open.insert(number, to);
        }
        let stream = Stream {
            headers,
            source,
            sink: Sink::new(number, self.outgoing.clone()),
        };
        self.outgoing.send(Outgoing::Reply(number)).await.is_ok() && self.streams.send(stream).await.is_ok()
    }
}

async fn write(to: WriteHalf<impl AsyncWrite>, mut sent: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let malformed = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut writer = Writer::new().map_err(malformed)?;
    let mut to = BufWriter::new(to);
    while let Some(outgoing) = sent.recv().await {
        let bytes = match outgoing {
            Outgoing::Data(stream, data) => {
                for piece in data.chunks(PIECE) {
                    let head = frame::data(stream, piece.len(), false).map_err(malformed)?;
                    to.write_all(&head).await?;
                    to.write_all(piece).await?;
                }
                Ok(Vec::new())
            }
            Outgoing::End(stream) => frame::data(stream, 0, true),
            Outgoing::Reset(stream, status) => frame::reset(stream, status),
            Outgoing::Reply(stream) => writer.reply(stream),
            Outgoing::Pong(number) => frame::ping(number),
            Outgoing::Close => {
                to.write_all(&frame::go_away(0).map_err(malformed)?).await?;
                break;
            }
        };
        to.write_all(&bytes.map_err(malformed)?).await?;
        if sent.is_empty() {
            to.flush().await?;
        }
    }
    to.shutdown().await
}
