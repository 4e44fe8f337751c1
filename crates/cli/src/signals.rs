//! The signals that end a command: Ctrl-C (SIGINT), SIGTERM, and SIGHUP, which a closed terminal sends.

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

impl Signals {
    /// Cancels on the first one; a second one ends the process at once.
    pub async fn stop(mut self, shutdown: CancellationToken) {
        self.recv().await;
        tracing::info!("shutting down");
        shutdown.cancel();
        self.recv().await;
        std::process::exit(130);
    }
}

/// From its making on, a signal no longer ends the process by itself.
#[cfg(unix)]
pub struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    pub fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let [interrupt, terminate, hangup] = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(|kind| signal(kind).context("failed to listen for signals"));
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub fn listen() -> Result<Self> {
        Ok(Self)
    }

    pub async fn recv(&mut self) {
        // Where it cannot be waited for, it ends the process by itself.
        if tokio::signal::ctrl_c()
            .await
            .context("failed to listen for Ctrl-C")
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}
