//! The rest of a management cluster, played through the API alone so that it works on any server: workload
//! controllers, a kubelet and a load balancer, and garbage collection of pods. It acts on what it reads, one step at a
//! time, and keeps a log of what happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clusterwright_hosted::etcd::start::{self, Refusal};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, PodTemplateSpec, Service, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The label of a pod with a hash of the template that it was made from.
const REVISION: &str = "world/revision";

/// The rest of a management cluster.
#[derive(Clone)]
pub struct World {
    client: Client,
    namespace: String,
    /// What happened, in order: `kube-apiserver v1.36.3` when a pod of that version became ready.
    pub log: Arc<Mutex<Vec<String>>>,
    writes: Arc<AtomicU64>,
    /// The volumes, by the names of their claims.
    volumes: Arc<TempDir>,
}

impl World {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            log: Arc::default(),
            writes: Arc::default(),
            volumes: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Acts until it is dropped, the more seldom the longer nothing has to be done.
    pub async fn run(self, pause: Duration, longest: Duration) {
        let mut wait = pause;
        loop {
            let before = self.writes.load(Ordering::SeqCst);
            // A request that fails is tried again in the next round.
            if let Err(error) = self.step().await {
                println!("world: {error}");
            }
            let busy = self.writes.load(Ordering::SeqCst) != before;
            wait = if busy { pause } else { (wait * 2).min(longest) };
            tokio::time::sleep(wait).await;
        }
    }

