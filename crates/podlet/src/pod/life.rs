//! A pod's life: init containers one after the other, then containers side by side, started again as the policy says,
//! until all have ended or the pod is to end.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clusterwright_clock::Clock;
use futures::future::join_all;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::back_off::BackOff;
use super::hooks::has_begun;
use super::log::{Log, Stream};
use super::plan::{ContainerPlan, PodPlan, RestartPolicy};
use super::state::{ContainerState, PodState, State, Terminated};
use crate::isolation::{Ending, Error, Isolation, Namespaces, Running, Signal, Streams};

/// What a container that is to be killed has at least, after its hook took all of the grace.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// How soon what a container lacks is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How much of a container's last words is kept.
const LAST_WORDS: u64 = 4096;

/// Finds what a container needs, each time that it is started.
#[async_trait::async_trait]
pub trait Prepare: Send + Sync + 'static {
    /// Plans a container.
    async fn prepare(&self, container: &str) -> Result<ContainerPlan, Unprepared>;
}

/// Why a container can't start yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unprepared {
    /// In one word, as the kubelet has it: `CreateContainerConfigError`, `ErrImagePull`.
    pub reason: String,
    /// In full.
    pub message: String,
}

/// A pod that runs, until this is dropped.
#[derive(Debug)]
pub struct Pod {
    state: watch::Receiver<PodState>,
    wishes: watch::Sender<Wishes>,
}

/// What is to become of a pod.
#[derive(Clone, Debug, Default)]
struct Wishes {
    /// It is to end, within this time.
    stop: Option<Duration>,
    /// Containers that are to be ended, as if by themselves: name, attempt, grace.
    ends: Vec<(String, u32, Duration)>,
}

/// Where and by what a pod lives.
pub struct Surroundings {
    /// What starts processes.
    pub isolation: Arc<Isolation>,
    /// The pod's namespaces.
    pub namespaces: Namespaces,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// What plans containers.
    pub prepare: Arc<dyn Prepare>,
    /// The folder of its logs, with a folder per container.
    pub logs: PathBuf,
    /// The time.
    pub clock: Clock,
}

impl Pod {
    /// Starts a pod.
    pub fn start(plan: PodPlan, surroundings: Surroundings) -> Self {
        let (published, state) = watch::channel(PodState::new(&plan, surroundings.clock.now()));
        let (wishes, heard) = watch::channel(Wishes::default());
        let life = Life {
            plan,
            around: surroundings,
            published,
            heard,
        };
        tokio::spawn(life.run());
        Self { state, wishes }
    }

    /// What its containers are.
    pub fn state(&self) -> watch::Receiver<PodState> {
        self.state.clone()
    }

    /// Ends it, and returns whether that was news. A shorter grace than one given before counts from now; a longer one
    /// changes nothing.
    pub fn stop(&self, grace: Duration) -> bool {
        self.wishes.send_if_modified(|wishes| {
            let sooner = wishes.stop.is_none_or(|given| grace < given);
            if sooner {
                wishes.stop = Some(grace);
            }
            sooner
        })
    }

    /// Ends this run of a container, which then starts again if the policy says so.
    pub fn end(&self, container: &str, restarts: u32, grace: Duration) {
        self.wishes.send_modify(|wishes| {
            wishes.ends.retain(|(name, _, _)| name != container);
            wishes.ends.push((container.to_owned(), restarts, grace));
        });
    }
}

pub(super) struct Life {
    pub(super) plan: PodPlan,
    pub(super) around: Surroundings,
    published: watch::Sender<PodState>,
    heard: watch::Receiver<Wishes>,
}

/// Which container.
#[derive(Clone, Copy)]
pub(super) enum Which {
    Init(usize),
    Main(usize),
}

/// How a container's life went.
#[derive(PartialEq)]
enum Outcome {
    /// It ended, and does not start again.
    Ended { success: bool },
    /// It was not to go on.
    Stopped,
}

/// A container that runs.
struct Started {
    running: Running,
    plan: ContainerPlan,
    log: Arc<Log>,
    copied: tokio::task::JoinHandle<()>,
}

impl Life {
    async fn run(self) {
        let initialised = self.initialise().await;
        if initialised {
            join_all((0..self.plan.containers.len()).map(|at| self.supervise(Which::Main(at)))).await;
        }
        self.published.send_modify(|state| state.ended = true);
    }

    /// Runs the init containers. Not, if one failed for good or the pod is to end.
    async fn initialise(&self) -> bool {
        for at in 0..self.plan.init.len() {
            if self.supervise(Which::Init(at)).await != (Outcome::Ended { success: true }) {
                return false;
            }
        }
        true
    }

    pub(super) fn change(&self, which: Which, change: impl FnOnce(&mut ContainerState)) {
        self.published.send_modify(|state| {
            let container = match which {
                Which::Init(at) => state.init.get_mut(at),
                Which::Main(at) => state.containers.get_mut(at),
            };
            if let Some(container) = container {
                change(container);
            }
        });
    }

