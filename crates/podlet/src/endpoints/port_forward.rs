//! Ports of pods, for whoever is at the other end of a SPDY connection or of a WebSocket.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::spdy::{self, Stream};
use super::streams::{Outgoing, PIECE, Sink, Source, WAITING};
use super::{parameters, websocket};
use crate::isolation::{Handle, Isolation};
use crate::registry::Entry;

/// So many connections may lack one of their two streams at most.
const HALVES: usize = 64;
/// So many ports may be asked for in one WebSocket: their streams are numbered by a byte, of which one is taken.
const MOST_PORTS: usize = 100;

/// Passes on connections for as long as the other side wants it. Each is a stream of data and one of errors.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    entry: Arc<Entry>,
    isolation: Arc<Isolation>,
) {
    let (begun, mut streams) = mpsc::channel(WAITING);
    let connection = tokio::spawn(spdy::serve(io, begun));
    let mut halves: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = streams.recv().await {
        let request = stream.header("requestid").to_owned();
        let Some(other) = halves.remove(&request) else {
            if halves.len() < HALVES {
                halves.insert(request, stream);
            }
            continue;
        };
        let (error, data) = match (stream.header("streamtype"), other.header("streamtype")) {
            ("error", "data") => (stream, other),
            ("data", "error") => (other, stream),
            _ => continue,
        };
        let (entry, isolation) = (entry.clone(), isolation.clone());
        tokio::spawn(async move {
            let port = data.header("port").to_owned();
            pass_on(&port, (data.sink, data.source), &error.sink, &entry, &isolation).await;
        });
    }
    // It has ended, or this would not have.
    let _ = connection.await;
}

/// Passes on one connection for each port that was asked for, by a WebSocket: two streams for each, of data and of
/// errors, that begin with the port's number.
pub async fn serve_websocket(
    upgraded: Upgraded,
    ports: Vec<u16>,
    entry: Arc<Entry>,
    isolation: Arc<Isolation>,
) {
    let count = u8::try_from(2 * ports.len()).unwrap_or(u8::MAX);
    let (sources, outgoing) = websocket::streams(websocket::open(upgraded).await, count);
    let mut sources = sources.into_iter();
    let mut forwards = JoinSet::new();
    for (number, port) in (0..).step_by(2).zip(ports) {
        let (Some(source), Some(_)) = (sources.next(), sources.next()) else {
            break;
        };
        let data = Sink::new(number, outgoing.clone());
        let error = Sink::new(number + 1, outgoing.clone());
        let (entry, isolation) = (entry.clone(), isolation.clone());
        forwards.spawn(async move {
            for sink in [&data, &error] {
                // Where the other side has gone, what follows notices.
                let _ = sink.send(Bytes::copy_from_slice(&port.to_le_bytes())).await;
            }
            pass_on(&port.to_string(), (data, source), &error, &entry, &isolation).await;
        });
    }
    // The streams have no end of their own: it is that of the connection.
    while forwards.join_next().await.is_some() {}
    let _ = outgoing.send(Outgoing::Close).await;
}

/// The ports of a request by WebSocket.
///
/// # Errors
/// What is wrong with them.
pub fn ports(query: Option<&str>) -> Result<Vec<u16>, String> {
    let given = parameters(query).into_iter().filter(|(name, _)| name == "port");
    let given: Vec<String> = given
        .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if given.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    if given.len() > MOST_PORTS {
        return Err(format!("{} ports are more than {MOST_PORTS}", given.len()));
    }
    given
        .iter()
        .map(|text| {
            let port = text.parse().ok().filter(|port| *port > 0);
            port.ok_or_else(|| format!("invalid port {text:?}"))
        })
        .collect()
}

/// Passes on a connection to a port, and says on the other stream what went wrong with it.
async fn pass_on(
    port: &str,
    (sink, source): (Sink, Source),
    error: &Sink,
    entry: &Entry,
    isolation: &Isolation,
) {
    if let Err(why) = forward(port, sink, source, entry, isolation).await {
        let said = format!(
            "error forwarding port to pod {}, uid {}: {why}",
            entry.name, entry.uid
        );
        // The other side may have gone.
        let _ = error.send(Bytes::from(said)).await;
    }
    error.end().await;
}

async fn forward(
    port: &str,
    sink: Sink,
    mut source: Source,
    entry: &Entry,
    isolation: &Isolation,
) -> Result<(), String> {
    let mut stream = match open(port, entry, isolation).await {
        Ok(stream) => stream,
        Err(why) => {
            sink.end().await;
            return Err(why);
        }
    };
    let (mut from, mut to) = stream.split();
    let out = async {
        while let Some(piece) = source.recv().await {
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    let back = async {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 || sink.send(Bytes::copy_from_slice(&piece[..length])).await.is_err() {
                sink.end().await;
                return Ok(());
            }
        }
    };
    // Once nothing comes back any more, what is said is not heard either.
    let both = async {
        tokio::pin!(out, back);
        tokio::select! {
            ended = &mut back => ended,
            ended = &mut out => match ended {
                Ok(()) => back.await,
                Err(error) => Err(error),
            },
        }
    };
    let gone = sink.clone();
    let ended: std::io::Result<()> = tokio::select! {
        ended = both => ended,
        () = gone.gone() => Ok(()),
    };
    if ended.is_err() {
        sink.end().await;
    }
    ended.map_err(|error| error.to_string())
}

/// Connects to a port of a pod's own loopback, as kubelets do: what listens there only is reached too.
async fn open(port: &str, entry: &Entry, isolation: &Isolation) -> Result<TcpStream, String> {
    let port: u16 = port.parse().map_err(|_| format!("invalid port {port:?}"))?;
    let inside = running(entry).ok_or("none of its containers runs")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connected = isolation.connect_inside(&inside, address).await;
    connected.map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// What leads into a pod.
fn running(entry: &Entry) -> Option<Handle> {
    let state = entry.state.borrow();
    let mut containers = state.containers.iter().chain(&state.init);
    containers.find_map(|container| container.handle.clone())
}
