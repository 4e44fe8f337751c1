//! Which version each part is to run now, on the way to the one that the spec asks for.
//!
//! The order is etcd, API servers, then controller manager and scheduler; a step begins when the one before is
//! complete. A minor is never skipped: a spec that was changed twice while the first change was under way (or while
//! reconciliation was paused) is gone to by way of the first release of the minors between.

use super::Version;

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployed {
    /// The version that etcd's members were last chosen for; `None` if there are none.
    pub etcd: Option<Version>,
    /// Every member of etcd runs what was last chosen, and is ready.
    pub etcd_complete: bool,
    /// The version of the API servers' pod template; `None` if there is none.
    pub api_server: Option<Version>,
    /// Every pod of an API server runs that version and is ready.
    pub api_server_complete: bool,
    /// The version of the controller manager's pod template.
    pub controller_manager: Option<Version>,
    /// The version of the scheduler's pod template.
    pub scheduler: Option<Version>,
}

/// What is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The version that etcd is chosen for.
    pub etcd: Version,
    /// The API servers' version.
    pub api_server: Version,
    /// The controller manager's version.
    pub controller_manager: Version,
    /// The scheduler's version.
    pub scheduler: Version,
    /// The spec asks for a version that can't be gone to now, and why.
    pub held: Option<Held>,
}

/// Why the version that the spec asks for is not gone to yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A change to an earlier version comes first.
    Rollout,
    /// It can't be gone back to from the one that runs.
    Downgrade,
}

/// The versions to run, given the one asked for and what runs.
pub fn targets(wanted: &Version, deployed: &Deployed) -> Targets {
    let (goal, held) = goal(wanted, deployed);
    // Each part goes on only when the part before has arrived; until then it keeps what it has.
    let etcd = goal.clone();
    let etcd_arrived = deployed.etcd.as_ref() == Some(&goal) && deployed.etcd_complete;
    let api_server = match &deployed.api_server {
        Some(running) if !etcd_arrived => running.clone(),
        _ => goal.clone(),
    };
    let api_servers_arrived = deployed.api_server.as_ref() == Some(&goal) && deployed.api_server_complete;
    let follow = |running: &Option<Version>| match running {
        Some(running) if !api_servers_arrived => running.clone(),
        // Made for the first time: not ahead of the API servers.
        None => api_server.clone(),
        Some(_) => goal.clone(),
    };
    Targets {
        controller_manager: follow(&deployed.controller_manager),
        scheduler: follow(&deployed.scheduler),
        etcd,
        api_server,
        held,
    }
}

