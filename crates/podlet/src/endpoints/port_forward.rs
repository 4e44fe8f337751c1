//! Ports of pods, for whoever is at the other end of a SPDY connection.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::spdy::{self, Stream};
use super::streams::{PIECE, WAITING};
use crate::isolation::{Handle, Isolation};
use crate::registry::Entry;

/// So many connections may lack one of their two streams at most.
const HALVES: usize = 64;

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
            if let Err(why) = forward(data, &entry, &isolation).await {
                let said = format!(
                    "error forwarding port to pod {}, uid {}: {why}",
                    entry.name, entry.uid
                );
                // The other side may have gone.
                let _ = error.sink.send(Bytes::from(said)).await;
            }
            error.sink.end().await;
        });
    }
    // It has ended, or this would not have.
    let _ = connection.await;
}

async fn forward(mut data: Stream, entry: &Entry, isolation: &Isolation) -> Result<(), String> {
    let opened = open(data.header("port"), entry, isolation).await;
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(why) => {
            data.sink.end().await;
            return Err(why);
        }
    };
    let (mut from, mut to) = stream.split();
    let out = async {
        while let Some(piece) = data.source.recv().await {
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    let back = async {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0
                || data
                    .sink
                    .send(Bytes::copy_from_slice(&piece[..length]))
                    .await
                    .is_err()
            {
                data.sink.end().await;
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
    let gone = data.sink.clone();
    let ended: std::io::Result<()> = tokio::select! {
        ended = both => ended,
        () = gone.gone() => Ok(()),
    };
    if ended.is_err() {
        data.sink.end().await;
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
