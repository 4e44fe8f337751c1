//! Stages: what makes workloads live where there is no node to run them.
//!
//! As with kwok, a stage says which objects it is for, how long they stay as they are (a delay, and a random part on
//! top) and what they are next. Pods get scheduled, run and get ready, and go when they are deleted; claims get bound
//! and load balancers an address. Beside that, Deployments, `ReplicaSets`, `StatefulSets`, Jobs, disruption budgets and
//! the endpoints of Services are seen to as the controller manager does it. Either half can be left to the real thing: [`Stages::kubelet_only`],
//! [`Stages::controllers_only`].

mod budgets;
mod deployments;
mod driver;
mod endpoint_slices;
mod jobs;
mod plan;
mod pods;
mod replica_sets;
mod rollout;
mod scales;
mod services;
mod stateful_sets;
mod world;

#[cfg(test)]
mod tests;

pub(super) use driver::run;

use std::time::Duration;

/// How long an object stays as it is before its next stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The shortest time.
    pub base: Duration,
    /// The longest random time on top.
    pub jitter: Duration,
}

impl Delay {
    /// A delay of milliseconds.
    pub const fn millis(base: u64, jitter: u64) -> Self {
        Self {
            base: Duration::from_millis(base),
            jitter: Duration::from_millis(jitter),
        }
    }
}

/// Which stages there are, and how long they take.
#[derive(Clone, Debug)]
pub struct Stages {
    /// From a pod's creation until it is bound to the simulated node; 20 to 50 ms.
    pub schedule: Delay,
    /// From then until its containers run and are ready; 150 to 300 ms.
    pub start: Delay,
    /// From a pod's deletion until it is gone; 50 to 150 ms.
    pub stop: Delay,
    /// From a claim's creation until it is bound; 20 to 50 ms.
    pub bind: Delay,
    /// From a Service's creation until its load balancer has an address; 50 to 100 ms.
    pub balance: Delay,
    /// Whether pods run here, and claims and load balancers are served; if not, a real node does it.
    kubelet: bool,
    /// Whether workloads are seen to as well; if not, a controller manager does it.
    controllers: bool,
    /// Where pods are bound to, if they don't run here and no scheduler does it.
    node: Option<String>,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            schedule: Delay::millis(20, 30),
            start: Delay::millis(150, 150),
            stop: Delay::millis(50, 100),
            bind: Delay::millis(20, 30),
            balance: Delay::millis(50, 50),
            kubelet: true,
            controllers: true,
            node: None,
        }
    }
}

impl Stages {
    /// Only what kubelet, scheduler and load balancer do, for use beside a real controller manager.
    pub fn kubelet_only() -> Self {
        Self {
            controllers: false,
            ..Self::default()
        }
    }

    /// Only what the controller manager does, for use beside nodes that run pods.
    pub fn controllers_only() -> Self {
        Self {
            kubelet: false,
            ..Self::default()
        }
    }

    /// Binds every pod to this node, where neither a scheduler runs nor the simulated node is.
    #[must_use]
    pub fn bind_to(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }
}
