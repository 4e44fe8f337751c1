//! What of a log is asked for.

use jiff::{SignedDuration, Timestamp};

use crate::pod::{ContainerState, PodState, State};

/// What of a log is asked for, as the API's `PodLogOptions` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether what comes later is told too.
    pub follow: bool,
    /// Whether it is the run before that is meant.
    pub previous: bool,
    /// How many lines from the end, at most.
    pub tail: Option<u64>,
    /// From when on.
    pub since: Option<Timestamp>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// How many bytes at most.
    pub limit: Option<u64>,
    /// Only what came from there.
    pub stream: Option<&'static str>,
}

impl LogOptions {
    /// From a request's parameters, at this time.
    ///
    /// # Errors
    /// What is malformed.
    pub fn parse(parameters: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in parameters {
            let wrong = || format!("invalid value {value:?} of {name}");
            let number = || value.parse::<u64>().map_err(|_| wrong());
            match name.as_str() {
                "follow" => options.follow = flag(value),
                "previous" => options.previous = flag(value),
                "timestamps" => options.timestamps = flag(value),
                "tailLines" => options.tail = Some(number()?),
                "limitBytes" => options.limit = Some(number()?),
                "sinceSeconds" => {
                    let seconds = SignedDuration::from_secs(value.parse().map_err(|_| wrong())?);
                    options.since = now.checked_sub(seconds).ok();
                }
                "sinceTime" => options.since = Some(value.parse().map_err(|_| wrong())?),
                "stream" => {
                    options.stream = match value.as_str() {
                        "Stdout" => Some("stdout"),
                        "Stderr" => Some("stderr"),
                        "All" | "" => None,
                        _ => return Err(format!("invalid stream type {value:?}")),
                    }
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// Which run of a container's is meant.
    ///
    /// # Errors
    /// Why there is none, in a kubelet's words.
    pub fn run(&self, pod: &str, container: &ContainerState) -> Result<u32, String> {
        let name = &container.name;
        let ended = container.last.is_some();
        let before = container.restarts.checked_sub(1);
        match (&container.state, before) {
            // It waits to be started again: the last run is both the present and the previous.
            (State::Waiting(_), _) if ended => Ok(container.restarts),
            (State::Running { .. } | State::Terminated(_), Some(before)) if self.previous && ended => {
                Ok(before)
            }
            _ if self.previous => Err(format!(
                "previous terminated container {name:?} in pod {pod:?} not found"
            )),
            (State::Running { .. } | State::Terminated(_), _) => Ok(container.restarts),
            (State::Waiting(waiting), _) => {
                let why = match waiting.reason.as_str() {
                    "ErrImagePull" => "image can't be pulled",
                    "ImagePullBackOff" => "trying and failing to pull image",
                    reason => reason,
                };
                Err(format!(
                    "container {name:?} in pod {pod:?} is waiting to start: {why}"
                ))
            }
        }
    }
}

/// Whether a parameter says yes, as the API reads it.
pub fn flag(value: &str) -> bool {
    !matches!(value, "false" | "0")
}

/// A container of a pod's.
pub fn container<'a>(pod: &'a PodState, name: &str) -> Option<&'a ContainerState> {
    pod.containers
        .iter()
        .chain(&pod.init)
        .find(|container| container.name == name)
}

/// Whether a run of a container's goes on.
pub fn runs(pod: &PodState, name: &str, run: u32) -> bool {
    container(pod, name).is_some_and(|container| {
        container.restarts == run && matches!(container.state, State::Running { .. })
    })
}
