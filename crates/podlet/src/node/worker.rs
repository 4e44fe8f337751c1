//! A pod's worker: from the day that it is bound to this node until it is gone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_runtime::object::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::machine::Machine;
use super::report;
use super::room;
use super::sources::Tokens;
use super::starting::Starter;
use super::told::Teller;
use super::volumes;
use crate::pod::{PodPlan, PodState, Refusal, RestartPolicy, State, Terminated};
use crate::registry::Entry;
use crate::status::{Earlier, Facts, status};
use crate::{pod, tree};

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a pod has to end that the server does not have any more.
const ABANDONED: Duration = Duration::from_secs(2);
/// The least time between two looks at what volumes are made of; a kubelet lets a minute pass. A program that watches its
/// files begins to watch the new ones when the old are gone. If those have gone too by then, as they may where several
/// Secrets of one volume are renewed together, kube-apiserver looks again only after a minute.
const BETWEEN: Duration = Duration::from_secs(1);
/// Waits after requests that failed.
const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What the server says of a pod.
#[derive(Clone, Debug)]
pub enum Told {
    /// It is this, or something that it refers to has changed.
    Is(Arc<Pod>),
    /// It is gone.
    Gone,
}

/// A pod's life, as far as it has come.
enum Life {
    Starting(AbortOnDropHandle<pod::Pod>),
    Living(pod::Pod),
    Over,
}

/// See the module.
pub struct Worker {
    machine: Arc<Machine>,
    told: watch::Receiver<Told>,
    /// The pod as the server had it when it last said something, to us or to the watch.
    pod: Arc<Pod>,
    /// The same for those who take it on.
    shared: watch::Sender<Arc<Pod>>,
    life: Life,
    state: watch::Sender<PodState>,
    address: Option<Ipv4Addr>,
    earlier: BTreeMap<String, Earlier>,
    images: Arc<Mutex<BTreeMap<String, String>>>,
    tokens: Arc<Tokens>,
    teller: Teller,
    /// When volumes were last compared with what they are made of.
    compared: Option<Instant>,
    /// When they are to be compared again, because they could not be written or it was too early.
    again: Option<Instant>,
}

impl Worker {
    /// Takes on a pod.
    pub fn new(machine: Arc<Machine>, pod: Arc<Pod>, told: watch::Receiver<Told>) -> Self {
        let now = machine.clock.now();
        let plan = PodPlan::new(&pod);
        let empty = PodPlan::of_names(&pod);
        let mut state = PodState::new(plan.as_ref().unwrap_or(&empty), now);
        let old = pod.status.clone().unwrap_or_default();
        let mut earlier = Earlier::of(&old, now);
        let none = PodSpec::default();
        let once = RestartPolicy::of(pod.spec.as_ref().unwrap_or(&none)) == RestartPolicy::Never;
        let tokens = Arc::<Tokens>::default();
        let images = Arc::<Mutex<BTreeMap<String, String>>>::default();
        let (shared, _) = watch::channel(pod.clone());
        let mut address = None;
        let life = match plan {
            Err(refusal) => {
                refused(&mut state, &refusal);
                Life::Over
            }
            Ok(_) if once && !earlier.is_empty() => {
                lost(&mut state, &earlier, now);
                earlier.clear();
                Life::Over
            }
            Ok(_) if pod.metadata.deletion_timestamp.is_some() => {
                state.ended = true;
                Life::Over
            }
            Ok(plan) => match machine.addresses.take() {
                None => {
                    let why = "every address of the pods' network is taken";
                    say(&mut state, "ContainerCreating", why);
                    Life::Over
                }
                Some(free) => {
                    address = Some(free);
                    let starter = Starter {
                        machine: machine.clone(),
                        pod: shared.subscribe(),
                        tokens: tokens.clone(),
                        plan,
                        address: free,
                        images: images.clone(),
                    };
                    Life::Starting(AbortOnDropHandle::new(tokio::spawn(starter.start())))
                }
            },
        };
        let (state, _) = watch::channel(state);
        Self {
            compared: None,
            teller: Teller::new(machine.recorder.clone()),
            machine,
            told,
            pod,
            shared,
            life,
            state,
            address,
            earlier,
            images,
            tokens,
            again: None,
        }
    }

