//! The elector as a task of its own, so that it renews whatever the manager waits for.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::leader::{Elector, LeadershipLost};

/// An election in one of its three states.
#[derive(Debug)]
pub(super) enum Election {
    /// Not run for yet.
    Idle(Box<Elector>),
    /// Running for it, or won.
    Running {
        stop: CancellationToken,
        task: AbortOnDropHandle<Result<(), LeadershipLost>>,
    },
    /// Lost or released.
    Over,
}

impl Election {
    pub(super) fn new(elector: Elector) -> Self {
        Self::Idle(Box::new(elector))
    }

    /// Runs for leadership and waits until it is won. Whoever drops this future is still a candidate.
    pub(super) async fn win(&mut self) {
        let Self::Idle(elector) = std::mem::replace(self, Self::Over) else {
            return std::future::pending().await;
        };
        let stop = CancellationToken::new();
        let (won, is_won) = oneshot::channel();
        let task = AbortOnDropHandle::new(tokio::spawn(lead(*elector, won, stop.clone())));
        *self = Self::Running { stop, task };
        if is_won.await.is_err() {
            // The task ended without winning: it was told to stop, or died. `lost` says which.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until leadership is lost.
    pub(super) async fn lost(&mut self) -> LeadershipLost {
        if let Self::Running { task, .. } = self
            && let Ok(Err(lost)) = task.await
        {
            *self = Self::Over;
            return lost;
        }
        std::future::pending().await
    }

    /// Stops being a candidate, and gives the lease back if it was won.
    pub(super) async fn release(self) {
        if let Self::Running { stop, task } = self {
            stop.cancel();
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(lost)) => tracing::warn!(error = %lost, "the Lease is not this process's to release"),
                Err(error) => tracing::error!(%error, "failed to release the Lease"),
            }
        }
    }
}

async fn lead(
    mut elector: Elector,
    won: oneshot::Sender<()>,
    stop: CancellationToken,
) -> Result<(), LeadershipLost> {
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        () = elector.acquire() => {}
    }
    // The manager may have gone; then `stop` comes next.
    let _ = won.send(());
    tokio::select! {
        biased;
        lost = elector.hold() => return Err(lost),
        () = stop.cancelled() => {}
    }
    elector.release().await;
    Ok(())
}
