use std::sync::Arc;

use jiff::Timestamp;

use super::plan::PodPlan;
use crate::isolation::{Ending, Handle, Process};

/// What a pod's containers are, as a kubelet would report it.
#[derive(Clone, Debug)]
pub struct PodState {
    /// When the pod was taken on.
    pub started: Timestamp,
    /// Init containers, in order.
    pub init: Vec<ContainerState>,
    /// Containers, in order.
    pub containers: Vec<ContainerState>,
    /// Whether nothing of it runs, and nothing will.
    pub ended: bool,
}

/// What a container is.
#[derive(Clone, Debug)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// The present.
    pub state: State,
    /// How it ended before.
    pub last: Option<Terminated>,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether it runs and its startup probe, if it has one, has succeeded.
    pub started: bool,
    /// Whether it is to get connections: it has started, and its readiness probe, if it has one, says so.
    pub ready: bool,
    /// The last bad answer to a probe.
    pub unhealthy: Option<Unhealthy>,
    /// Why it was ended as soon as it had been started.
    pub hook_failed: Option<String>,
    /// What signals its first process and what visits it, while it runs.
    pub handle: Option<Handle>,
    /// What its first process was started as, while it runs: commands in it have the same user, rights and variables.
    pub process: Option<Arc<Process>>,
}

/// A bad answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// `Startup`, `Readiness` or `Liveness`.
    pub probe: &'static str,
    /// The answer.
    pub message: String,
    /// How many there have been in this run of the container.
    pub count: u32,
}

/// The present of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is about to start, or can't.
    Waiting(Waiting),
    /// It runs.
    Running {
        /// Since when.
        started: Timestamp,
    },
    /// It has ended, for good or until its restart.
    Terminated(Terminated),
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// In one word, as the kubelet has it.
    pub reason: String,
    /// In full.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminated {
    /// The exit code; 128 more than the signal if one ended it; 128 if it did not start.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error` or `StartError`.
    pub reason: &'static str,
    /// What it left as its last words, or why it did not start.
    pub message: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

impl Terminated {
    /// How a process that ran ended.
    pub(super) fn of(ending: Ending, message: String, started: Timestamp, finished: Timestamp) -> Self {
        Self {
            code: ending.code(),
            signal: match ending {
                Ending::Exited(_) => None,
                Ending::Killed(signal) => Some(signal),
            },
            reason: if ending == Ending::Exited(0) {
                "Completed"
            } else {
                "Error"
            },
            message,
            started,
            finished,
        }
    }
}

impl PodState {
    /// All containers, in order.
    pub fn all(&self) -> impl Iterator<Item = &ContainerState> {
        self.init.iter().chain(&self.containers)
    }

    /// A pod none of whose containers has started.
    pub fn new(plan: &PodPlan, started: Timestamp) -> Self {
        let first = if plan.init.is_empty() {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        let states = |names: &[String]| {
            let new = names.iter().map(|name| ContainerState::new(name, first));
            new.collect()
        };
        Self {
            started,
            init: states(&plan.init),
            containers: states(&plan.containers),
            ended: false,
        }
    }
}

impl ContainerState {
    pub(super) fn new(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::waiting(reason, ""),
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            unhealthy: None,
            hook_failed: None,
            handle: None,
            process: None,
        }
    }
}

impl State {
    /// It waits for this reason.
    pub fn waiting(reason: &str, message: &str) -> Self {
        Self::Waiting(Waiting {
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    }
}
