use crate::builtin;
use crate::builtin::codec;
use crate::field::FieldErrors;
use crate::resource::{Resource, Surroundings};
use crate::status::ApiError;
use clusterwright_clock::Clock;
use serde_json::{Value, json};
use std::sync::Arc;

/// Objects that a real kube-apiserver 1.36.3 refused on creation, each with what it said: the causes in their order,
/// or the message.
const REFUSALS: &str = include_str!("refusals.jsonl");

/// A cluster that has a service account and the Service of the API server.
struct Cluster;

impl Surroundings for Cluster {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn get(&self, _: &str, plural: &str, _: &str, name: &str) -> Option<Value> {
        (plural == "serviceaccounts" && name == "default").then(|| json!({"metadata": {"name": "default"}}))
    }

    fn list(&self, _: &str, plural: &str, _: &str) -> Vec<Value> {
        match plural {
            "services" => vec![json!({"metadata": {"namespace": "default", "name": "kubernetes"},
                "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}})],
            _ => Vec::new(),
        }
    }
}

fn resource(group: &str, plural: &str) -> Arc<Resource> {
    let mut all = builtin::resources().into_iter();
    all.find(|r| &*r.group == group && &*r.plural == plural)
        .expect("served")
}

fn made(resource: &Resource, mut object: Value) -> Result<(Value, FieldErrors), ApiError> {
    if resource.namespaced {
        object["metadata"]["namespace"] = json!("default");
    }
    codec::decode(
        &resource.schema,
        &resource.kind,
        &resource.api_version(),
        &mut object,
    )?;
    let strategy = &resource.strategy;
    strategy.default(&mut object);
    strategy.admit(&mut object, None, "", &Cluster)?;
    strategy.prepare_create(&mut object, &Cluster);
    let errors = strategy.validate_create(&object, &Cluster);
    Ok((object, errors))
}

fn create(group: &str, plural: &str, object: Value) -> Value {
    let (object, errors) = made(&resource(group, plural), object).expect("admitted");
    assert_eq!(errors, [], "valid");
    object
}

/// The object after an update to `new`, or what is wrong with it.
fn update(group: &str, plural: &str, old: &Value, mut new: Value, sub: &str) -> Result<Value, Vec<String>> {
    let resource = resource(group, plural);
    resource.strategy.default(&mut new);
    resource.strategy.prepare_update(&mut new, old, sub, &Cluster);
    let errors = resource.strategy.validate_update(&new, old, sub, &Cluster);
    if errors.is_empty() {
        Ok(new)
    } else {
        Err(errors.iter().map(ToString::to_string).collect())
    }
}

#[test]
fn refuses_what_the_real_server_refuses() {
    for line in REFUSALS.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let (group, plural) = case["resource"]
            .as_str()
            .and_then(|r| r.split_once('/'))
            .expect("a resource");
        match made(&resource(group, plural), case["body"].clone()) {
            Err(refusal) => assert_eq!(case["message"], refusal.message, "{}", case["body"]),
            Ok((_, errors)) => {
                let causes: Vec<Value> = errors
                    .iter()
                    .map(|e| json!([e.kind.cause(), e.path.to_string(), e.body()]))
                    .collect();
                assert_eq!(case["causes"], json!(causes), "{}", case["body"]);
            }
        }
    }
}

#[test]
fn pods_are_admitted_as_by_default() {
    let pod = create(
        "",
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}),
    );
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["name"], spec["volumes"][0]["name"]);
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

#[test]
fn a_pods_spec_hardly_changes() {
    let old = create(
        "",
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}),
    );
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("j:2");
    assert!(update("", "pods", &old, new.clone(), "").is_ok());
    new["spec"]["hostname"] = json!("h");
    let errors = update("", "pods", &old, new, "").expect_err("not changeable");
    assert!(
        errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than"),
        "{errors:?}"
    );
}

