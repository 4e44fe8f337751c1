//! Connections by WebSocket: streams by a number before each message, or bytes that are SPDY's.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::streams::{Outgoing, PIECE, Source, WAITING};

/// A message is at most this long; kubectl's have 32 KiB.
const MAX_MESSAGE: usize = 1 << 20;
/// The number that says that a stream is closed.
const CLOSE: u8 = 255;
/// How long the other side may take to see that a connection is at its end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a connection ends when all is said; without the number, clients take it for broken.
const END: CloseFrame = CloseFrame {
    code: CloseCode::Normal,
    reason: Utf8Bytes::from_static(""),
};

type Connection = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request wants a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether a request wants a WebSocket and speaks this protocol.
pub fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    is_wanted(headers) && offered(headers).any(|offered| offered == protocol)
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

/// The first of the protocols that the other side speaks too, and the answer that says so.
///
/// # Errors
/// What is wrong with the request.
pub fn accept<T>(
    headers: &HeaderMap,
    protocols: &[&'static str],
    body: T,
) -> Result<(&'static str, Response<T>), String> {
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or("the WebSocket's key is missing")?;
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err("the WebSocket's version is not 13".to_owned());
    }
    let offered: Vec<&str> = offered(headers).collect();
    let chosen = protocols
        .iter()
        .find(|protocol| offered.contains(protocol))
        .ok_or_else(|| {
            format!("unable to negotiate protocol: client supports {offered:?}, server accepts {protocols:?}")
        })?;
    let accepted =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|error| error.to_string())?;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok((chosen, response))
}

/// The server's end of a connection that was upgraded.
pub async fn open(upgraded: Upgraded) -> Connection {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Streams by their numbers: those up to `count` bring something. The connection ends with `Outgoing::Close`, or when
/// nobody can send any more.
pub fn streams(connection: Connection, count: u8) -> (Vec<Source>, mpsc::Sender<Outgoing>) {
    let (to, from) = connection.split();
    let (sinks, sources) = (0..count).map(|_| mpsc::channel(WAITING)).unzip();
    let (outgoing, sent) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut reading = pin!(read(from, sinks));
        let written = tokio::select! {
            written = write(to, sent) => written,
            // The other side has gone, and nobody can tell it anything any more.
            () = &mut reading => return,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "a WebSocket can't be written to");
        }
        // The other side closes too when it has read all. If it takes too long, it is left.
        let _ = timeout(FAREWELL, reading).await;
    });
    (sources, outgoing)
}

async fn read(mut from: SplitStream<Connection>, sinks: Vec<mpsc::Sender<Bytes>>) {
    let mut sinks: Vec<Option<mpsc::Sender<Bytes>>> = sinks.into_iter().map(Some).collect();
    while let Some(message) = from.next().await {
        let mut data = match message {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Text(text)) => text.into(),
            Ok(_) => continue,
            Err(error) => return tracing::debug!(%error, "a WebSocket broke off"),
        };
        if data.is_empty() {
            continue;
        }
        let stream = data.split_to(1)[0];
        if stream == CLOSE {
            for stream in data {
                sinks.get_mut(usize::from(stream)).map(Option::take);
            }
        } else if let Some(sink) = sinks.get_mut(usize::from(stream)).and_then(|sink| sink.as_ref())
            && !data.is_empty()
        {
            // Nobody may want to hear it any more.
            let _ = sink.send(data).await;
        }
    }
}

async fn write(
    mut to: SplitSink<Connection, Message>,
    mut sent: mpsc::Receiver<Outgoing>,
) -> Result<(), Error> {
    while let Some(outgoing) = sent.recv().await {
        match outgoing {
            Outgoing::Data(stream, data) => {
                let mut message = vec![u8::try_from(stream).unwrap_or(CLOSE)];
                message.extend_from_slice(&data);
                to.feed(Message::Binary(message.into())).await?;
                if sent.is_empty() {
                    to.flush().await?;
                }
            }
            Outgoing::Close => break,
            // Here streams end with the connection.
            _ => {}
        }
    }
    to.send(Message::Close(Some(END))).await
}

/// The bytes that messages carry, whatever their bounds.
pub fn bytes(connection: Connection) -> DuplexStream {
    let (ours, theirs) = duplex(2 * PIECE);
    let (mut to, mut from) = connection.split();
    let (mut read, mut write) = split(theirs);
    let incoming = async move {
        while let Some(Ok(message)) = from.next().await {
            match message {
                Message::Binary(data) => write.write_all(&data).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        write.shutdown().await
    };
    let outgoing = async move {
        let mut piece = vec![0; PIECE];
        loop {
            let length = read.read(&mut piece).await.map_err(Error::Io)?;
            if length == 0 {
                return to.send(Message::Close(Some(END))).await;
            }
            to.send(Message::Binary(Bytes::copy_from_slice(&piece[..length])))
                .await?;
        }
    };
    tokio::spawn(async move {
        let (incoming, outgoing) = tokio::join!(incoming, outgoing);
        tracing::trace!(?incoming, ?outgoing, "a tunnel has ended");
    });
    ours
}
