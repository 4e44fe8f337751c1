//! Lives of pods in a machine of their own.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clusterwright_clock::Clock;
use clusterwright_podlet::image::Image;
use clusterwright_podlet::isolation::Isolation;
use clusterwright_podlet::pod::{
    self, ContainerPlan, Facts, PodPlan, PodState, Prepare, State, Surroundings, Terminated, Unprepared,
    VolumeAt,
};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::common::{Machine, shell_image};

/// Plans the containers of a pod that has one volume, `data`.
struct Planner {
    pod: Pod,
    image: Image,
    facts: Facts,
    words: PathBuf,
    lacking: Mutex<Option<Unprepared>>,
}

#[async_trait::async_trait]
impl Prepare for Planner {
    async fn prepare(&self, name: &str) -> Result<ContainerPlan, Unprepared> {
        if let Some(lacking) = self.lacking.lock().take() {
            return Err(lacking);
        }
        let spec = self.pod.spec.as_ref().unwrap();
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let container = all.find(|container| container.name == name).unwrap();
        let words = self.words.join(name);
        let none = BTreeMap::new();
        Ok(pod::container(&self.pod, container, &self.image, &none, words, &self.facts).unwrap())
    }
}

pub struct Run {
    pub pod: pod::Pod,
    pub state: watch::Receiver<PodState>,
    pub data: PathBuf,
    pub logs: PathBuf,
    pub clock: Clock,
    pub isolation: Arc<Isolation>,
    pub folder: tempfile::TempDir,
}

impl Run {
    pub async fn of(machine: Machine, text: &str) -> Self {
        Self::lacking(machine, text, None).await
    }

    pub async fn lacking(machine: Machine, text: &str, lacking: Option<Unprepared>) -> Self {
        let pod: Pod = serde_saphyr::from_str(text).unwrap();
        let data = machine.volatile().join("data");
        std::fs::create_dir(&data).unwrap();
        let volume = VolumeAt {
            path: data.clone(),
            read_only: false,
        };
        let planner = Planner {
            image: shell_image(),
            facts: Facts {
                address: [10, 244, 0, 2].into(),
                name_server: [10, 244, 0, 1].into(),
                domain: "cluster.local".to_owned(),
                root_at: machine.volatile().join("root"),
                volumes: [("data".to_owned(), volume)].into(),
            },
            words: machine.volatile().join("words"),
            lacking: Mutex::new(lacking),
            pod,
        };
        let plan = PodPlan::new(&planner.pod).unwrap();
        let namespaces = machine
            .isolation
            .namespaces(&plan.hostname, planner.facts.address)
            .await
            .unwrap();
        let logs = machine.volatile().join("logs");
        let Machine {
            isolation, folder, ..
        } = machine;
        let clock = Clock::system();
        let pod = pod::Pod::start(
            plan,
            Surroundings {
                isolation: isolation.clone(),
                namespaces,
                address: [10, 244, 0, 2].into(),
                prepare: Arc::new(planner),
                logs: logs.clone(),
                clock,
            },
        );
        Self {
            state: pod.state(),
            pod,
            data,
            logs,
            clock,
            isolation,
            folder,
        }
    }

    /// Waits until the pod is as said.
    pub async fn until(&mut self, holds: impl FnMut(&PodState) -> bool) -> PodState {
        self.state.wait_for(holds).await.unwrap().clone()
    }

    pub async fn ended(&mut self) -> PodState {
        self.until(|state| state.ended).await
    }

    pub fn log(&self, container: &str) -> String {
        let text = std::fs::read_to_string(self.logs.join(container).join("0.log")).unwrap();
        let lines = text
            .lines()
            .map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// How a container ended.
pub fn terminated(state: &State) -> &Terminated {
    match state {
        State::Terminated(ended) => ended,
        other => panic!("{other:?}"),
    }
}

pub fn code(state: &State) -> i32 {
    terminated(state).code
}

/// How the only container of a pod ended.
pub fn ended(state: &PodState) -> &Terminated {
    terminated(&state.containers[0].state)
}

pub fn running(state: &State) -> bool {
    matches!(state, State::Running { .. })
}