#[test]
fn status_and_spec_change_apart() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    let mut old = create(
        "apps",
        "deployments",
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
    );
    old["metadata"]["generation"] = json!(1);
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(3);
    new["status"] = json!({"replicas": 9});
    let changed = update("apps", "deployments", &old, new.clone(), "").expect("valid");
    assert_eq!(
        (&changed["spec"]["replicas"], &changed["metadata"]["generation"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(changed["status"], json!({}));
    let reported = update("apps", "deployments", &old, new, "status").expect("valid");
    assert_eq!(
        (&reported["spec"]["replicas"], &reported["metadata"]["generation"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(reported["status"]["replicas"], 9);
}

#[test]
fn what_is_immutable_stays() {
    let old = create(
        "",
        "configmaps",
        json!({"metadata": {"name": "c"}, "data": {"a": "x"}, "immutable": true}),
    );
    let mut new = old.clone();
    new["data"]["a"] = json!("y");
    new["immutable"] = json!(false);
    assert_eq!(
        update("", "configmaps", &old, new, ""),
        Err(vec![
            "immutable: Forbidden: field is immutable when `immutable` is set".to_owned(),
            "data: Forbidden: field is immutable when `immutable` is set".to_owned(),
        ])
    );
    let old = create(
        "",
        "secrets",
        json!({"metadata": {"name": "s"}, "stringData": {"a": "x"}, "type": "x/y"}),
    );
    assert_eq!(old["data"], json!({"a": "eA=="}));
    let mut new = old.clone();
    new["type"] = json!("z");
    assert_eq!(
        update("", "secrets", &old, new, ""),
        Err(vec!["type: Invalid value: \"z\": field is immutable".to_owned()])
    );
}

#[test]
fn services_get_and_keep_their_addresses() {
    let old = create(
        "",
        "services",
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
    );
    let spec = &old["spec"];
    assert!(
        spec["clusterIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.96."))
    );
    assert_eq!(spec["clusterIPs"][0], spec["clusterIP"]);
    assert!(
        spec["ports"][0]["nodePort"]
            .as_i64()
            .is_some_and(|port| (30_000..=32_767).contains(&port))
    );
    let mut new = old.clone();
    for field in ["clusterIP", "clusterIPs"] {
        new["spec"][field] = Value::Null;
    }
    let kept = update("", "services", &old, new.clone(), "").expect("valid");
    assert_eq!(kept["spec"]["clusterIP"], spec["clusterIP"]);
    new["spec"]["clusterIP"] = json!("10.96.77.77");
    new["spec"]["clusterIPs"] = json!(["10.96.77.77"]);
    assert_eq!(
        update("", "services", &old, new, ""),
        Err(vec![
            "spec.clusterIPs[0]: Invalid value: [\"10.96.77.77\"]: may not change once set".to_owned()
        ])
    );
    let mut new = old.clone();
    new["spec"]["type"] = json!("ClusterIP");
    let plain = update("", "services", &old, new, "").expect("valid");
    assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
    let taken =
        json!({"metadata": {"name": "t"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 1}]}});
    let (_, errors) = made(&resource("", "services"), taken).expect("admitted");
    assert_eq!(
        errors[0].to_string(),
        "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"
    );
}

#[test]
fn addresses_are_not_given_twice_before_they_are_stored() {
    let services = resource("", "services");
    let mut seen = Vec::new();
    for index in 0..50 {
        let service = json!({"metadata": {"name": format!("s{index}")}, "spec": {"ports": [{"port": 80}]}});
        let (service, errors) = made(&services, service).expect("admitted");
        assert_eq!(errors, []);
        assert!(!seen.contains(&service["spec"]["clusterIP"]));
        seen.push(service["spec"]["clusterIP"].clone());
    }
}

#[test]
fn both_kinds_of_events_are_one() {
    let mut event = create(
        "",
        "events",
        json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"},
            "reason": "R", "message": "M", "type": "Normal", "source": {"component": "c"}}),
    );
    let newer = resource("events.k8s.io", "events");
    newer.strategy.convert(&mut event, "v1");
    newer.strategy.default(&mut event);
    assert_eq!(event["note"], "M");
    assert_eq!(event["regarding"]["name"], "p");
    assert_eq!(event["deprecatedSource"], json!({"component": "c"}));
    assert_eq!(newer.strategy.stored_as(), Some(("", "events")));
    let fields = newer.strategy.selectable_fields(&event);
    assert!(fields.contains(&("regarding.name", "p".to_owned())));
}

#[test]
fn claims_are_protected_and_hardly_change() {
    let old = create(
        "",
        "persistentvolumeclaims",
        json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    assert_eq!(
        old["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    assert_eq!(old["status"], json!({"phase": "Pending"}));
    let mut new = old.clone();
    new["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    assert!(update("", "persistentvolumeclaims", &old, new, "").is_err());
    let mut new = old.clone();
    new["spec"]["volumeName"] = json!("v");
    assert!(update("", "persistentvolumeclaims", &old, new, "").is_ok());
}

#[test]
fn pods_end_with_grace_where_they_run() {
    let strategy = &resource("", "pods").strategy;
    let mut pod = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
    assert_eq!(strategy.default_grace_seconds(&pod, None), Some(30));
    assert_eq!(strategy.default_grace_seconds(&pod, Some(5)), Some(5));
    pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(strategy.default_grace_seconds(&pod, Some(5)), Some(0));
    assert_eq!(
        strategy.default_grace_seconds(&json!({"spec": {}}), Some(5)),
        Some(0)
    );
}
