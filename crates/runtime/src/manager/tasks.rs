//! The runnables that run, each in a task of its own.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::runnable::{Ready, ReadyReceiver};
use super::{Group, ManagerError, RunContext, RunError, Runnable};

/// Runs what it is given; all of it is aborted when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<Result<(), RunError>>,
    running: HashMap<Id, (String, Group)>,
    shutdown: HashMap<Group, CancellationToken>,
}

impl Tasks {
    pub(super) fn start(&mut self, runnable: Box<dyn Runnable>) -> ReadyReceiver {
        let (name, group) = (runnable.name().to_owned(), runnable.group());
        tracing::debug!(name, ?group, "starting");
        let (ready, receiver) = Ready::pair();
        let shutdown = self.shutdown.entry(group).or_default().clone();
        let task = self.set.spawn(runnable.run(RunContext { shutdown, ready }));
        self.running.insert(task.id(), (name, group));
        receiver
    }

    /// Waits for the first runnable that fails. Those that are done are forgotten.
    pub(super) async fn failure(&mut self) -> ManagerError {
        loop {
            match self.next().await {
                Some(Err(error)) => return error,
                Some(Ok(())) => {}
                // Nothing runs, but there may be a lease to hold.
                None => std::future::pending().await,
            }
        }
    }

    /// Tells a group to end and waits for it. Past the deadline what is left of it is aborted.
    pub(super) async fn stop(
        &mut self,
        group: Group,
        deadline: Instant,
        limit: std::time::Duration,
    ) -> Result<(), ManagerError> {
        if let Some(shutdown) = self.shutdown.get(&group) {
            shutdown.cancel();
        }
        let mut ended = Ok(());
        while self.running.values().any(|(_, of)| *of == group) {
            match timeout_at(deadline, self.next()).await {
                Ok(Some(outcome)) => ended = ended.and(outcome),
                Ok(None) => break,
                Err(_) => {
                    let left: Vec<_> = self
                        .running
                        .iter()
                        .filter(|(_, (_, of))| *of == group)
                        .map(|(id, _)| *id)
                        .collect();
                    let mut names: Vec<_> = left
                        .into_iter()
                        .filter_map(|id| self.running.remove(&id))
                        .map(|(name, _)| name)
                        .collect();
                    names.sort();
                    return ended.and(Err(ManagerError::ShutdownTimeout { names, limit }));
                }
            }
        }
        ended
    }

    /// The next runnable that ends, or `None` if none runs. May be dropped while it waits.
    async fn next(&mut self) -> Option<Result<(), ManagerError>> {
        let ended = self.set.join_next_with_id().await?;
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let (name, _) = self
            .running
            .remove(&id)
            .unwrap_or_else(|| (String::new(), Group::Always));
        Some(match ended {
            Ok((_, Ok(()))) => {
                tracing::debug!(name, "ended");
                Ok(())
            }
            Ok((_, Err(source))) => Err(ManagerError::Run { name, source }),
            Err(error) => Err(ManagerError::Panic {
                name,
                message: panic_message(error),
            }),
        })
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "it was cancelled".to_owned();
    };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