    /// For reading.
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// For writing.
    fn write<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.api()
    }

    pub async fn list<K>(&self) -> kube::Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        Ok(self.api::<K>().list(&ListParams::default()).await?.items)
    }

    async fn step(&self) -> kube::Result<()> {
        for service in self.list::<Service>().await? {
            self.balance(&service).await?;
        }
        let pods: Vec<Pod> = self.list().await?;
        let mut owners = Vec::new();
        for deployment in self.list::<Deployment>().await? {
            owners.extend(deployment.uid());
            self.deployment(&deployment, &owned(&pods, &deployment)).await?;
        }
        let claims: Vec<PersistentVolumeClaim> = self.list().await?;
        let names: Vec<String> = claims.iter().map(ResourceExt::name_any).collect();
        for volume in fs::read_dir(self.volumes.path()).unwrap() {
            let volume = volume.unwrap();
            if !names.contains(&volume.file_name().into_string().unwrap()) {
                fs::remove_dir_all(volume.path()).unwrap();
            }
        }
        for set in self.list::<StatefulSet>().await? {
            owners.extend(set.uid());
            self.stateful_set(&set, &owned(&pods, &set), &names).await?;
        }
        for pod in &pods {
            let orphan = pod
                .owner_references()
                .iter()
                .all(|owner| !owners.contains(&owner.uid));
            if orphan && !pod.owner_references().is_empty() {
                let _ = self
                    .write::<Pod>()
                    .delete(&pod.name_any(), &DeleteParams::default())
                    .await;
            }
        }
        for claim in &claims {
            // What the real server's admission adds and its controller manager takes away.
            if claim.metadata.deletion_timestamp.is_some() && !claim.finalizers().is_empty() {
                let patch = json!({"metadata": {"finalizers": null}});
                self.write::<PersistentVolumeClaim>()
                    .patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                    .await?;
            }
        }
        Ok(())
    }

    async fn balance(&self, service: &Service) -> kube::Result<()> {
        let wanted = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
        let has = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        if wanted && has.and_then(|balancer| balancer.ingress.as_ref()).is_none() {
            let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}});
            self.status::<Service>(&service.name_any(), status).await?;
        }
        Ok(())
    }

    async fn status<K>(&self, name: &str, status: Value) -> kube::Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.write::<K>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
    }

    async fn deployment(&self, deployment: &Deployment, pods: &[Pod]) -> kube::Result<()> {
        let spec = deployment.spec.as_ref().unwrap();
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap();
        let revision = revision(&spec.template);
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = pods
            .iter()
            .partition(|pod| pod.labels().get(REVISION) == Some(&revision));
        let ready = new.iter().filter(|pod| is_ready(pod)).count();
        if new.len() < wanted && (new.len() == ready || old.is_empty()) {
            for _ in 0..if old.is_empty() { wanted - new.len() } else { 1 } {
                let name = format!("{}-{revision}-{}", deployment.name_any(), uuid());
                self.create_pod(&name, deployment, &spec.template, &revision)
                    .await?;
            }
        }
        // One goes for each that has come.
        let surplus = (old.len() + ready).saturating_sub(wanted).min(old.len());
        for pod in old.iter().take(surplus).chain(new.iter().skip(wanted)) {
            self.write::<Pod>()
                .delete(&pod.name_any(), &DeleteParams::default())
                .await?;
        }
        self.liven(&new).await?;
        let all_ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let status = json!({
            "observedGeneration": deployment.metadata.generation,
            "replicas": pods.len(),
            "updatedReplicas": new.len(),
            "readyReplicas": all_ready,
            "availableReplicas": all_ready,
        });
        self.report::<Deployment>(&deployment.name_any(), &deployment.status, status)
            .await
    }

    async fn stateful_set(&self, set: &StatefulSet, pods: &[Pod], claims: &[String]) -> kube::Result<()> {
        let spec = set.spec.as_ref().unwrap();
        let wanted = spec.replicas.unwrap_or(1);
        let revision = revision(&spec.template);
        let mut replaced = false;
        for index in 0..wanted {
            let name = format!("{}-{index}", set.name_any());
            for claim in spec.volume_claim_templates.iter().flatten() {
                let mut claim = claim.clone();
                claim.metadata.name = Some(format!("{}-{name}", claim.name_any()));
                claim.metadata.namespace = None;
                claim.status = None;
                if !claims.contains(&claim.name_any()) {
                    self.write::<PersistentVolumeClaim>()
                        .create(&PostParams::default(), &claim)
                        .await?;
                }
            }
            match pods.iter().find(|pod| pod.name_any() == name) {
                None => {
                    let mut template = spec.template.clone();
                    let volumes = template.spec.as_mut().unwrap().volumes.get_or_insert_default();
                    volumes.extend(spec.volume_claim_templates.iter().flatten().map(|claim| {
                        let volume = json!({
                            "name": claim.name_any(),
                            "persistentVolumeClaim": {"claimName": format!("{}-{name}", claim.name_any())},
                        });
                        serde_json::from_value::<Volume>(volume).unwrap()
                    }));
                    self.create_pod(&name, set, &template, &revision).await?;
                }
                Some(pod) if pod.labels().get(REVISION) != Some(&revision) => {
                    // One at a time, and only while all others are ready.
                    if !replaced
                        && pods.len() == usize::try_from(wanted).unwrap()
                        && pods.iter().all(is_ready)
                    {
                        replaced = true;
                        self.write::<Pod>()
                            .delete(&name, &DeleteParams::default())
                            .await?;
                    }
                }
                Some(_) => {}
            }
        }
        for pod in pods.iter().filter(|pod| {
            let number: i32 = pod.name_any().rsplit_once('-').unwrap().1.parse().unwrap();
            number >= wanted && pod.metadata.deletion_timestamp.is_none()
        }) {
            self.write::<Pod>()
                .delete(&pod.name_any(), &DeleteParams::default())
                .await?;
        }
        let mut startable = Vec::new();
        for pod in pods {
            if is_ready(pod) || self.helper(pod).await? {
                startable.push(pod);
            }
        }
        self.liven(&startable).await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let updated = pods
            .iter()
            .filter(|pod| pod.labels().get(REVISION) == Some(&revision))
            .count();
        let current = set
            .status
            .as_ref()
            .and_then(|status| status.current_revision.clone());
        let done = updated == usize::try_from(wanted).unwrap();
        let status = json!({
            "observedGeneration": set.metadata.generation,
            "replicas": pods.len(),
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updateRevision": revision,
            "currentRevision": if done { Some(revision.clone()) } else { current.or(Some("none".to_owned())) },
        });
        self.report::<StatefulSet>(&set.name_any(), &set.status, status)
            .await
    }

    async fn report<K>(&self, name: &str, present: &impl Serialize, status: Value) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let present = serde_json::to_value(present).unwrap();
        let zero = |value: &Value| value.is_null() || *value == json!(0);
        let same = status.as_object().unwrap().iter().all(|(name, value)| {
            present.get(name) == Some(value) || (zero(value) && present.get(name).is_none_or(zero))
        });
        if !same {
            self.status::<K>(name, json!({"status": status})).await?;
        }
        Ok(())
    }

    async fn create_pod<O>(
        &self,
        name: &str,
        owner: &O,
        template: &PodTemplateSpec,
        revision: &str,
    ) -> kube::Result<()>
    where
        O: Resource<DynamicType = ()>,
    {
        let metadata = template.metadata.clone().unwrap_or_default();
        let mut labels = metadata.labels.unwrap_or_default();
        labels.insert(REVISION.to_owned(), revision.to_owned());
        let mut pod = Pod {
            spec: template.spec.clone(),
            ..Pod::default()
        };
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.labels = Some(labels);
        pod.metadata.annotations = metadata.annotations;
        pod.metadata.owner_references = owner
            .controller_owner_ref(&())
            .map(|owner: OwnerReference| vec![owner]);
        self.write::<Pod>().create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// The folder of a member's volume.
    pub fn volume(&self, member: &str) -> PathBuf {
        self.volumes
            .path()
            .join(clusterwright_hosted::etcd::claim_name(member))
    }

    /// Does what the first container of a pod of etcd does, and then what etcd does on its volume. Whether it may run.
    async fn helper(&self, pod: &Pod) -> kube::Result<bool> {
        let name = pod.name_any();
        let set = name.rsplit_once('-').unwrap().0;
        let Some(map) = self.api::<ConfigMap>().get_opt(set).await? else {
            return Ok(false);
        };
        let volume = self.volume(&name);
        fs::create_dir_all(&volume).unwrap();
        let members = &map.data.unwrap()["members"];
        let refusal = start::prepare(&name, members, &volume).err();
        if refusal.is_none() {
            let log = volume.join("data/member/wal");
            fs::create_dir_all(&log).unwrap();
            fs::write(log.join("0.wal"), "").unwrap();
        }
        let ended = json!({
            "exitCode": refusal.as_ref().map_or(0, Refusal::exit_status),
            "message": refusal.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        let status = json!({"initContainerStatuses": [{
            "name": "member", "image": "", "imageID": "", "ready": refusal.is_none(), "restartCount": 0,
            "state": {"terminated": ended},
        }]});
        self.report::<Pod>(&name, &pod.status, status).await?;
        Ok(refusal.is_none())
    }

    async fn liven(&self, pods: &[&Pod]) -> kube::Result<()> {
        for pod in pods
            .iter()
            .filter(|pod| !is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
        {
            let status = json!({"status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }});
            self.status::<Pod>(&pod.name_any(), status).await?;
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            let image = image.rsplit('/').next().unwrap().replace(':', " ");
            self.log.lock().unwrap().push(image);
        }
        Ok(())
    }
}

fn owned<O: Resource<DynamicType = ()>>(pods: &[Pod], owner: &O) -> Vec<Pod> {
    let uid = owner.meta().uid.clone().unwrap_or_default();
    let mut pods: Vec<Pod> = pods
        .iter()
        .filter(|pod| {
            pod.owner_references()
                .iter()
                .any(|reference| reference.uid == uid)
        })
        .cloned()
        .collect();
    pods.sort_by_key(ResourceExt::name_any);
    pods
}

fn is_ready(pod: &Pod) -> bool {
    clusterwright_hosted::rollout::is_ready(pod)
}

/// A hash of the whole template.
fn revision(template: &PodTemplateSpec) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(template).unwrap().hash(&mut hasher);
    format!("{:08x}", hasher.finish() & 0xffff_ffff)
}

/// Enough to tell pods apart.
fn uuid() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// The names of what is left of these kinds, by kind.
pub async fn everything<K>(client: &Client, namespace: &str) -> BTreeMap<String, String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let items = api.list(&ListParams::default()).await.unwrap().items;
    items
        .into_iter()
        .map(|item| {
            let key = format!("{} {}", K::kind(&()), item.name_any());
            (
                key,
                format!(
                    "{}/{}",
                    item.uid().unwrap_or_default(),
                    item.resource_version().unwrap_or_default()
                ),
            )
        })
        .collect()
}

/// Makes an object of a kind that lives in no namespace, unless it is there.
pub async fn ensure<K>(client: &Client, object: &K)
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        result => {
            result.unwrap();
        }
    }
}
