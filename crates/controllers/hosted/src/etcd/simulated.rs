//! The members of etcds that run nowhere, for pods that are simulated.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use super::book::{Book, Standing};
use super::membership::{Answer, Contact, Membership, MembershipError};
use super::plan::{Member, View};
use crate::rollout;

/// Members that exist in memory only. A cluster begins with the members of its `ConfigMap`, of which the first leads; a
/// learner has caught up when its pod is ready.
pub struct Simulated {
    client: Client,
    clusters: Mutex<BTreeMap<(String, String), Etcd>>,
}

#[derive(Clone, Debug, Default)]
struct Etcd {
    /// By id: the name, and whether it is a learner.
    members: BTreeMap<u64, (String, bool)>,
    leader: u64,
}

impl Etcd {
    fn of(book: &Book) -> Self {
        let mut etcd = Self::default();
        for (name, standing) in &book.0 {
            let learner = matches!(standing, Standing::Joining { .. });
            etcd.add(name, learner);
        }
        etcd.leader = etcd.members.keys().next().copied().unwrap_or_default();
        etcd
    }

    fn add(&mut self, name: &str, learner: bool) -> u64 {
        let id = self.members.keys().next_back().map_or(1, |last| last + 1);
        self.members.insert(id, (name.to_owned(), learner));
        id
    }

    fn member(&mut self, request: &'static str, id: u64) -> Result<&mut (String, bool), MembershipError> {
        self.members.get_mut(&id).ok_or(MembershipError::Refused {
            request,
            message: "etcdserver: member not found".to_owned(),
        })
    }
}

impl Simulated {
    /// Of clusters whose `ConfigMap`s this client reads.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            clusters: Mutex::default(),
        }
    }

    async fn with<T>(
        &self,
        at: &Contact,
        act: impl FnOnce(&mut Etcd) -> Result<T, MembershipError> + Send,
    ) -> Result<T, MembershipError> {
        let set = at.pod.rsplit_once('-').map_or("", |(set, _)| set);
        let key = (at.namespace.clone(), set.to_owned());
        let known = || self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if !known().contains_key(&key) {
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &at.namespace);
            let maps = maps.list(&named(set)).await.map_err(unreachable(at))?;
            let book = maps.items.first().and_then(Book::read).unwrap_or_default();
            let etcd = Etcd::of(&book);
            known().entry(key.clone()).or_insert(etcd);
        }
        act(known().entry(key).or_default())
    }

    async fn is_ready(&self, at: &Contact, pod: &str) -> Result<bool, MembershipError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &at.namespace);
        let pods = pods.list(&named(pod)).await.map_err(unreachable(at))?;
        Ok(pods.items.iter().any(rollout::is_ready))
    }
}

/// An object is listed, which the controller may do in any case.
fn named(name: &str) -> ListParams {
    ListParams::default().fields(&format!("metadata.name={name}"))
}

fn unreachable(at: &Contact) -> impl FnOnce(kube::Error) -> MembershipError {
    let pod = at.pod.clone();
    move |error| MembershipError::Reach {
        pod,
        source: error.into(),
    }
}

impl Membership for Simulated {
    fn view<'a>(&'a self, at: &'a Contact, names: &'a [(String, String)]) -> Answer<'a, View> {
        let members = self.with(at, |etcd| {
            let members = etcd.members.iter().map(|(id, (name, learner))| Member {
                id: *id,
                name: names.iter().any(|(known, _)| known == name).then(|| name.clone()),
                learner: *learner,
                started: true,
            });
            Ok(View {
                members: members.collect(),
                leader: etcd.leader,
            })
        });
        async move {
            let mut view = members.await?;
            for learner in view.members.iter_mut().filter(|member| member.learner) {
                let name = learner.name.as_deref().unwrap_or_default();
                learner.started = self.is_ready(at, name).await?;
            }
            Ok(view)
        }
        .boxed()
    }

    fn add<'a>(&'a self, at: &'a Contact, (name, _): (&'a str, &'a str)) -> Answer<'a, u64> {
        self.with(at, |etcd| Ok(etcd.add(name, true))).boxed()
    }

    fn promote<'a>(&'a self, at: &'a Contact, id: u64) -> Answer<'a, ()> {
        self.with(at, move |etcd| {
            etcd.member("promote", id).map(|member| member.1 = false)
        })
        .boxed()
    }

    fn remove<'a>(&'a self, at: &'a Contact, id: u64) -> Answer<'a, ()> {
        self.with(at, move |etcd| {
            etcd.member("remove", id)?;
            etcd.members.remove(&id);
            Ok(())
        })
        .boxed()
    }

    fn move_leader<'a>(&'a self, at: &'a Contact, to: u64) -> Answer<'a, ()> {
        self.with(at, move |etcd| {
            etcd.member("move-leader", to)?;
            etcd.leader = to;
            Ok(())
        })
        .boxed()
    }
}
