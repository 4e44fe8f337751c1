//! The process around controllers: what starts when, what stops when, and who may write.
//!
//! Servers answer before caches fill, caches are full before leadership is sought, and controllers start only
//! once this process leads. Stopping runs the same order backwards, within a deadline, and gives the lease back
//! when all that leading allowed has ended. When leadership is lost there is nothing to wait for: the
//! [`Fence`] has cut every write, and all else is dropped at once.

mod election;
mod runnable;
mod server;
mod tasks;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_clock::Clock;
use kube::Client;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use runnable::{Group, Ready, ReadyReceiver, RunContext, RunError, Runnable};
pub use server::{BindError, HttpServer};

use crate::fence::Fence;
use crate::health::Health;
use crate::leader::{Elector, LeaderElection, LeaderElectionError, LeadershipLost};
use crate::metrics::Metrics;
use election::Election;
use tasks::Tasks;

/// What a manager is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The election to win before the group [`Group::Leader`] starts; `None`, the default, starts it at once.
    pub leader_election: Option<LeaderElection>,
    /// How long work in progress may take to end at shutdown, over all groups; 30 s by default. What has not ended
    /// by then is dropped.
    pub shutdown_timeout: Duration,
    /// How long a group may take to get ready; 2 minutes by default. An informer that may not list its kind never
    /// does.
    pub start_timeout: Duration,
    /// The source of all times written.
    pub clock: Clock,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to tell whether this process is ready.
    pub health: Health,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leader_election: None,
            shutdown_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_mins(2),
            clock: Clock::system(),
            metrics: Metrics::new(),
            health: Health::new(),
        }
    }
}

/// Starts, watches and stops [`Runnable`]s.
pub struct Manager {
    client: Client,
    fence: Fence,
    elector: Option<Elector>,
    release: bool,
    options: Options,
    runnables: Vec<Box<dyn Runnable>>,
    names: BTreeSet<String>,
}

impl Manager {
    /// A manager without runnables yet. Needs a tokio runtime.
    pub fn new(client: Client, options: Options) -> Result<Self, ManagerError> {
        let election = options.leader_election.clone();
        let fence = if election.is_some() {
            Fence::closed()
        } else {
            Fence::open()
        };
        let fenced = fence.wrap(&client);
        let release = election.as_ref().is_some_and(|election| election.release);
        let elector = election
            .map(|election| Elector::new(client, election, options.clock, &options.metrics, fence.clone()))
            .transpose()?;
        Ok(Self {
            client: fenced,
            fence,
            elector,
            release,
            options,
            runnables: Vec::new(),
            names: BTreeSet::new(),
        })
    }

    /// The client that all runnables share. Its writes are refused while this process does not lead.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The fence that [`client`](Self::client) is behind.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The source of all times written.
    pub fn clock(&self) -> Clock {
        self.options.clock
    }

    /// Where to count.
    pub fn metrics(&self) -> &Metrics {
        &self.options.metrics
    }

    /// Where to add health checks.
    pub fn health(&self) -> &Health {
        &self.options.health
    }

    /// Adds what [`run`](Self::run) is to start in its group. Within a group all start at once.
    pub fn add(&mut self, runnable: impl Runnable) -> Result<(), ManagerError> {
        self.add_boxed(Box::new(runnable))
    }

    /// As [`add`](Self::add), for a runnable that is boxed already.
    pub fn add_boxed(&mut self, runnable: Box<dyn Runnable>) -> Result<(), ManagerError> {
        let name = runnable.name().to_owned();
        if self.names.contains(&name) {
            return Err(ManagerError::DuplicateName { name });
        }
        self.names.insert(name);
        self.runnables.push(runnable);
        Ok(())
    }

    /// Runs until `shutdown` is cancelled, a runnable fails, or leadership is lost; then stops all that runs.
    ///
    /// When the future is dropped everything is dropped with it, and the lease is left to run out.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        let Self {
            elector,
            release,
            options,
            mut runnables,
            ..
        } = self;
        let mut tasks = Tasks::default();
        let mut election = elector.map(Election::new);
        let readiness = Readiness::register(&options.health);

        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            error = async {
                for group in Group::ALL {
                    if group == Group::Leader && let Some(election) = &mut election {
                        tokio::select! {
                            biased;
                            error = tasks.failure() => return error,
                            () = election.win() => {}
                        }
                    }
                    let (of_group, others) =
                        runnables.into_iter().partition(|runnable| runnable.group() == group);
                    runnables = others;
                    if let Err(error) = start(&mut tasks, &readiness, of_group, options.start_timeout).await {
                        return error;
                    }
                    if group == Group::Warmup {
                        readiness.set_warm();
                    }
                }
                tokio::select! {
                    biased;
                    lost = lost(&mut election) => lost.into(),
                    error = tasks.failure() => error,
                }
            } => Err(error),
        };
        readiness.set_stopping();
        match &ended {
            Ok(()) => tracing::info!("stopping"),
            Err(error) => tracing::error!(error = %Chain(error), "stopping"),
        }
        if let Err(error @ ManagerError::LeadershipLost(_)) = ended {
            return Err(error);
        }
        let stopped = stop(tasks, election.filter(|_| release), options.shutdown_timeout).await;
        ended.and(stopped)
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Manager")
            .field("options", &self.options)
            .field("runnables", &self.names)
            .finish_non_exhaustive()
    }
}

