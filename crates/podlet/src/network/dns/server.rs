//! Questions by datagrams and over connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::answer::{Transport, answer};
use super::zone::Zone;

/// So many connections are open at most; more wait.
const CONNECTIONS: usize = 64;
/// A connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// A socket that fails is tried again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers for as long as it is polled.
pub async fn serve(zone: watch::Receiver<Arc<Zone>>, datagrams: UdpSocket, connections: TcpListener) {
    tokio::join!(
        serve_datagrams(zone.clone(), datagrams),
        serve_connections(zone, connections)
    );
}

async fn serve_datagrams(zone: watch::Receiver<Arc<Zone>>, socket: UdpSocket) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "failed to receive a DNS question");
                sleep(PAUSE).await;
                continue;
            }
        };
        let current = zone.borrow().clone();
        if let Some(answer) = answer(&current, &buffer[..length], Transport::Datagram)
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::debug!(%error, %from, "failed to send a DNS answer");
        }
    }
}

async fn serve_connections(zone: watch::Receiver<Arc<Zone>>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let zone = zone.clone();
                tokio::spawn(async move {
                    // Whoever asks may go at any time.
                    let _ = converse(&zone, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "failed to accept a DNS connection");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(zone: &watch::Receiver<Arc<Zone>>, mut stream: TcpStream) -> io::Result<()> {
    let mut question = Vec::new();
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            question.resize(length.into(), 0);
            stream.read_exact(&mut question).await
        };
        timeout(IDLE, read).await??;
        let current = zone.borrow().clone();
        let Some(answer) = answer(&current, &question, Transport::Stream) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
