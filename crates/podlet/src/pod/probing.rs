//! A container's probes, while it runs.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::life::{Life, Which};
use super::plan::ContainerPlan;
use super::state::Unhealthy;
use crate::isolation::Handle;
use crate::probe::{Counter, Outcome, Plan, check};

/// How often a container is asked that has not answered well yet, if asking costs it nothing: periods are whole seconds,
/// which is long for those who wait for it. Only answers at the period count against it.
const SOON: Duration = Duration::from_millis(100);

impl Life {
    /// Asks a container's probes and tells what they say, until one says that the container is to end: returns the
    /// grace that it has.
    pub(super) async fn probe(&self, which: Which, plan: &ContainerPlan, handle: &Handle) -> Duration {
        let began = Instant::now();
        if let Some(startup) = &plan.probes.startup {
            let well = self.settled("Startup", which, (plan, startup), handle, began, |_| true);
            if !well.await {
                return startup.grace.unwrap_or(self.plan.grace);
            }
            self.change(which, |container| {
                container.started = true;
                container.ready = plan.probes.readiness.is_none();
            });
        }
        tokio::select! {
            grace = self.live(which, plan, handle, began) => grace,
            () = self.get_ready(which, plan, handle, began) => std::future::pending().await,
        }
    }

    /// Until the container is dead.
    async fn live(&self, which: Which, plan: &ContainerPlan, handle: &Handle, began: Instant) -> Duration {
        let Some(liveness) = &plan.probes.liveness else {
            return std::future::pending().await;
        };
        self.settled("Liveness", which, (plan, liveness), handle, began, |well| !well)
            .await;
        liveness.grace.unwrap_or(self.plan.grace)
    }

    /// Tells whenever it turns ready, or is not any more.
    async fn get_ready(&self, which: Which, plan: &ContainerPlan, handle: &Handle, began: Instant) {
        let Some(readiness) = &plan.probes.readiness else {
            return std::future::pending().await;
        };
        self.settled("Readiness", which, (plan, readiness), handle, began, |well| {
            self.tell_ready(which, well);
            false
        })
        .await;
    }

    /// Asks until what the answers amount to is enough.
    async fn settled(
        &self,
        name: &'static str,
        which: Which,
        (plan, probe): (&ContainerPlan, &Plan),
        handle: &Handle,
        began: Instant,
        enough: impl Fn(bool) -> bool,
    ) -> bool {
        let first = (began + probe.delay).max(Instant::now());
        let mut ticks = interval_at(first, probe.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counter = Counter::default();
        let mut fresh = probe.means.is_light();
        let mut due = true;
        ticks.tick().await;
        loop {
            let isolation = &self.around.isolation;
            let outcome = check(isolation, handle, &plan.process, self.around.address, probe).await;
            match &outcome {
                Outcome::Good => fresh = false,
                Outcome::Bad(message) if due => self.complain(which, name, message),
                Outcome::Bad(_) => {}
            }
            if (due || outcome == Outcome::Good)
                && let Some(well) = counter.add(&outcome, probe)
                && enough(well)
            {
                return well;
            }
            due = tokio::select! {
                _ = ticks.tick() => true,
                () = sleep(SOON), if fresh => false,
            };
        }
    }

    fn complain(&self, which: Which, probe: &'static str, message: &str) {
        self.change(which, |container| {
            let count = container.unhealthy.as_ref().map_or(0, |last| last.count);
            container.unhealthy = Some(Unhealthy {
                probe,
                message: message.to_owned(),
                count: count + 1,
            });
        });
    }

    /// Tells it if it is news.
    fn tell_ready(&self, which: Which, ready: bool) {
        if self.is_ready(which) != ready {
            self.change(which, |container| container.ready = ready);
        }
    }
}