/// Starts the runnables of one group and waits until they are ready.
async fn start(
    tasks: &mut Tasks,
    readiness: &Readiness,
    runnables: Vec<Box<dyn Runnable>>,
    limit: Duration,
) -> Result<(), ManagerError> {
    let mut receivers = Vec::new();
    for runnable in runnables {
        let name = runnable.name().to_owned();
        readiness.wait_for(&name);
        receivers.push((name, tasks.start(runnable)));
    }
    let all_ready = futures::future::join_all(receivers.into_iter().map(async |(name, ready)| {
        ready.wait().await;
        readiness.is_ready(&name);
    }));
    tokio::select! {
        biased;
        error = tasks.failure() => Err(error),
        ready = timeout(limit, all_ready) => ready.map(drop).map_err(|_| ManagerError::NotReady {
            names: readiness.waiting(),
            limit,
        }),
    }
}

async fn lost(election: &mut Option<Election>) -> LeadershipLost {
    match election {
        Some(election) => election.lost().await,
        None => std::future::pending().await,
    }
}

/// Stops the groups backwards. The lease goes back once nothing is left that leading allowed, and not if some of it
/// had to be dropped: its last request may still be on its way.
async fn stop(mut tasks: Tasks, election: Option<Election>, limit: Duration) -> Result<(), ManagerError> {
    let deadline = Instant::now() + limit;
    let mut stopped = Ok(());
    let mut election = election;
    for group in Group::ALL.into_iter().rev() {
        if group == Group::Caches
            && stopped.is_ok()
            && let Some(election) = election.take()
        {
            election.release().await;
        }
        stopped = stopped.and(tasks.stop(group, deadline, limit).await);
    }
    stopped
}

/// What `/readyz` tells of the manager, by the names that kube-apiserver uses.
#[derive(Clone, Default)]
struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    warm: bool,
    stopping: bool,
    waiting: BTreeSet<String>,
}

impl Readiness {
    fn register(health: &Health) -> Self {
        let readiness = Self::default();
        let state = readiness.0.clone();
        health.add_ready("informer-sync", move || {
            let state = state.lock();
            if state.warm {
                Ok(())
            } else {
                Err(format!("not ready yet: {}", comma_separated(&state.waiting)).into())
            }
        });
        let state = readiness.0.clone();
        health.add_ready("shutdown", move || {
            if state.lock().stopping {
                Err("the process is shutting down".into())
            } else {
                Ok(())
            }
        });
        readiness
    }

    fn wait_for(&self, name: &str) {
        self.0.lock().waiting.insert(name.to_owned());
    }

    fn is_ready(&self, name: &str) {
        self.0.lock().waiting.remove(name);
    }

    fn waiting(&self) -> Vec<String> {
        self.0.lock().waiting.iter().cloned().collect()
    }

    fn set_warm(&self) {
        self.0.lock().warm = true;
    }

    fn set_stopping(&self) {
        self.0.lock().stopping = true;
    }
}

fn comma_separated<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names
        .into_iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// An error with its sources, on one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            write!(formatter, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}

/// Why a manager can't be made, or ended other than by its shutdown token.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The election's settings are wrong.
    #[error(transparent)]
    LeaderElection(#[from] LeaderElectionError),
    /// Two runnables have one name.
    #[error("failed to add {name}: there is a runnable of that name already")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A runnable ended with an error.
    #[error("failed to run {name}")]
    Run {
        /// The runnable.
        name: String,
        /// Its error.
        source: RunError,
    },
    /// A runnable panicked.
    #[error("failed to run {name}: it panicked: {message}")]
    Panic {
        /// The runnable.
        name: String,
        /// What it said.
        message: String,
    },
    /// A group did not get ready in time.
    #[error("failed to start within {limit:?}: {} not ready", comma_separated(names))]
    NotReady {
        /// Who kept the others waiting.
        names: Vec<String>,
        /// The time that they had.
        limit: Duration,
    },
    /// Another may lead.
    #[error("failed to stay the leader")]
    LeadershipLost(#[from] LeadershipLost),
    /// Work in progress did not end in time and was dropped.
    #[error("failed to stop within {limit:?}: {} did not end", comma_separated(names))]
    ShutdownTimeout {
        /// What was dropped.
        names: Vec<String>,
        /// The time that it had.
        limit: Duration,
    },
}
