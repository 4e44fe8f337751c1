use super::*;
use crate::crd::CrdStrategy;
use crate::resource::{Strategy, Surroundings};
use clusterwright_clock::Clock;

struct Nothing;

impl Surroundings for Nothing {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn get(&self, _group: &str, _plural: &str, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }

    fn list(&self, _group: &str, _plural: &str, _namespace: &str) -> Vec<Value> {
        Vec::new()
    }
}

fn created(crd: &Value) -> (Value, Vec<String>) {
    let mut crd = crd.clone();
    CrdStrategy.default(&mut crd);
    CrdStrategy.prepare_create(&mut crd, &Nothing);
    let errors = CrdStrategy.validate_create(&crd, &Nothing);
    (crd, errors.iter().map(ToString::to_string).collect())
}

/// What is compared: the real server numbers the types of `self` at random, and estimates what rules cost, which is
/// not done here.
fn comparable(causes: &[Value]) -> Vec<String> {
    let numbered = regex::Regex::new("selfType[0-9]+").unwrap();
    let mut causes: Vec<String> = causes
        .iter()
        .filter_map(Value::as_str)
        .filter(|cause| !cause.contains("estimated rule cost"))
        .map(|cause| numbered.replace_all(cause, "selfType").into_owned())
        .collect();
    causes.sort();
    causes
}

/// Each entry is a CRD and the causes that kube-apiserver 1.36.3 refused it for.
#[test]
fn refuses_as_the_real_server_did() {
    let recorded: Value = serde_json::from_str(include_str!("testdata/definitions.json")).unwrap();
    let mut differing = Vec::new();
    for entry in list(&recorded) {
        let mut said = created(&entry["crd"]).1;
        let wanted = comparable(list(&entry["causes"]));
        said.sort();
        if said != wanted {
            differing.push(format!("said:   {said:#?}\nwanted: {wanted:#?}"));
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ\n{}",
        differing.len(),
        differing.join("\n\n")
    );
}

#[test]
fn what_is_served_cannot_change_its_names() {
    let recorded: Value = serde_json::from_str(include_str!("testdata/definitions.json")).unwrap();
    let (old, errors) = created(&recorded[0]["crd"]);
    assert_eq!(errors, Vec::<String>::new());
    let old = crate::crd::next_status(&old, &[], &Clock::system()).unwrap();
    let old = crate::crd::next_status(&old, &[], &Clock::system()).unwrap();
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["group"] = json!("other.com");
    new["spec"]["versions"][0]["name"] = json!("v2");
    CrdStrategy.prepare_update(&mut new, &old, "", &Nothing);
    assert_eq!(new["metadata"]["generation"], 1);
    let said: Vec<String> = CrdStrategy
        .validate_update(&new, &old, "", &Nothing)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        said,
        [
            r#"spec.scope: Invalid value: "Cluster": field is immutable"#,
            r#"spec.group: Invalid value: "other.com": field is immutable"#,
            r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"#,
        ]
    );
}