    pub(super) fn is_ready(&self, which: Which) -> bool {
        let state = self.published.borrow();
        let container = match which {
            Which::Init(at) => state.init.get(at),
            Which::Main(at) => state.containers.get(at),
        };
        container.is_some_and(|container| container.ready)
    }

    fn name(&self, which: Which) -> &str {
        let name = match which {
            Which::Init(at) => self.plan.init.get(at),
            Which::Main(at) => self.plan.containers.get(at),
        };
        name.map(String::as_str).unwrap_or_default()
    }

    /// Whether a container that ended so is started again.
    fn again(&self, which: Which, success: bool) -> bool {
        match (which, self.plan.restart) {
            (_, RestartPolicy::Never) => false,
            (Which::Init(_), _) | (Which::Main(_), RestartPolicy::OnFailure) => !success,
            (Which::Main(_), RestartPolicy::Always) => true,
        }
    }

    async fn supervise(&self, which: Which) -> Outcome {
        let name = self.name(which);
        let mut back_off = BackOff::default();
        let mut restarts = 0;
        loop {
            let Some(plan) = self.prepare(which).await else {
                return Outcome::Stopped;
            };
            let began = self.around.clock.now();
            let ended = match self.begin(name, restarts, plan).await {
                Ok(started) => {
                    self.change(which, |container| {
                        if let State::Terminated(last) = &container.state {
                            container.last = Some(last.clone());
                        }
                        container.state = State::Running { started: began };
                        container.restarts = restarts;
                        container.handle = Some(started.running.handle());
                        container.process = Some(Arc::new(started.plan.process.clone()));
                        container.unhealthy = None;
                        container.hook_failed = None;
                        (container.started, container.ready) = (false, false);
                        if started.plan.post_start.is_none() {
                            has_begun(container, &started.plan);
                        }
                    });
                    self.finish(which, restarts, started, began).await
                }
                Err(message) => Terminated {
                    code: 128,
                    signal: None,
                    reason: "StartError",
                    message,
                    started: began,
                    finished: self.around.clock.now(),
                },
            };
            let success = ended.code == 0;
            self.change(which, |container| {
                container.handle = None;
                container.process = None;
                container.started = false;
                container.ready = false;
                container.restarts = restarts;
                container.state = State::Terminated(ended.clone());
            });
            // Without its helpers the podlet starts nothing any more.
            if self.stopping() || self.around.isolation.is_gone() {
                return Outcome::Stopped;
            }
            if !self.again(which, success) {
                return Outcome::Ended { success };
            }
            if !self.wait_to_restart(which, &mut back_off, ended).await {
                return Outcome::Stopped;
            }
            restarts += 1;
        }
    }

    /// Waits until a container may start again. Not, if the pod is to end before.
    async fn wait_to_restart(&self, which: Which, back_off: &mut BackOff, ended: Terminated) -> bool {
        let now = Instant::now();
        let start = back_off.next_start(now);
        if start > now {
            let message = format!(
                "back-off {}s restarting failed container={}",
                (start - now).as_secs(),
                self.name(which)
            );
            self.change(which, |container| {
                container.last = Some(ended);
                container.state = State::waiting("CrashLoopBackOff", &message);
            });
        }
        tokio::select! {
            () = sleep_until(start) => true,
            () = self.stopped() => false,
        }
    }

    /// Plans a container, as often as it takes. `None` if the pod is to end before.
    async fn prepare(&self, which: Which) -> Option<ContainerPlan> {
        loop {
            if self.stopping() {
                return None;
            }
            let lacking = match self.around.prepare.prepare(self.name(which)).await {
                Ok(plan) => return Some(plan),
                Err(lacking) => State::waiting(&lacking.reason, &lacking.message),
            };
            self.change(which, |container| {
                if let State::Terminated(last) = &container.state {
                    container.last = Some(last.clone());
                }
                container.state = lacking;
            });
            tokio::select! {
                () = sleep(LOOK_AGAIN) => {}
                () = self.stopped() => {}
            }
        }
    }

    async fn begin(&self, name: &str, restarts: u32, plan: ContainerPlan) -> Result<Started, String> {
        let shown = |error: std::io::Error| error.to_string();
        let log = Log::create(&self.around.logs.join(name), restarts, self.around.clock);
        let log = Arc::new(log.map_err(|error| format!("failed to begin its log: {error}"))?);
        empty_words(&plan.last_words)
            .map_err(|error| format!("failed to make the file for its termination message: {error}"))?;
        let (output, output_end) = std::io::pipe().map_err(shown)?;
        let (error, error_end) = std::io::pipe().map_err(shown)?;
        let streams = Streams {
            output: output_end.into(),
            error: error_end.into(),
            ..Streams::null().map_err(shown)?
        };
        let output = Receiver::from_owned_fd(output.into()).map_err(shown)?;
        let error = Receiver::from_owned_fd(error.into()).map_err(shown)?;
        let root = plan.root.clone();
        let process = plan.process.clone();
        let running = self
            .around
            .isolation
            .container(&self.around.namespaces, root, process, streams)
            .await
            .map_err(|error| error.to_string())?;
        let copied = tokio::spawn({
            let log = log.clone();
            async move {
                tokio::join!(log.copy(Stream::Output, output), log.copy(Stream::Error, error));
            }
        });
        Ok(Started {
            running,
            plan,
            log,
            copied,
        })
    }

