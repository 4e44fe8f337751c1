use super::*;
use crate::crd::resources_of;
use crate::resource::Resource;
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

fn widgets(subresources: &Value) -> Arc<Resource> {
    let crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"]},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": subresources,
            "selectableFields": [{"jsonPath": ".spec.size"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "default": 1, "maximum": 5},
                    "size": {"type": "string"}, "any": {"x-kubernetes-preserve-unknown-fields": true}}},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "s": {"type": "string"}}}}}}},
            {"name": "v0", "served": false, "storage": false}]}});
    let mut resources = resources_of(&crd);
    assert_eq!(resources.len(), 1);
    resources.remove(0)
}

fn widget(spec: &Value, status: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "generation": 3},
        "spec": spec, "status": status})
}

#[test]
fn is_served_as_its_definition_says() {
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let resource = widgets(&json!({"status": {}, "scale": scale}));
    assert_eq!(resource.api_version(), "example.com/v1");
    assert_eq!(&*resource.list_kind, "WidgetList");
    assert!(resource.subresource("status").is_some());
    let scale = resource.subresource("scale").unwrap();
    assert_eq!(&*scale.scale.as_ref().unwrap().spec_replicas, ".spec.replicas");
    let object = widget(&json!({"size": "big"}), &json!({}));
    let custom = resource.custom.as_ref().unwrap();
    assert_eq!(
        selectable_values(custom, &object),
        [("spec.size".to_owned(), "big".to_owned())]
    );
}

#[test]
fn status_and_the_rest_are_written_apart() {
    let resource = widgets(&json!({"status": {}}));
    let strategy = &resource.strategy;
    let mut new = widget(&json!({}), &json!({"s": "x"}));
    strategy.default(&mut new);
    strategy.prepare_create(&mut new, &Nothing);
    assert_eq!(new["metadata"]["generation"], 1);
    assert_eq!(new["spec"]["replicas"], 1);
    assert!(new.get("status").is_none());

    let old = widget(&json!({"replicas": 1}), &json!({"s": "old"}));
    let mut new = widget(&json!({"replicas": 2}), &json!({"s": "new"}));
    strategy.prepare_update(&mut new, &old, "", &Nothing);
    assert_eq!(
        (&new["status"]["s"], &new["metadata"]["generation"]),
        (&json!("old"), &json!(4))
    );
    let mut new = widget(&json!({"replicas": 2}), &json!({"s": "new"}));
    new["metadata"]["labels"] = json!({"a": "b"});
    new["metadata"]["managedFields"] = json!([{}]);
    strategy.prepare_update(&mut new, &old, "status", &Nothing);
    let mut wanted = widget(&json!({"replicas": 1}), &json!({"s": "new"}));
    wanted["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(new, wanted);
}

#[test]
fn without_a_status_subresource_all_counts() {
    let resource = widgets(&json!({}));
    let strategy = &resource.strategy;
    let mut new = widget(&json!({}), &json!({"s": "x"}));
    strategy.prepare_create(&mut new, &Nothing);
    assert_eq!(new["status"]["s"], "x");
    let old = new.clone();
    new["status"]["s"] = json!("y");
    strategy.prepare_update(&mut new, &old, "", &Nothing);
    assert_eq!(new["metadata"]["generation"], 2);
    let old = new.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    strategy.prepare_update(&mut new, &old, "", &Nothing);
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn judges_by_type_schema_and_scale() {
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.s"});
    let resource = widgets(&json!({"status": {}, "scale": scale}));
    let strategy = &resource.strategy;
    let said = |errors: FieldErrors| -> Vec<String> { errors.iter().map(ToString::to_string).collect() };
    let mut wrong = widget(&json!({}), &json!({}));
    wrong["kind"] = json!("Other");
    assert_eq!(
        said(strategy.validate_create(&wrong, &Nothing)),
        [r#"kind: Invalid value: "Other": must be Widget"#]
    );
    let bad = widget(&json!({"replicas": -1}), &json!({"replicas": "x", "s": 1}));
    assert_eq!(
        said(strategy.validate_create(&bad, &Nothing)),
        [
            r#"status.replicas: Invalid value: "string": status.replicas in body must be of type integer: "string""#,
            r#"status.s: Invalid value: "integer": status.s in body must be of type string: "integer""#,
            ".spec.replicas: Invalid value: -1: should be a non-negative integer",
            ".status.replicas: Invalid value: 0: .status.replicas accessor error: x is of the type string, expected int64",
            r#".status.s: Invalid value: "": .status.s accessor error: 1 is of the type int64, expected string"#,
        ]
    );
    let old = widget(&json!({"replicas": 9}), &json!({}));
    let new = widget(&json!({"replicas": 9}), &json!({"s": 1}));
    assert_eq!(
        said(strategy.validate_update(&new, &old, "status", &Nothing))[0],
        r#"status.s: Invalid value: "integer": s in body must be of type string: "integer""#
    );
    assert!(said(strategy.validate_update(&old, &old, "", &Nothing)).is_empty());
}

#[test]
fn warns_of_finalizers_without_a_domain() {
    let strategy = &widgets(&json!({})).strategy;
    let mut object = widget(&json!({}), &json!({}));
    object["metadata"]["finalizers"] = json!(["a.b/c", "foo", "foo.bar", "orphan"]);
    assert_eq!(
        strategy.warnings(&object, None, ""),
        [
            r#"metadata.finalizers: "foo": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"#,
            r#"metadata.finalizers: "foo.bar": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"#,
        ]
    );
    assert!(strategy.warnings(&object, Some(&object), "").is_empty());
}
