//! Applies that are refused, and that they are in the real server's words.

use super::fixture::Server;
use serde_json::{Value, json};

fn message(server: &mut Server, config: Value) -> (u16, String) {
    let error = server.apply("a", config, false).unwrap_err();
    (error.code.as_u16(), error.message)
}

#[test]
fn conflicts_name_every_field_and_manager() {
    let mut server = Server::new();
    server
        .apply(
            "b",
            json!({"spec": {"replicas": 1, "ports": [{"port": 80, "name": "x"}]}}),
            false,
        )
        .unwrap();
    server
        .apply("c", json!({"spec": {"replicas": 1, "paused": true}}), false)
        .unwrap();
    let error = server
        .apply(
            "a",
            json!({"spec": {"replicas": 2, "paused": false, "ports": [{"port": 80, "name": "y"}]}}),
            false,
        )
        .unwrap_err();
    assert_eq!(error.code.as_u16(), 409);
    assert_eq!(error.reason, "Conflict");
    assert_eq!(
        error.message,
        "Apply failed with 4 conflicts: conflicts with \"b\":\n- .spec.replicas\n- \
         .spec.ports[port=80,protocol=\"TCP\"].name\nconflicts with \"c\":\n- .spec.paused\n- .spec.replicas"
    );
    assert_eq!(
        error.details["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"b\"", "field": ".spec.replicas"})
    );
    assert_eq!(server.live.unwrap()["spec"]["replicas"], 1);
}

#[test]
fn a_conflict_with_an_update_names_its_version_and_subresource() {
    let mut server = Server::new();
    server.put("b", json!({"spec": {"replicas": 1}}));
    let (_, text) = message(&mut server, json!({"spec": {"replicas": 2}}));
    assert_eq!(
        text,
        "Apply failed with 1 conflict: conflict with \"b\" using g/v1: .spec.replicas"
    );
    server.subresource = "status";
    server.put("b", json!({"spec": {"replicas": 1}, "status": {"ready": 1}}));
    let (_, text) = message(&mut server, json!({"status": {"ready": 2}}));
    assert_eq!(
        text,
        "Apply failed with 1 conflict: conflict with \"b\" with subresource \"status\" using g/v1: .status.ready"
    );
}

#[test]
fn what_does_not_fit_the_schema() {
    let typed = |what: &str| {
        (
            500,
            format!("failed to create typed patch object (ns/o; g/v1, Kind=K): {what}"),
        )
    };
    let table = [
        (
            json!({"spec": {"foo": 1}}),
            ".spec.foo: field not declared in schema",
        ),
        (
            json!({"spec": {"replicas": "x"}}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            json!({"spec": {"zones": [1]}}),
            ".spec.zones[=1]: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({"spec": {"paused": "x"}}),
            ".spec.paused: expected boolean, got &{x}",
        ),
        (
            json!({"spec": {"args": {"a": 1}}}),
            ".spec.args: expected list, got &{map[a:1]}",
        ),
        (
            json!({"spec": {"labels": "x"}}),
            ".spec.labels: expected map, got &{x}",
        ),
        (
            json!({"spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}}),
            ".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]",
        ),
        (
            json!({"spec": {"zones": ["a", "a"]}}),
            ".spec.zones: duplicate entries for key [=\"a\"]",
        ),
        (
            json!({"spec": {"zones": [null]}}),
            ".spec.zones: element 0: associative list without keys has an element that's an explicit null",
        ),
        (
            json!({"spec": {"paused": 1, "replicas": true}}),
            "errors:\n  .spec.paused: expected boolean, got &{1}\n  .spec.replicas: expected numeric (int or float), \
             got bool",
        ),
    ];
    for (config, expected) in table {
        assert_eq!(message(&mut Server::new(), config), typed(expected));
    }
}

#[test]
fn another_kind_and_managed_fields() {
    let mut server = Server::new();
    assert_eq!(
        message(&mut server, json!({"kind": "Other"})),
        (400, "invalid object type: g/v1, Kind=Other".to_owned())
    );
    assert_eq!(
        message(&mut server, json!({"apiVersion": "v1"})),
        (400, "invalid object type: /v1, Kind=K".to_owned())
    );
    assert_eq!(
        message(&mut server, json!({"metadata": {"managedFields": []}})),
        (400, "metadata.managedFields must be nil".to_owned())
    );
    assert!(server.live.is_none());
}
