//! The steps from the members of etcd that there are to those that there are to be, against a model of etcd.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking too"
)]

use std::collections::BTreeMap;

use clusterwright_hosted::etcd::book::{Book, Standing, ordinal};
use clusterwright_hosted::etcd::plan::{Facts, Member, PodState, Step, View, majority, next};
use proptest::prelude::*;

fn name(ordinal: usize) -> String {
    format!("demo-etcd-{ordinal}")
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// An etcd with its pods and the controller's book, as they behave together.
#[derive(Clone, Debug)]
struct Model {
    wanted: Vec<String>,
    book: Book,
    view: View,
    pods: BTreeMap<String, PodState>,
    last: u64,
}

impl Model {
    fn new(count: usize) -> Self {
        let members = (0..count).map(|ordinal| Member {
            id: ordinal as u64 + 1,
            name: Some(name(ordinal)),
            learner: false,
            started: true,
        });
        Self {
            wanted: names(count),
            book: Book::all(names(count), &Standing::Member),
            view: View {
                members: members.collect(),
                leader: count as u64,
            },
            pods: names(count)
                .into_iter()
                .map(|name| (name, PodState::Ready))
                .collect(),
            last: 100,
        }
    }

    fn member(&mut self, name: &str) -> Option<&mut Member> {
        let mut members = self.view.members.iter_mut();
        members.find(|member| member.name.as_deref() == Some(name))
    }

    /// Voters that work, and voters.
    fn voters(&self) -> (usize, usize) {
        let voters = self.view.members.iter().filter(|member| !member.learner);
        let names: Vec<&str> = voters.filter_map(|member| member.name.as_deref()).collect();
        let working = names
            .iter()
            .filter(|name| self.pods.get(**name) == Some(&PodState::Ready));
        (working.count(), names.len())
    }

    /// A member's data is gone; if it led, another does.
    fn lose(&mut self, ordinal: usize) {
        let Some(pod) = self.pods.get_mut(&name(ordinal)) else {
            return;
        };
        *pod = PodState::DataLost;
        let voters = self.view.members.iter().filter(|member| !member.learner);
        let heir = voters
            .filter(|voter| self.pods.get(voter.name.as_ref().unwrap()) == Some(&PodState::Ready))
            .map(|voter| voter.id)
            .next();
        if self.member(&name(ordinal)).map(|member| member.id) == Some(self.view.leader)
            && let Some(heir) = heir
        {
            self.view.leader = heir;
        }
    }

    /// What StatefulSet, kubelet and first container do by the book.
    fn settle(&mut self) {
        let replicas = usize::try_from(self.book.replicas()).unwrap();
        self.pods
            .retain(|name, _| usize::try_from(ordinal(name).unwrap()).unwrap() < replicas);
        for pod in names(replicas) {
            let state = match self.book.0.get(&pod) {
                None => PodState::NotAMember,
                Some(Standing::Joining { .. }) => {
                    if let Some(member) = self.member(&pod) {
                        member.started = true;
                    }
                    PodState::Ready
                }
                // One that waited to be added has nothing.
                Some(_) if self.pods.get(&pod) == Some(&PodState::NotAMember) => PodState::DataLost,
                Some(_) => continue,
            };
            self.pods.insert(pod, state);
        }
    }

    fn step(&mut self) -> Step {
        let facts = Facts {
            wanted: &self.wanted,
            book: &self.book,
            pods: &self.pods,
        };
        let step = next(&facts, &self.view);
        let before = self.voters();
        match step.clone() {
            Step::Wait(_) | Step::Stuck(_) => {}
            Step::Write(book) => self.book = book,
            Step::Add(name) => {
                assert!(
                    self.view.members.iter().all(|member| !member.learner),
                    "two learners"
                );
                self.last += 1;
                self.view.members.push(Member {
                    id: self.last,
                    name: Some(name.clone()),
                    learner: true,
                    started: false,
                });
                self.book.0.insert(name, Standing::joining(self.last));
            }
            Step::Promote(_, name) => {
                let member = self.member(&name).unwrap();
                assert!(member.started, "a vote for one that never came");
                member.learner = false;
                self.book.0.insert(name, Standing::Member);
            }
            Step::MoveLeader { to, .. } => self.view.leader = to,
            Step::Remove(id, name) => {
                assert_ne!(self.view.leader, id, "a leader that was not moved first");
                self.view.members.retain(|member| member.id != id);
                self.book.0.remove(&name);
            }
        }
        let (working, voters) = self.voters();
        if (working, voters) != before {
            assert!(
                working >= majority(voters),
                "{step:?}: {working} of {voters} work"
            );
        }
        step
    }

    fn is_done(&self) -> bool {
        let facts = Facts {
            wanted: &self.wanted,
            book: &self.book,
            pods: &self.pods,
        };
        facts.is_settled()
    }

    fn run(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..50 {
            if self.is_done() {
                return steps;
            }
            steps.push(self.step());
            self.settle();
        }
        panic!("no end: {steps:?}, {self:?}");
    }
}

#[test]
fn members_are_added_one_at_a_time() {
    let mut model = Model::new(1);
    model.wanted = names(3);
    assert_eq!(
        model.run(),
        [
            Step::Add(name(1)),
            Step::Promote(101, name(1)),
            Step::Add(name(2)),
            Step::Promote(102, name(2)),
        ]
    );
}

#[test]
fn members_are_removed_one_at_a_time_and_the_leader_is_moved_first() {
    let mut model = Model::new(3);
    model.wanted = names(1);
    assert_eq!(
        model.run(),
        [
            Step::MoveLeader { from: name(2), to: 1 },
            Step::Remove(3, name(2)),
            Step::Remove(2, name(1)),
        ]
    );
}

#[test]
fn a_member_that_lost_its_data_is_replaced() {
    let mut model = Model::new(3);
    model.lose(1);
    assert_eq!(
        model.run(),
        [
            Step::Remove(2, name(1)),
            Step::Add(name(1)),
            Step::Promote(101, name(1)),
        ]
    );
}

#[test]
fn without_a_majority_nothing_is_touched() {
    let mut model = Model::new(3);
    model.lose(0);
    model.lose(1);
    let before = model.clone();
    let Step::Stuck(why) = model.step() else {
        panic!("it goes on");
    };
    assert!(
        why.contains("quorum is lost") && why.contains("demo-etcd-0, demo-etcd-1"),
        "{why}"
    );
    assert_eq!((model.book, model.view), (before.book, before.view));

    let mut alone = Model::new(1);
    alone.lose(0);
    assert!(matches!(alone.step(), Step::Stuck(_)));

    // What only does not run may come back.
    let mut down = Model::new(3);
    down.pods.insert(name(0), PodState::NotReady);
    down.pods.insert(name(1), PodState::NotReady);
    assert!(matches!(down.step(), Step::Wait(_)));
}

#[test]
fn a_stranger_is_left_to_people() {
    let mut model = Model::new(3);
    model.view.members.push(Member {
        id: 0xbeef,
        name: None,
        learner: false,
        started: true,
    });
    model.wanted = names(1);
    let Step::Stuck(why) = model.step() else {
        panic!("it goes on");
    };
    assert!(why.contains("beef"), "{why}");
}

#[test]
fn a_step_that_was_not_written_down_is_found_again() {
    // The process ended between adding a learner and writing that down.
    let mut model = Model::new(1);
    model.wanted = names(3);
    let book = model.book.clone();
    model.step();
    model.book = book;
    assert!(matches!(model.step(), Step::Write(_)));
    model.run();
    assert_eq!(model.voters(), (3, 3));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is wanted and whoever loses its data, as long as a majority works: the wanted members come about, and
    /// no step leaves too few.
    #[test]
    fn every_way_leads_to_what_is_wanted(
        start in prop::sample::select(vec![1_usize, 3]),
        events in prop::collection::vec((0_usize..6, 0_usize..4), 1..8),
    ) {
        let mut model = Model::new(start);
        for (event, steps) in events {
            match event {
                0 => model.wanted = names(1),
                1 => model.wanted = names(3),
                2 => {
                    // The controller ended before it wrote its last step down.
                    let book = model.book.clone();
                    model.step();
                    model.book = book;
                }
                ordinal => {
                    let (working, voters) = model.voters();
                    let voter = model.member(&name(ordinal - 3)).is_some_and(|member| !member.learner);
                    if !voter || working > majority(voters) {
                        model.lose(ordinal - 3);
                    }
                }
            }
            for _ in 0..steps {
                model.settle();
                model.step();
            }
        }
        model.run();
        prop_assert_eq!(model.voters(), (model.wanted.len(), model.wanted.len()));
    }
}
