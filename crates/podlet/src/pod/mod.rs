//! A pod's processes: from its spec to a plan, and the life of that plan.

mod back_off;
mod hooks;
mod life;
mod log;
mod plan;
mod plan_files;
mod probing;
mod state;

pub use self::back_off::BackOff;
pub use self::life::{Pod, Prepare, Surroundings, Unprepared};
pub use self::log::{Log, Stream};
pub use self::plan::{ContainerPlan, Facts, Hook, PodPlan, Refusal, RestartPolicy, VolumeAt, container};
pub use self::state::{ContainerState, PodState, State, Terminated, Unhealthy, Waiting};
