//! Connections to a Service, passed on to one of its endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::plan::Target;
use super::spread::Spread;
use crate::isolation::{Error, Isolation};

/// An endpoint of this machine that has not answered by now does not: its pod has just gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// A listener that fails, because this process has too many files open, is tried again after this.
const PAUSE: Duration = Duration::from_millis(50);
/// Held for each direction of a connection.
const BUFFER: usize = 16 << 10;

/// Passes on what comes in, for as long as it is polled. Connections live on after that.
pub async fn forward(listener: TcpListener, spread: Arc<Spread>, isolation: Arc<Isolation>) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                tokio::spawn(pass_on(client, from, spread.clone(), isolation.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "failed to accept a connection to a Service");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn pass_on(mut client: TcpStream, from: SocketAddr, spread: Arc<Spread>, isolation: Arc<Isolation>) {
    let chosen = spread.choose(from.ip());
    for (attempt, &target) in chosen.iter().enumerate() {
        match timeout(PATIENCE, connect(&isolation, target)).await {
            Ok(Ok(mut endpoint)) => {
                if attempt > 0 {
                    spread.went_to(from.ip(), target);
                }
                // Small answers are not to wait for acknowledgements. Sockets that refuse it work without.
                let _ = client.set_nodelay(true);
                let _ = endpoint.set_nodelay(true);
                let copied = copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER).await;
                if let Err(error) = copied {
                    tracing::trace!(%error, "a connection to a Service broke off");
                    reset(&client);
                    reset(&endpoint);
                }
                return;
            }
            Ok(Err(error)) => tracing::debug!(%error, ?target, "an endpoint does not answer"),
            Err(_) => tracing::debug!(?target, "an endpoint does not answer in time"),
        }
    }
    // As a port that nobody listens at.
    reset(&client);
}

/// Has a connection closed without the pretence of an orderly end.
fn reset(stream: &TcpStream) {
    // One that is closed already needs none.
    let _ = stream.set_zero_linger();
}

async fn connect(isolation: &Isolation, target: Target) -> Result<TcpStream, Error> {
    match target {
        Target::Pod(address) => isolation.connect(address.into()).await,
        Target::Host(address) => TcpStream::connect(address)
            .await
            .map_err(|source: io::Error| Error::Connect { address, source }),
    }
}
