//! Our server against what the real one was recorded to answer, and the suite against what it promises.

use clusterwright_conformance::{
    ours::Ours,
    run,
    scenario::{KUBECTL_VERSIONS, Scenario, Verb},
    suite::Suite,
};
use clusterwright_testkit::{require, tools};
use std::{collections::BTreeMap, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn our_server_answers_as_the_real_one_was_recorded_to() {
    let mut suite = Suite::load().unwrap();
    suite
        .scenarios
        .retain(|scenario| scenario.kubectl.is_none() && !scenario.controllers);
    let ours = Ours::start(false).await.unwrap();
    compare(&suite, ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_controllers_do_what_the_real_ones_were_recorded_to() {
    let mut suite = Suite::load().unwrap();
    suite.scenarios.retain(|scenario| scenario.controllers);
    compare(&suite, Ours::start_with_controllers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_sees_our_server_as_it_saw_the_real_one() {
    for version in KUBECTL_VERSIONS {
        require!(tools::find_version("kubectl", version));
    }
    let mut suite = Suite::load().unwrap();
    suite.scenarios.retain(|scenario| scenario.kubectl.is_some());
    let ours = Ours::start(true).await.unwrap();
    compare(&suite, ours).await;
}

async fn compare(suite: &Suite, ours: Ours) {
    let transcripts = run::all(Arc::new(ours), &suite.scenarios).await;
    let report = suite.compare(&suite.recordings, &transcripts);
    let unexpected = report.text(&suite.pending);
    let pending = report
        .failed
        .keys()
        .filter(|id| suite.pending.contains(*id))
        .count();
    let healed: Vec<_> = report.passed.intersection(&suite.pending).collect();
    println!("conformance: {}; {pending} of them pending", report.summary());
    if !healed.is_empty() {
        println!("in pending.txt but passing: {healed:?}");
    }
    assert!(unexpected.is_empty(), "\n{unexpected}");
}

/// The behaviours that the suite shows, and how many scenarios each is to have.
const ROWS: [(&str, usize); 21] = [
    ("resourceVersion", 5),
    ("list-watch", 15),
    ("bookmarks", 5),
    ("metadata", 5),
    ("generation", 5),
    ("finalizers", 5),
    ("subresources", 5),
    ("patches", 15),
    ("apply", 15),
    ("crds", 5),
    ("structural-schema", 15),
    ("cel", 5),
    ("selectors", 5),
    ("discovery", 5),
    ("storage", 5),
    ("garbage-collection", 5),
    ("controllers", 5),
    ("namespaces", 5),
    ("dry-run", 5),
    ("kubectl", 15),
    ("access", 20),
];

#[test]
fn every_behaviour_has_its_scenarios() {
    let suite = Suite::load().unwrap();
    let whole: Vec<_> = suite
        .scenarios
        .iter()
        .filter(|scenario| scenario.is_whole())
        .collect();
    let names: std::collections::BTreeSet<_> = whole.iter().map(|s| (&s.area, &s.name)).collect();
    assert!(names.len() >= 150, "only {} scenarios count", names.len());
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for scenario in whole {
        for row in &scenario.rows {
            *rows.entry(row).or_default() += 1;
        }
    }
    for (row, least) in ROWS {
        let count = rows.get(row).copied().unwrap_or_default();
        assert!(count >= least, "{row} has {count} scenarios of {least}");
    }
}

#[test]
fn half_of_the_scenarios_are_error_paths() {
    let suite = Suite::load().unwrap();
    let fails = |scenario: &&Scenario| {
        suite.recordings.get(&scenario.id()).is_some_and(|transcript| {
            transcript.iter().any(|entry| {
                entry["status"].as_u64().is_some_and(|status| status >= 400)
                    || entry["exit"].as_i64().is_some_and(|exit| exit != 0)
                    || entry["events"]
                        .as_array()
                        .is_some_and(|events| events.iter().any(|e| e["type"] == "ERROR"))
            })
        })
    };
    let errors = suite.scenarios.iter().filter(fails).count();
    assert!(
        errors * 2 >= suite.scenarios.len(),
        "{errors} of {}",
        suite.scenarios.len()
    );
}

#[test]
fn every_scenario_has_a_recording_of_all_its_steps() {
    let suite = Suite::load().unwrap();
    for scenario in &suite.scenarios {
        let id = scenario.id();
        let recording = suite
            .recordings
            .get(&id)
            .unwrap_or_else(|| panic!("{id} has no recording"));
        let steps: Vec<_> = scenario.steps.iter().map(|step| step.text.as_str()).collect();
        let recorded: Vec<_> = recording
            .iter()
            .map(|entry| entry["step"].as_str().unwrap())
            .collect();
        assert_eq!(steps, recorded, "{id}");
        assert!(scenario.steps.iter().any(|step| step.verb != Verb::Read), "{id}");
    }
    let ids: Vec<_> = suite.scenarios.iter().map(Scenario::id).collect();
    for id in suite.recordings.keys().chain(&suite.pending) {
        assert!(ids.contains(id), "{id} is no scenario");
    }
}
