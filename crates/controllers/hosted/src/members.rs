//! The pass over etcd: its objects, and its members where they are to change.

use std::collections::BTreeMap;

use clusterwright_api::reasons::Reason;
use clusterwright_runtime::object::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;

use crate::error::Error;
use crate::etcd::book::{Book, Standing, ordinal};
use crate::etcd::membership::{Contact, Credentials, MembershipError};
use crate::etcd::plan::{Facts, PodState, Step, View, next};
use crate::graph::{Verdict, Why};
use crate::names::Component;
use crate::pass::{Notice, Pass};
use crate::pki::{Leaf, Material, Root};
use crate::rollout::Rollout;
use crate::{etcd, execute};

/// After how many seconds a change of the members goes on, where nothing that is watched tells.
const SOON: i64 = 1;
/// After how many seconds etcd is asked again that could not be.
const LATER: i64 = 5;

/// How the members stand.
enum Members {
    /// As they are to be, or on the way there by themselves.
    Settled,
    /// On the way.
    Changing(String),
    /// etcd could not be asked.
    Unknown(String),
    /// Only a person can mend it.
    Stuck(String),
}

impl Pass<'_> {
    pub(crate) async fn etcd(&mut self) -> Result<Verdict, Error> {
        let wanted = etcd::wanted(&self.read.inputs);
        let pods = self.read.snapshot.etcd_pods();
        let mut book = self.book(&wanted);
        for (name, _) in pods.iter().filter(|(_, state)| **state == PodState::Ready) {
            book.started(name);
        }
        let facts = Facts {
            wanted: &wanted,
            book: &book,
            pods: &pods,
        };
        let settled = facts.is_settled();
        let members = if settled || (book.is_bootstrapping() && !facts.is_refused()) {
            Members::Settled
        } else {
            let (next, members) = self.change(&facts).await;
            book = next.unwrap_or(book);
            members
        };
        let verdict = self.write_etcd(&book).await?;
        self.restart_joining(&book, &pods).await?;
        if settled {
            self.drop_claims(&wanted, &pods).await?;
        }
        Ok(judge(verdict, members))
    }

    /// What members may do. Where there is an etcd but no book, nobody may start on an empty folder.
    fn book(&self, wanted: &[String]) -> Book {
        let snapshot = &self.read.snapshot;
        match (&snapshot.book, &snapshot.etcd) {
            (Some(book), _) => book.clone(),
            (None, None) => Book::all(wanted.iter().cloned(), &Standing::Bootstrap),
            (None, Some(_)) => {
                let replicas = snapshot.etcd_rollout().desired;
                let possible = etcd::possible(&self.read.inputs)
                    .into_iter()
                    .map(|(name, _)| name);
                let there = possible.filter(|name| ordinal(name).is_some_and(|number| number < replicas));
                Book::all(there, &Standing::Member)
            }
        }
    }

    async fn write_etcd(&mut self, book: &Book) -> Result<Verdict, Error> {
        let inputs = &self.read.inputs;
        // A set's volumes can't be changed through it: what there is stays, and is named as not supported.
        let size = self
            .read
            .snapshot
            .volume_size()
            .unwrap_or_else(|| etcd::volume_size(inputs));
        let settings = etcd::Settings {
            version: &self.targets.etcd,
            size: &size,
            unready: !self.read.snapshot.has_answered(&self.read.object),
            replicas: book.replicas(),
            helper_image: &self.helper_image(),
        };
        let desired = etcd::etcd(inputs, settings);
        for service in [&desired.service, &desired.client_service] {
            execute::apply(self.client, inputs, service).await?;
        }
        // Before the set, whose pods read it.
        execute::apply(self.client, inputs, &book.write(inputs)).await?;
        let set = execute::apply(self.client, inputs, &desired.stateful_set).await?;
        execute::apply(self.client, inputs, &desired.budget).await?;
        self.tell_overridden(Component::Etcd, desired.overridden);
        let rollout = Rollout::of_stateful_set(&set);
        let ready = format!("{} of {} members are ready", rollout.ready, rollout.desired);
        let why = Why::new(Reason::WaitingForEtcdMembers, ready);
        let needed = etcd::plan::majority(book.0.len());
        Ok(if rollout.is_complete() {
            self.when_current(&self.targets.etcd, Verdict::Ready)
        } else if usize::try_from(rollout.ready).is_ok_and(|ready| ready >= needed) {
            Verdict::Usable(why)
        } else {
            Verdict::Waiting(why)
        })
    }

    /// The image of ours in etcd's pods: that which they have, until etcd's own changes, so that another version of
    /// this program restarts no member.
    fn helper_image(&self) -> String {
        let snapshot = &self.read.snapshot;
        let runs = snapshot.deployed().etcd;
        let same = runs.is_some_and(|runs| runs.etcd() == self.targets.etcd.etcd());
        let kept = snapshot.helper_image().filter(|_| same);
        kept.unwrap_or(&self.options.image).to_owned()
    }

    /// Does the next step from the members that there are to those that there are to be. Gives what members may do
    /// then, where that changes.
    async fn change(&mut self, facts: &Facts<'_>) -> (Option<Book>, Members) {
        match self.step(facts).await {
            Ok((book, members)) => {
                if !matches!(members, Members::Stuck(_)) {
                    self.remind(self.now.as_second().saturating_add(SOON));
                }
                (book, members)
            }
            Err(error) => {
                self.remind(self.now.as_second().saturating_add(LATER));
                (None, Members::Unknown(error.line()))
            }
        }
    }

    async fn step(&mut self, facts: &Facts<'_>) -> Result<(Option<Book>, Members), MembershipError> {
        let names = etcd::possible(&self.read.inputs);
        let Some((at, view)) = self.view(facts, &names).await? else {
            return Ok(match facts.without_majority() {
                Step::Stuck(why) => (None, Members::Stuck(why)),
                Step::Wait(what) => (None, Members::Changing(what)),
                _ => (None, Members::Changing(String::new())),
            });
        };
        let membership = self.options.membership.clone();
        let mut book = facts.book.clone();
        let done = match next(facts, &view) {
            Step::Wait(what) => return Ok((None, Members::Changing(what))),
            Step::Stuck(why) => return Ok((None, Members::Stuck(why))),
            Step::Write(book) => {
                let what = "members are starting".to_owned();
                return Ok((Some(book), Members::Changing(what)));
            }
            Step::Add(name) => {
                let url = names.iter().find(|(known, _)| *known == name);
                let url = url.map_or("", |(_, url)| url);
                let id = membership.add(&at, (&name, url)).await?;
                let done = format!("added {name} as a learner");
                book.0.insert(name, Standing::joining(id));
                done
            }
            Step::Promote(id, name) => {
                match membership.promote(&at, id).await {
                    Ok(()) => {}
                    // It says so until the learner has caught up.
                    Err(MembershipError::Refused { message, .. }) if message.contains("in sync") => {
                        return Ok((None, Members::Changing(format!("{name} is catching up"))));
                    }
                    Err(error) => return Err(error),
                }
                let done = format!("{name} has caught up and has a vote");
                book.0.insert(name, Standing::Member);
                done
            }
            Step::MoveLeader { from, to } => {
                membership.move_leader(&self.contact(&from), to).await?;
                format!("{from} led and handed that over, to be removed")
            }
            Step::Remove(id, name) => {
                // Not by itself: it is gone before it has answered.
                let other = facts.ready().find(|other| *other != name);
                let at = other.map_or(at, |other| self.contact(other));
                membership.remove(&at, id).await?;
                book.0.remove(&name);
                format!("removed {name}")
            }
        };
        self.notices.push(Notice {
            warning: false,
            reason: Reason::EtcdMembersChanged,
            action: "ChangeEtcdMembers",
            note: done.clone(),
        });
        Ok((Some(book), Members::Changing(done)))
    }

    /// The members as the first says that answers, and who that is. `None` where too few are ready for one to know.
    async fn view(
        &self,
        facts: &Facts<'_>,
        names: &[(String, String)],
    ) -> Result<Option<(Contact, View)>, MembershipError> {
        let mut failed = None;
        for name in facts.ready() {
            let at = self.contact(name);
            match self.options.membership.view(&at, names).await {
                Ok(view) => return Ok(Some((at, view))),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn contact(&self, member: &str) -> Contact {
        let client = self.leaves.get(&Leaf::ApiServerEtcdClient);
        let authority = self.roots.get(&Root::Etcd);
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Contact {
            namespace: self.read.inputs.namespace.clone(),
            pod: member.to_owned(),
            host: etcd::host(&self.read.inputs, member),
            credentials: Credentials {
                authority: text(authority.map(Material::certificate)),
                certificate: text(client.map(Material::certificate)),
                key: text(client.map(Material::key)),
            },
        }
    }

    /// Has pods start anew at once that refused to while their members were not added yet.
    async fn restart_joining(&self, book: &Book, pods: &BTreeMap<String, PodState>) -> Result<(), Error> {
        for (name, standing) in &book.0 {
            let refused = matches!(pods.get(name), Some(PodState::NotAMember | PodState::DataLost));
            if refused && matches!(standing, Standing::Joining { .. }) {
                let key = ObjectKey::namespaced(self.read.inputs.namespace.as_str(), name.as_str());
                self.client.delete::<Pod>(&key, &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }

    /// Deletes the claims of members that were removed: what they hold is of no use to any other.
    async fn drop_claims(&self, wanted: &[String], pods: &BTreeMap<String, PodState>) -> Result<(), Error> {
        let removed = etcd::possible(&self.read.inputs)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !wanted.contains(name) && !pods.contains_key(name));
        for name in removed.map(|name| etcd::claim_name(&name)) {
            let claim = self.read.snapshot.claims.iter().find(|claim| {
                claim.metadata.name.as_ref() == Some(&name) && claim.metadata.deletion_timestamp.is_none()
            });
            if let Some(claim) = claim {
                let key = ObjectKey::of(claim);
                self.client
                    .delete::<PersistentVolumeClaim>(&key, &DeleteParams::default())
                    .await?;
            }
        }
        Ok(())
    }
}

/// How etcd stands, given how its pods and how its members do.
fn judge(pods: Verdict, members: Members) -> Verdict {
    let why = match members {
        Members::Settled => return pods,
        Members::Changing(what) => Why::new(Reason::EtcdMembersChanging, what),
        Members::Unknown(why) => Why::new(Reason::EtcdUnreachable, why),
        Members::Stuck(why) => Why::new(Reason::EtcdQuorumLost, why),
    };
    if pods.is_usable() {
        Verdict::Usable(why)
    } else if why.reason == Reason::EtcdQuorumLost {
        Verdict::Failed(why)
    } else {
        Verdict::Waiting(why)
    }
}