/// The version to go to now: the one wanted, or the one that is being gone to.
fn goal(wanted: &Version, deployed: &Deployed) -> (Version, Option<Held>) {
    // etcd is the first to change, so that its version is the latest that was set out for, unless that was another
    // patch of the minor.
    let Some(current) = deployed.etcd.as_ref().max(deployed.api_server.as_ref()) else {
        return (wanted.clone(), None);
    };
    if !wanted.is_reached_from(current) {
        return (current.clone(), Some(Held::Downgrade));
    }
    if wanted.minor() == current.minor() {
        return (wanted.clone(), None);
    }
    let arrived = |running: &Option<Version>| {
        running
            .as_ref()
            .is_none_or(|running| running.minor() == current.minor())
    };
    let complete = deployed.etcd_complete
        && deployed.api_server_complete
        && arrived(&deployed.api_server)
        && arrived(&deployed.controller_manager)
        && arrived(&deployed.scheduler);
    if !complete {
        (current.clone(), Some(Held::Rollout))
    } else if wanted.minor() > current.minor() + 1 {
        (Version::first_of(current.minor() + 1), Some(Held::Rollout))
    } else {
        (wanted.clone(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn all_at(version: &str, complete: bool) -> Deployed {
        Deployed {
            etcd: Some(v(version)),
            etcd_complete: complete,
            api_server: Some(v(version)),
            api_server_complete: complete,
            controller_manager: Some(v(version)),
            scheduler: Some(v(version)),
        }
    }

    #[test]
    fn a_new_control_plane_starts_with_what_is_wanted() {
        let targets = targets(&v("v1.35.1"), &Deployed::default());
        assert_eq!(
            [&targets.etcd, &targets.api_server, &targets.scheduler],
            [&v("v1.35.1"); 3]
        );
    }

    #[test]
    fn the_order_is_etcd_api_servers_others() {
        let mut deployed = all_at("v1.33.0", true);
        let step = targets(&v("v1.34.0"), &deployed);
        assert_eq!(
            (step.etcd, step.api_server, step.controller_manager),
            (v("v1.34.0"), v("v1.33.0"), v("v1.33.0"))
        );

        (deployed.etcd, deployed.etcd_complete) = (Some(v("v1.34.0")), false);
        assert_eq!(targets(&v("v1.34.0"), &deployed).api_server, v("v1.33.0"));

        deployed.etcd_complete = true;
        let step = targets(&v("v1.34.0"), &deployed);
        assert_eq!(
            (step.api_server, step.controller_manager),
            (v("v1.34.0"), v("v1.33.0"))
        );

        (deployed.api_server, deployed.api_server_complete) = (Some(v("v1.34.0")), false);
        assert_eq!(targets(&v("v1.34.0"), &deployed).scheduler, v("v1.33.0"));

        deployed.api_server_complete = true;
        let step = targets(&v("v1.34.0"), &deployed);
        assert_eq!(
            (step.controller_manager, step.scheduler),
            (v("v1.34.0"), v("v1.34.0"))
        );
    }

    #[test]
    fn a_second_change_waits_for_the_first() {
        let mut deployed = all_at("v1.33.0", true);
        deployed.etcd = Some(v("v1.34.0"));
        let step = targets(&v("v1.35.0"), &deployed);
        assert_eq!((step.etcd, step.held), (v("v1.34.0"), Some(Held::Rollout)));
        assert_eq!(
            targets(&v("v1.35.0"), &all_at("v1.34.0", true)).etcd,
            v("v1.35.0")
        );
    }

    #[test]
    fn minors_between_are_gone_through() {
        let step = targets(&v("v1.36.2"), &all_at("v1.34.7", true));
        assert_eq!((step.etcd, step.held), (v("v1.35.0"), Some(Held::Rollout)));
        let step = targets(&v("v1.36.2"), &all_at("v1.35.0", true));
        assert_eq!((step.etcd, step.held), (v("v1.36.2"), None));
    }

    #[test]
    fn a_release_that_can_not_be_run_is_left_for_another_of_its_minor() {
        let mut deployed = all_at("v1.36.3", true);
        for bad in ["v1.36.99", "v1.36.4-rc.0"] {
            (deployed.etcd, deployed.api_server) = (Some(v(bad)), Some(v(bad)));
            deployed.api_server_complete = false;
            let step = targets(&v("v1.36.3"), &deployed);
            assert_eq!((&step.etcd, step.held), (&v("v1.36.3"), None));
            deployed.etcd = Some(step.etcd);
            let step = targets(&v("v1.36.3"), &deployed);
            assert_eq!(
                [&step.etcd, &step.api_server, &step.controller_manager],
                [&v("v1.36.3"); 3]
            );
            assert_eq!(step.held, None);
        }
        let step = targets(&v("v1.36.3-rc.0"), &deployed);
        assert_eq!(step.held, Some(Held::Downgrade));
    }

    #[test]
    fn nothing_goes_back_even_where_the_schema_was_passed_by() {
        let step = targets(&v("v1.33.9"), &all_at("v1.34.0", true));
        assert_eq!(
            (step.etcd, step.api_server, step.held),
            (v("v1.34.0"), v("v1.34.0"), Some(Held::Downgrade))
        );
    }

    fn version() -> impl Strategy<Value = Version> {
        (33_u64..=36, 0_u64..3).prop_map(|(minor, patch)| v(&format!("v1.{minor}.{patch}")))
    }

    proptest! {
        /// Whatever is asked for in whatever moment: no follower's minor is ahead of the slowest API server's, no step
        /// skips a minor or goes back to one, and once the wishes end the last one that may be reached is.
        #[test]
        fn any_sequence_of_wishes_is_walked_in_safe_steps(
            first in version(),
            moves in proptest::collection::vec((proptest::option::of(version()), any::<[bool; 2]>()), 1..40),
        ) {
            let mut wanted = first.clone();
            let mut deployed = Deployed::default();
            // What API servers' pods really run, oldest first: behind the template until complete.
            let mut oldest_api_server = first;
            let rest = std::iter::repeat_n((None, [true, true]), 60);
            for (wish, [etcd_done, api_done]) in moves.into_iter().chain(rest) {
                if let Some(wish) = wish
                    && wish.is_reached_from(&wanted)
                    && wish.minor() <= wanted.minor() + 1
                {
                    wanted = wish;
                }
                if etcd_done { deployed.etcd_complete = deployed.etcd.is_some(); }
                if api_done && deployed.api_server.is_some() {
                    deployed.api_server_complete = true;
                    oldest_api_server = deployed.api_server.clone().unwrap();
                }
                let step = targets(&wanted, &deployed);
                prop_assert_ne!(step.held, Some(Held::Downgrade));
                if let Some(etcd) = &deployed.etcd {
                    prop_assert!((etcd.minor()..=etcd.minor() + 1).contains(&step.etcd.minor()));
                }
                if let Some(api_server) = &deployed.api_server {
                    let minor = api_server.minor();
                    prop_assert!((minor..=minor + 1).contains(&step.api_server.minor()));
                    prop_assert!(step.controller_manager.minor() <= oldest_api_server.minor());
                    prop_assert!(step.scheduler.minor() <= oldest_api_server.minor());
                }
                if deployed.etcd.as_ref() != Some(&step.etcd) { deployed.etcd_complete = false; }
                if deployed.api_server.as_ref() != Some(&step.api_server) {
                    if deployed.api_server.is_none() { oldest_api_server = step.api_server.clone(); }
                    deployed.api_server_complete = false;
                }
                deployed.etcd = Some(step.etcd);
                deployed.api_server = Some(step.api_server);
                deployed.controller_manager = Some(step.controller_manager);
                deployed.scheduler = Some(step.scheduler);
            }
            prop_assert_eq!(deployed.etcd.as_ref(), Some(&wanted));
            prop_assert_eq!(deployed.scheduler.as_ref(), Some(&wanted));
            prop_assert_eq!(deployed.controller_manager.as_ref(), Some(&wanted));
        }
    }
}
