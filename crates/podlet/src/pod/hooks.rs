//! What is run in a container after it has been started, and before it is ended.

use std::time::Duration;

use tokio::time::sleep;

use super::life::{Life, Which};
use super::plan::{ContainerPlan, Hook};
use super::state::ContainerState;
use crate::isolation::{Ending, Error, Handle, Process, Streams};

impl Life {
    /// Does what is to be done once a container has been started, then asks its probes, until something says that it is
    /// to end: returns the grace that it has.
    pub(super) async fn attend(&self, which: Which, plan: &ContainerPlan, handle: &Handle) -> Duration {
        if let Some(hook) = &plan.post_start {
            if let Err(message) = self.hook(hook, &plan.process, handle).await {
                self.change(which, |container| container.hook_failed = Some(message));
                return self.plan.grace;
            }
            self.change(which, |container| has_begun(container, plan));
        }
        self.probe(which, plan, handle).await
    }

    /// Runs a hook, and returns what went wrong.
    pub(super) async fn hook(&self, hook: &Hook, process: &Process, handle: &Handle) -> Result<(), String> {
        let command = match hook {
            Hook::Sleep(time) => {
                sleep(*time).await;
                return Ok(());
            }
            Hook::Command(command) => command,
        };
        let process = Process {
            argv: command.clone(),
            ..process.clone()
        };
        let run = async {
            let streams = Streams::null().map_err(Error::Talk)?;
            let mut visitor = self.around.isolation.visit(handle, process, streams).await?;
            visitor.ended().await
        };
        let shown = command.join(" ");
        match run.await {
            Ok(Ending::Exited(0)) => Ok(()),
            Ok(Ending::Exited(code)) => Err(format!("command '{shown}' exited with {code}")),
            Ok(Ending::Killed(signal)) => Err(format!("command '{shown}' was ended by signal {signal}")),
            Err(error) => Err(format!("command '{shown}' did not run: {error}")),
        }
    }
}

/// A container that has been started: without a probe it has done what it is to do.
pub(super) fn has_begun(container: &mut ContainerState, plan: &ContainerPlan) {
    container.started = plan.probes.startup.is_none();
    container.ready = container.started && plan.probes.readiness.is_none();
}