    /// Works until the pod is gone, or the podlet is to end.
    pub async fn run(mut self) {
        let uid = self.pod.uid().unwrap_or_default();
        if let Some(address) = self.address {
            self.machine.registry.add(Entry {
                namespace: self.pod.namespace().unwrap_or_default(),
                name: self.pod.name_any(),
                uid: uid.clone(),
                address,
                logs: self.machine.pod(&uid).join("logs"),
                state: self.state.subscribe(),
            });
            self.tell_of_users();
        }
        self.work().await;
        self.machine.registry.remove(&uid);
        // All that runs in the pod has ended, or does when the podlet has.
        if let Some(address) = self.address {
            self.machine.addresses.release(address);
        }
        let folder = self.machine.pod(&uid);
        let removed = tokio::task::spawn_blocking(move || tree::remove(&folder)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, uid, "failed to remove a pod's folder; it goes with the podlet");
        }
    }

    async fn work(&mut self) {
        let ending = self.machine.ending.clone();
        let mut lived = None;
        let mut wait = RETRY;
        loop {
            // Whatever the helpers' end looks like, nothing is to be said of it: the next podlet starts the pods again.
            if self.machine.isolation.is_gone() {
                return;
            }
            let gone = self.listen();
            let state = self.state.borrow().clone();
            self.teller.tell(&self.pod, &state);
            if gone && state.ended {
                return;
            }
            let mut retry = None;
            if !gone {
                match ending.run_until_cancelled(self.write(&state)).await {
                    None => return self.end().await,
                    Some(Ok(true)) => return,
                    Some(Ok(false)) => wait = RETRY,
                    Some(Err(error)) => {
                        tracing::warn!(pod = self.pod.name_any(), %error, "failed to write a pod's status");
                        retry = Some(Instant::now() + wait);
                        wait = LONGEST_RETRY.min(wait * 2);
                    }
                }
            }
            let refresh = [self.again, self.tokens.renewal()];
            let refresh = refresh
                .into_iter()
                .flatten()
                .filter(|_| self.is_kept(&state))
                .min();
            tokio::select! {
                () = ending.cancelled() => return self.end().await,
                changed = self.told.changed() => match changed {
                    Ok(()) => self.refresh().await,
                    Err(_) => return self.end().await,
                },
                started = started(&mut self.life) => {
                    let state = started.state();
                    self.life = Life::Living(started);
                    self.copy(state.borrow().clone());
                    lived = Some(state);
                }
                state = lives_on(&mut lived) => self.copy(state),
                () = until(retry) => {}
                () = until(refresh) => self.refresh().await,
            }
        }
    }

    /// Takes over what the pod's life says.
    fn copy(&mut self, mut state: PodState) {
        state.started = self.state.borrow().started;
        if has_failed(&self.state.borrow(), &state)
            && let Some(lacking) = room::lacking(&self.machine.claims)
        {
            self.teller.warn(&self.pod, "DiskFull", "Running", lacking);
        }
        self.state.send_replace(state);
    }

    /// Heeds what the server says; whether the pod is gone.
    fn listen(&mut self) -> bool {
        // Not as seen: who waits for a change brings volumes up to it too.
        let told = self.told.borrow().clone();
        match told {
            Told::Gone => {
                self.stop(ABANDONED);
                true
            }
            Told::Is(pod) => {
                self.see(pod);
                if self.pod.metadata.deletion_timestamp.is_some() {
                    let seconds = self.pod.metadata.deletion_grace_period_seconds;
                    let seconds = u64::try_from(seconds.unwrap_or_default()).unwrap_or_default();
                    self.stop(Duration::from_secs(seconds));
                }
                false
            }
        }
    }

    /// Remembers the newest of the pod.
    fn see(&mut self, pod: Arc<Pod>) {
        let version = |pod: &Pod| {
            let version = pod.metadata.resource_version.as_deref();
            version.and_then(|version| version.parse::<u64>().ok())
        };
        if version(&pod) > version(&self.pod) {
            self.pod = pod;
        }
    }

    fn stop(&mut self, grace: Duration) {
        match &self.life {
            Life::Living(life) => {
                if life.stop(grace) {
                    self.teller.killing(&self.pod, &self.state.borrow());
                }
            }
            Life::Starting(_) | Life::Over => {
                self.life = Life::Over;
                self.state
                    .send_if_modified(|state| !std::mem::replace(&mut state.ended, true));
            }
        }
    }

    /// The podlet ends, and its pods with it.
    async fn end(&mut self) {
        if let Life::Living(life) = &self.life {
            let mut state = life.state();
            life.stop(self.machine.grace);
            let _ = state.wait_for(|state| state.ended).await;
        }
        self.life = Life::Over;
    }

    /// Whether volumes follow what they are made of.
    fn is_kept(&self, state: &PodState) -> bool {
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        matches!(self.life, Life::Living(_)) && !deleted && !state.ended
    }

    /// Brings volumes up to what they are made of.
    async fn refresh(&mut self) {
        let told = self.told.borrow().clone();
        let Told::Is(pod) = told else { return };
        self.see(pod);
        self.shared.send_replace(self.pod.clone());
        self.again = None;
        if !self.is_kept(&self.state.borrow().clone()) {
            return;
        }
        let earliest = self.compared.map(|compared| compared + BETWEEN);
        if earliest.is_some_and(|earliest| earliest > Instant::now()) {
            self.again = earliest;
            return;
        }
        self.compared = Some(Instant::now());
        if let Err(error) = volumes::write(&self.machine, &self.pod, &self.tokens).await {
            self.again = Some(Instant::now() + LONGEST_RETRY);
            let note = room::explained(&self.machine.claims, &error);
            self.teller.warn(&self.pod, "FailedMount", "Updating", note);
        }
    }

    /// Writes the pod's status, if it is news; the last act is its deletion. Whether that is done.
    async fn write(&mut self, state: &PodState) -> Result<bool, WriteError> {
        let images = self.images.lock().clone();
        let wanted = status(&Facts {
            pod: &self.pod,
            state,
            address: self.address,
            host: self.machine.host,
            earlier: &self.earlier,
            images: &images,
            now: self.machine.clock.now(),
        });
        let key = ObjectKey::of(&*self.pod);
        if let Some(patch) = report::patch(&self.pod, &wanted) {
            let write = self.machine.client.patch_status::<Pod, _>(&key, &patch);
            match timeout(REQUEST, write).await? {
                Ok(pod) => self.see(Arc::new(pod)),
                // It is gone, or another one by now: the watch tells.
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        if !state.ended || self.pod.metadata.deletion_timestamp.is_none() {
            return Ok(false);
        }
        self.life = Life::Over;
        let delete = delete(&self.machine, &self.pod);
        timeout(REQUEST, delete).await??;
        Ok(true)
    }

    /// What is asked of a single user that takes many.
    fn tell_of_users(&self) {
        if !self.machine.isolation.single_user() {
            return;
        }
        let unmet = report::users(&self.pod);
        if !unmet.is_empty() {
            let note = format!(
                "The podlet does not run as root, so that all users of its pods are one user of this machine; {} \
                 {} shown to programs, and keep nothing apart",
                unmet.join(", "),
                if unmet.len() == 1 { "is" } else { "are" }
            );
            self.teller.warn(&self.pod, "UsersNotSeparate", "Starting", note);
        }
    }
}

/// Why nothing came of a write.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The server refused it, or was not there.
    #[error(transparent)]
    Client(#[from] clusterwright_runtime::client::Error),
    /// The server did not answer.
    #[error("the API server did not answer")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// Deletes a pod for good, as nothing of it runs any more.
pub async fn delete(machine: &Machine, pod: &Pod) -> Result<(), clusterwright_runtime::client::Error> {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match machine.client.delete::<Pod>(&ObjectKey::of(pod), &params).await {
        // Another one has its name by now.
        Err(error) if error.is_conflict() => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// Whether a container has just ended other than well.
fn has_failed(before: &PodState, now: &PodState) -> bool {
    let failed = |state: &State| matches!(state, State::Terminated(ended) if ended.code != 0);
    let mut pairs = before.all().zip(now.all());
    pairs.any(|(before, now)| failed(&now.state) && before.state != now.state)
}

/// All containers of a pod that is not run wait, and say why.
fn refused(state: &mut PodState, refusal: &Refusal) {
    say(state, "CreateContainerConfigError", &refusal.to_string());
}

fn say(state: &mut PodState, reason: &str, message: &str) {
    for container in state.init.iter_mut().chain(&mut state.containers) {
        container.state = State::waiting(reason, message);
    }
}

/// The containers of a pod that is not to be started again, and whose end nobody saw.
fn lost(state: &mut PodState, earlier: &BTreeMap<String, Earlier>, now: Timestamp) {
    for container in state.init.iter_mut().chain(&mut state.containers) {
        let last = earlier
            .get(&container.name)
            .and_then(|earlier| earlier.last.clone());
        let Some(last) = last else { continue };
        let time = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            time.map_or(now, |time| time.0)
        };
        container.state = State::Terminated(Terminated {
            code: last.exit_code,
            signal: last.signal,
            reason: match last.reason.as_deref() {
                Some("Completed") => "Completed",
                Some("ContainerStatusUnknown") => "ContainerStatusUnknown",
                _ => "Error",
            },
            message: last.message.unwrap_or_default(),
            started: time(last.started_at),
            finished: time(last.finished_at),
        });
    }
    state.ended = true;
}

async fn started(life: &mut Life) -> pod::Pod {
    match life {
        Life::Starting(task) => match task.await {
            Ok(pod) => pod,
            // It panicked, which is told where it did.
            Err(_) => std::future::pending().await,
        },
        _ => std::future::pending().await,
    }
}

/// The next state of a life, the last of which has ended.
async fn lives_on(lived: &mut Option<watch::Receiver<PodState>>) -> PodState {
    let Some(life) = lived else {
        return std::future::pending().await;
    };
    if life.changed().await.is_ok() {
        return life.borrow_and_update().clone();
    }
    // Nothing will follow, even if it did not come to say so.
    let mut state = life.borrow().clone();
    state.ended = true;
    *lived = None;
    state
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
