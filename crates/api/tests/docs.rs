//! The words that users wait for and build alerts on are all in the documentation.

use clusterwright_api::conditions::{ClusterCondition, HostedControlPlaneCondition};
use clusterwright_api::reasons::Reason;

#[test]
fn every_condition_and_reason_is_documented() {
    let page = include_str!("../../../docs/hosted-control-planes.md");
    let words = HostedControlPlaneCondition::ALL.iter().map(|word| word.as_str());
    let words = words.chain(Reason::ALL.iter().map(|word| word.as_str()));
    let missing: Vec<&str> = words
        .filter(|word| !page.contains(&format!("| `{word}` |")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/hosted-control-planes.md lacks {missing:?}"
    );
    for word in ClusterCondition::ALL {
        assert!(
            page.contains(&format!("`{word}`")),
            "docs/hosted-control-planes.md lacks {word}"
        );
    }
}
