//! Taking on a pod: its volumes, its network, and then its life.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_runtime::client::List;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodSpec};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use super::machine::Machine;
use super::room;
use super::sources::{Found, Tokens};
use super::volumes;
use crate::environment::{Objects, environment};
use crate::isolation::Namespaces;
use crate::pod::{self, ContainerPlan, Facts, PodPlan, Prepare, Surroundings, Unprepared, VolumeAt};
use crate::service_links;

/// How soon what is missing is looked for again, if nothing tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What takes on a pod.
pub struct Starter {
    /// The node.
    pub machine: Arc<Machine>,
    /// The newest of the pod; told again when something that it refers to changes.
    pub pod: watch::Receiver<Arc<Pod>>,
    /// Its tokens.
    pub tokens: Arc<Tokens>,
    /// Its plan.
    pub plan: PodPlan,
    /// Its address.
    pub address: Ipv4Addr,
    /// What images its containers have, as far as they have been found.
    pub images: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Starter {
    /// Takes on the pod, as often as it takes.
    pub async fn start(mut self) -> pod::Pod {
        let volumes = self.volumes().await;
        let namespaces = self.namespaces().await;
        let pod = self.pod.borrow().clone();
        let folder = self.machine.pod(pod.metadata.uid.as_deref().unwrap_or_default());
        let machine = self.machine.clone();
        let preparer = Preparer {
            facts: Facts {
                address: self.address,
                name_server: machine.gateway,
                domain: machine.domain.to_string(),
                root_at: machine.root_at(),
                volumes,
            },
            words: folder.join("words"),
            machine: machine.clone(),
            pod: self.pod,
            images: self.images,
            missing: Mutex::default(),
        };
        let around = Surroundings {
            isolation: machine.isolation.clone(),
            namespaces,
            address: self.address,
            prepare: Arc::new(preparer),
            logs: folder.join("logs"),
            clock: machine.clock,
        };
        pod::Pod::start(self.plan, around)
    }

    async fn volumes(&mut self) -> BTreeMap<String, VolumeAt> {
        loop {
            let pod = self.pod.borrow_and_update().clone();
            match volumes::write(&self.machine, &pod, &self.tokens).await {
                Ok(volumes) => return volumes,
                Err(error) => {
                    let note = room::explained(&self.machine.claims, &error);
                    self.warn(&pod, "FailedMount", note);
                }
            }
            self.news().await;
        }
    }

    async fn namespaces(&mut self) -> Namespaces {
        loop {
            let made = self
                .machine
                .isolation
                .namespaces(&self.plan.hostname, self.address);
            match made.await {
                Ok(namespaces) => return namespaces,
                Err(error) => {
                    let pod = self.pod.borrow().clone();
                    self.warn(&pod, "FailedCreatePodSandBox", error.to_string());
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn news(&mut self) {
        tokio::select! {
            // Without a sender the pod is gone, and this soon too.
            Ok(()) = self.pod.changed() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }

    fn warn(&self, pod: &Pod, reason: &str, note: String) {
        tracing::debug!(pod = pod.metadata.name, reason, note, "a pod can't start yet");
        self.machine.recorder.warning(pod, reason, "Starting", note);
    }
}

/// Plans containers with what there is when they start.
struct Preparer {
    machine: Arc<Machine>,
    pod: watch::Receiver<Arc<Pod>>,
    facts: Facts,
    words: PathBuf,
    images: Arc<Mutex<BTreeMap<String, String>>>,
    /// Images that were missing, which kubelets report in another way each time.
    missing: Mutex<BTreeMap<String, u32>>,
}

fn unprepared(reason: &str, message: &dyn ToString) -> Unprepared {
    Unprepared {
        reason: reason.to_owned(),
        message: message.to_string(),
    }
}

#[async_trait::async_trait]
impl Prepare for Preparer {
    async fn prepare(&self, name: &str) -> Result<ContainerPlan, Unprepared> {
        let wrong = |message: &dyn ToString| unprepared("CreateContainerConfigError", message);
        let pod = self.addressed();
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let container = all.find(|container| container.name == name);
        let container = container.ok_or_else(|| wrong(&"the container is gone from the spec"))?;
        let reference = container.image.as_deref().unwrap_or_default();
        let image = match self.machine.images.find(reference) {
            Ok(image) => image,
            Err(error) => {
                let mut missing = self.missing.lock();
                let tries = missing.entry(name.to_owned()).or_default();
                *tries += 1;
                return Err(if *tries == 1 {
                    unprepared("ErrImagePull", &error)
                } else {
                    let message = format!("Back-off pulling image \"{reference}\": ErrImagePull: {error}");
                    unprepared("ImagePullBackOff", &message)
                });
            }
        };
        let id = image.files.values().next();
        let id = id
            .map(|path| format!("file://{}", path.display()))
            .unwrap_or_default();
        self.images.lock().insert(reference.to_owned(), id);
        let found = Found::of(&pod, &self.machine.client).await;
        let found = found.map_err(|error| wrong(&error))?;
        let objects = Objects {
            pod: &pod,
            config_maps: &found.config_maps,
            secrets: &found.secrets,
            capacity: &self.machine.capacity,
        };
        let services = self.machine.client.list(&List::all());
        let mut variables = service_links::variables(&pod, &services.map_err(|error| wrong(&error))?);
        variables.extend(environment(container, objects).map_err(|error| wrong(&error))?);
        let words = self.words.join(name);
        pod::container(&pod, container, &image, &variables, words, &self.facts).map_err(|error| wrong(&error))
    }
}

impl Preparer {
    /// The pod with its addresses, which the server may not have been told yet.
    fn addressed(&self) -> Pod {
        let mut pod = Pod::clone(&self.pod.borrow());
        let status = pod.status.get_or_insert_default();
        let ip = self.facts.address.to_string();
        let host = self.machine.host.to_string();
        status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
        status.pod_ip = Some(ip);
        status.host_ips = Some(vec![HostIP { ip: host.clone() }]);
        status.host_ip = Some(host);
        pod
    }
}