    /// Waits until a container has ended, and ends it if that is wished.
    async fn finish(
        &self,
        which: Which,
        restarts: u32,
        mut started: Started,
        began: jiff::Timestamp,
    ) -> Terminated {
        let name = self.name(which);
        let handle = started.running.handle();
        let ending = tokio::select! {
            ending = started.running.ended() => ending,
            grace = self.wished_end(name, restarts, None) => {
                self.change(which, |container| container.ready = false);
                self.kill(name, restarts, &mut started, grace).await
            }
            grace = self.attend(which, &started.plan, &handle) => {
                self.kill(name, restarts, &mut started, grace).await
            }
        };
        // All that it forked has ended too, so that the pipes are at their end.
        let _ = started.copied.await;
        let finished = self.around.clock.now();
        match ending {
            Ok(ending) => {
                let mut words = read_words(&started.plan.last_words);
                if words.is_empty() && started.plan.last_words_from_log && ending != Ending::Exited(0) {
                    words = started.log.tail();
                }
                Terminated::of(ending, words, began, finished)
            }
            Err(error) => Terminated::of(Ending::Killed(9), error.to_string(), began, finished),
        }
    }

    /// Ends a container: its hook, SIGTERM, and when the grace is over, SIGKILL.
    async fn kill(
        &self,
        name: &str,
        restarts: u32,
        started: &mut Started,
        mut grace: Duration,
    ) -> Result<Ending, Error> {
        let handle = started.running.handle();
        let mut deadline = Instant::now() + grace;
        if !grace.is_zero() {
            if let Some(hook) = &started.plan.pre_stop {
                tokio::select! {
                    ending = started.running.ended() => return ending,
                    done = timeout_at(deadline, self.hook(hook, &started.plan.process, &handle)) => {
                        if let Ok(Err(message)) = done {
                            tracing::warn!(container = name, message, "a preStop hook failed");
                        }
                    }
                    // Less time: the hook is not waited for any longer.
                    sooner = self.wished_end(name, restarts, Some(grace)) => {
                        grace = sooner;
                        deadline = Instant::now() + grace;
                    }
                }
            }
            handle.signal(Signal::TERM)?;
            if !grace.is_zero() {
                deadline = deadline.max(Instant::now() + LEAST_GRACE.min(grace));
            }
            loop {
                tokio::select! {
                    ending = started.running.ended() => return ending,
                    () = sleep_until(deadline) => break,
                    sooner = self.wished_end(name, restarts, Some(grace)) => {
                        grace = sooner;
                        deadline = deadline.min(Instant::now() + grace);
                    }
                }
            }
        }
        handle.signal(Signal::KILL)?;
        started.running.ended().await
    }

    fn stopping(&self) -> bool {
        self.heard.has_changed().is_err() || self.heard.borrow().stop.is_some()
    }

    async fn stopped(&self) {
        // Nobody wishes anything any more when the pod is dropped.
        let _ = self.heard.clone().wait_for(|wishes| wishes.stop.is_some()).await;
    }

    /// Waits until this run of a container is to end, or to end sooner, and returns the grace.
    async fn wished_end(&self, name: &str, restarts: u32, before: Option<Duration>) -> Duration {
        let grace = |wishes: &Wishes| {
            let own = wishes
                .ends
                .iter()
                .find(|(of, run, _)| of == name && *run == restarts);
            let own = own.map(|(_, _, grace)| *grace);
            own.into_iter().chain(wishes.stop).min()
        };
        let mut heard = self.heard.clone();
        let sooner = heard
            .wait_for(|wishes| grace(wishes).is_some_and(|grace| before.is_none_or(|before| grace < before)))
            .await
            .map(|wishes| grace(&wishes).unwrap_or_default());
        match sooner {
            Ok(grace) => grace,
            // The pod was dropped, which leaves no time. Once is enough.
            Err(_) if before == Some(Duration::ZERO) => std::future::pending().await,
            Err(_) => Duration::ZERO,
        }
    }
}

/// Makes the file for a container's last words, which it may write whoever it is.
fn empty_words(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

fn read_words(path: &Path) -> String {
    let mut words = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(LAST_WORDS).read_to_end(&mut words);
    }
    String::from_utf8_lossy(&words).into_owned()
}
