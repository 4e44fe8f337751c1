//! The next step from the members that there are to those that there are to be. Pure: facts in, a step out.
//!
//! One thing at a time: a learner is promoted before the next is added, and a member that lost its data is removed
//! before another takes its name. No step leaves fewer working voters than a majority needs.

use std::collections::BTreeMap;

use super::book::{Book, Standing};

/// A member as etcd says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// The name of its pod, by its peer URL; `None` if that is not one of ours.
    pub name: Option<String>,
    /// It has no vote yet.
    pub learner: bool,
    /// It has told the others its name.
    pub started: bool,
}

/// The membership as etcd says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The members.
    pub members: Vec<Member>,
    /// The leader's id.
    pub leader: u64,
}

/// How the pod of a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It works.
    Ready,
    /// It is not there, or not ready.
    NotReady,
    /// It waits for its member to be added.
    NotAMember,
    /// It says that its data is gone.
    DataLost,
}

/// What is known without asking etcd.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The names of the members that there are to be.
    pub wanted: &'a [String],
    /// What members may do.
    pub book: &'a Book,
    /// Their pods.
    pub pods: &'a BTreeMap<String, PodState>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add a learner.
    Add(String),
    /// Let members start as this says.
    Write(Book),
    /// Give a learner its vote.
    Promote(u64, String),
    /// Have another member lead, before the one that leads is removed.
    MoveLeader {
        /// Who leads.
        from: String,
        /// Who is to.
        to: u64,
    },
    /// Remove a member.
    Remove(u64, String),
    /// Wait for this.
    Wait(String),
    /// Only a person can mend this.
    Stuck(String),
}

/// So many of these are a majority.
pub const fn majority(members: usize) -> usize {
    members / 2 + 1
}

impl Facts<'_> {
    /// Whether the members are those that are wanted, and none refuses to start.
    pub fn is_settled(&self) -> bool {
        self.book.is_settled(self.wanted) && !self.is_refused()
    }

    /// Whether a member refuses to start.
    pub fn is_refused(&self) -> bool {
        let refuses = |name| matches!(self.state(name), PodState::NotAMember | PodState::DataLost);
        self.book.0.keys().any(|name| refuses(name))
    }

    fn state(&self, name: &str) -> PodState {
        self.pods.get(name).copied().unwrap_or(PodState::NotReady)
    }

    fn is_ready(&self, name: &str) -> bool {
        self.state(name) == PodState::Ready
    }

    fn lost(&self) -> impl Iterator<Item = &str> {
        let names = self.book.0.keys().map(String::as_str);
        names.filter(|name| self.state(name) == PodState::DataLost)
    }

    /// The members whose pods are ready.
    pub fn ready(&self) -> impl Iterator<Item = &str> {
        let names = self.book.0.keys().map(String::as_str);
        names.filter(|name| self.is_ready(name))
    }

    /// What is said when there is no majority that could be asked.
    pub fn without_majority(&self) -> Step {
        let (all, ready) = (self.book.0.len(), self.ready().count());
        let lost: Vec<&str> = self.lost().collect();
        if all - lost.len() >= majority(all) {
            return Step::Wait(format!(
                "{ready} of {all} members are ready, {} are needed",
                majority(all)
            ));
        }
        Step::Stuck(format!(
            "quorum is lost: the data of {} of {all} members is gone ({}). Nothing is touched: bring their volumes back \
             or restore a backup; what the other members hold is kept",
            lost.len(),
            lost.join(", ")
        ))
    }
}

/// The next step.
pub fn next(facts: &Facts<'_>, view: &View) -> Step {
    let mut members: Vec<(&Member, &str)> = Vec::new();
    for member in &view.members {
        match &member.name {
            Some(name) => members.push((member, name)),
            None => {
                return Step::Stuck(format!(
                    "etcd has a member {:x} that is none of ours: remove it (etcdctl member remove {:x})",
                    member.id, member.id
                ));
            }
        }
    }
    members.sort_by_key(|(_, name)| *name);
    let voters: Vec<(&Member, &str)> = members
        .iter()
        .filter(|(member, _)| !member.learner)
        .copied()
        .collect();
    let working = voters.iter().filter(|(_, name)| facts.is_ready(name)).count();
    if working < majority(voters.len()) {
        return facts.without_majority();
    }
    if let Some((learner, name)) = members.iter().find(|(member, _)| member.learner) {
        return with_learner(facts, &members, learner, name);
    }
    if let Some((lost, name)) = voters
        .iter()
        .find(|(_, name)| facts.state(name) == PodState::DataLost)
    {
        // It is none of those that work, so that they stay a majority of those that remain.
        return Step::Remove(lost.id, (*name).to_owned());
    }
    if let Some(missing) = facts
        .wanted
        .iter()
        .find(|wanted| members.iter().all(|(_, name)| name != wanted))
    {
        return Step::Add(missing.clone());
    }
    match members
        .iter()
        .rfind(|(_, name)| facts.wanted.iter().all(|wanted| wanted != name))
    {
        Some((surplus, name)) => remove(facts, &voters, view.leader, surplus, name),
        None => write(facts, &members, None),
    }
}

/// Only one at a time has no vote: nothing else is done until it has one or is gone.
fn with_learner(facts: &Facts<'_>, members: &[(&Member, &str)], learner: &Member, name: &str) -> Step {
    let wanted = facts.wanted.iter().any(|wanted| wanted == name);
    if !wanted {
        return Step::Remove(learner.id, name.to_owned());
    }
    if facts.book.0.get(name) != Some(&Standing::joining(learner.id)) {
        return write(facts, members, Some(learner));
    }
    match facts.state(name) {
        PodState::DataLost => Step::Remove(learner.id, name.to_owned()),
        _ if learner.started => Step::Promote(learner.id, name.to_owned()),
        _ => Step::Wait(format!("{name} is to join")),
    }
}

fn remove(facts: &Facts<'_>, voters: &[(&Member, &str)], leader: u64, surplus: &Member, name: &str) -> Step {
    let others = || voters.iter().filter(|(member, _)| member.id != surplus.id);
    let working: Vec<&(&Member, &str)> = others().filter(|(_, name)| facts.is_ready(name)).collect();
    let needed = majority(others().count());
    let heir = working
        .iter()
        .find(|(_, name)| facts.wanted.iter().any(|wanted| wanted == name));
    match heir {
        Some((heir, _)) if working.len() >= needed => {
            if surplus.id == leader {
                Step::MoveLeader {
                    from: name.to_owned(),
                    to: heir.id,
                }
            } else {
                Step::Remove(surplus.id, name.to_owned())
            }
        }
        _ => Step::Wait(format!(
            "{name} is to be removed when {needed} of the other members are ready"
        )),
    }
}

/// The book that holds for these members, if it is another than there is.
fn write(facts: &Facts<'_>, members: &[(&Member, &str)], learner: Option<&Member>) -> Step {
    let standing = |member: &Member, name: &str| {
        if learner.is_some_and(|learner| learner.id == member.id) {
            Standing::joining(member.id)
        } else if facts.book.0.get(name) == Some(&Standing::Bootstrap) && !facts.is_ready(name) {
            Standing::Bootstrap
        } else {
            Standing::Member
        }
    };
    let book = members
        .iter()
        .map(|(member, name)| ((*name).to_owned(), standing(member, name)))
        .collect();
    let book = Book(book);
    if book == *facts.book {
        Step::Wait("members are starting".to_owned())
    } else {
        Step::Write(book)
    }
}
