//! Applies that succeed.

use super::fixture::{Server, map, of, schema};
use crate::schema::Type;
use serde_json::json;

#[test]
fn creates_and_owns_what_it_names() {
    let mut server = Server::new();
    let object = server
        .apply(
            "a",
            json!({"spec": {"replicas": 1, "zones": ["x"], "args": ["1"], "selector": {"app": "x"}, "any": {"k": {"l": 1}},
                "ports": [{"port": 80, "name": "web"}]}}),
            false,
        )
        .unwrap();
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(
        server.entries(),
        [concat!(
            r#"a Apply 0: {"f:spec":{"f:any":{"f:k":{".":{},"f:l":{}}},"f:args":{},"#,
            r#""f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}},"#,
            r#""f:replicas":{},"f:selector":{},"f:zones":{"v:\"x\"":{}}}}"#
        )]
    );
}

#[test]
fn the_same_again_changes_nothing() {
    let mut server = Server::new();
    let config = json!({"spec": {"replicas": 1, "labels": {"a": "1"}}});
    let first = server.apply("a", config.clone(), false).unwrap();
    assert_eq!(server.apply("a", config, false).unwrap(), first);
}

#[test]
fn a_second_manager_of_the_same_values_shares_them_and_has_no_time_yet() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    server
        .apply("b", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    assert_eq!(
        server.entries(),
        [
            r#"a Apply 0: {"f:spec":{"f:replicas":{}}}"#,
            r#"b Apply -: {"f:spec":{"f:replicas":{}}}"#
        ]
        .map(str::to_owned)
        .into_iter()
        .collect::<Vec<_>>()
    );
}

#[test]
fn fields_that_are_no_longer_named_go_when_nobody_else_has_them() {
    let mut server = Server::new();
    let all =
        json!({"spec": {"replicas": 1, "paused": true, "labels": {"a": "1", "b": "2"}, "zones": ["x", "y"]}});
    server.apply("a", all, false).unwrap();
    server
        .apply(
            "b",
            json!({"spec": {"labels": {"b": "2"}, "zones": ["y"]}}),
            false,
        )
        .unwrap();
    let object = server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    assert_eq!(
        object["spec"],
        json!({"replicas": 1, "labels": {"b": "2"}, "zones": ["y"]})
    );
}

#[test]
fn what_nobody_owns_stays() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1, "labels": {"a": "1"}}}), false)
        .unwrap();
    // A default, say, that no manager has.
    server.live.as_mut().unwrap()["spec"]["paused"] = json!(false);
    let object = server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    assert_eq!(object["spec"], json!({"replicas": 1, "paused": false}));
}

#[test]
fn an_item_goes_with_all_that_others_did_not_set() {
    let mut server = Server::new();
    server
        .apply(
            "a",
            json!({"spec": {"ports": [{"port": 1, "name": "one"}, {"port": 2}]}}),
            false,
        )
        .unwrap();
    let object = server
        .apply("a", json!({"spec": {"ports": [{"port": 2}]}}), false)
        .unwrap();
    assert_eq!(object["spec"]["ports"], json!([{"port": 2}]));
}

#[test]
fn lists_keep_the_order_of_what_is_applied_and_neighbours_of_the_rest() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"zones": ["a", "b", "c", "d"]}}), false)
        .unwrap();
    let object = server
        .apply("b", json!({"spec": {"zones": ["d", "b", "x"]}}), false)
        .unwrap();
    assert_eq!(object["spec"]["zones"], json!(["a", "c", "d", "b", "x"]));
}

#[test]
fn force_takes_fields() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1, "paused": true}}), false)
        .unwrap();
    server.apply("b", json!({"spec": {"replicas": 2}}), true).unwrap();
    assert_eq!(
        server.entries(),
        vec![
            r#"a Apply 0: {"f:spec":{"f:paused":{}}}"#,
            r#"b Apply 1: {"f:spec":{"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn the_status_is_applied_to_by_entries_of_its_own() {
    let mut server = Server::new();
    server
        .apply(
            "a",
            json!({"spec": {"replicas": 1}, "status": {"ready": 7}}),
            false,
        )
        .unwrap();
    server.subresource = "status";
    server
        .apply(
            "a",
            json!({"metadata": {"labels": {"x": "y"}}, "status": {"phase": "Up"}}),
            false,
        )
        .unwrap();
    assert_eq!(
        server.entries(),
        vec![
            r#"a Apply 0: {"f:spec":{"f:replicas":{}}}"#,
            r#"a/status Apply 1: {"f:status":{"f:phase":{}}}"#
        ]
    );
}

#[test]
fn the_first_apply_to_an_untracked_object_gives_the_rest_to_before_first_apply() {
    let mut server = Server::new();
    server.live = Some(server.object(&json!({"spec": {"replicas": 1, "paused": true}})));
    let refused = server
        .apply("a", json!({"spec": {"replicas": 2}}), false)
        .unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using g/v1: .spec.replicas"
    );
    server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    assert_eq!(
        server.entries(),
        vec![
            r#"a Apply -: {"f:spec":{"f:replicas":{}}}"#,
            r#"before-first-apply Update 1: {"f:spec":{".":{},"f:paused":{},"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut server = Server::new();
    let last = server.object(&json!({"spec": {"replicas": 1, "labels": {"a": "1"}}}));
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    server.put(
        "kubectl-client-side-apply",
        json!({"metadata": {"annotations": annotations}, "spec": {"replicas": 1, "labels": {"a": "1"}}}),
    );
    let config = json!({"spec": {"replicas": 2, "labels": {"a": "<1>"}}});
    server.apply("other", config.clone(), false).unwrap_err();
    let object = server.apply("kubectl", config, false).unwrap();
    assert_eq!(object["spec"]["replicas"], 2);
    assert_eq!(
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"],
        concat!(
            r#"{"apiVersion":"g/v1","kind":"K","metadata":{"name":"o","namespace":"ns"},"#,
            r#""spec":{"labels":{"a":"\u003c1\u003e"},"replicas":2}}"#,
            "\n"
        )
    );
}

#[test]
fn fields_applied_in_another_version_are_pruned_in_that_version() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1, "paused": true}}), false)
        .unwrap();
    server.version = "g/v2";
    let object = server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    assert_eq!(object["spec"], json!({"replicas": 1}));
    assert_eq!(object["metadata"]["managedFields"][0]["apiVersion"], "g/v2");
    assert_eq!(server.entries().len(), 1);
}

#[test]
fn entries_of_versions_no_longer_served_are_dropped() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    server.version = "g/v2";
    server.serve(vec![("g/v2", schema(false))]);
    server
        .apply("b", json!({"spec": {"replicas": 2}}), false)
        .unwrap();
    assert_eq!(
        server.entries(),
        vec![r#"b Apply 1: {"f:spec":{"f:replicas":{}}}"#]
    );
}

#[test]
fn a_list_that_became_atomic_is_owned_as_a_whole() {
    let mut server = Server::new();
    server
        .apply(
            "a",
            json!({"spec": {"ports": [{"port": 80, "name": "x"}]}}),
            false,
        )
        .unwrap();
    server.serve(vec![("g/v1", schema(true))]);
    let refused = server
        .apply("b", json!({"spec": {"ports": [{"port": 81}]}}), false)
        .unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.ports"
    );
}

#[test]
fn a_map_emptied_by_its_owner_becomes_null() {
    let mut server = Server::new();
    server.serve(vec![(
        "g/v1",
        map([("spec", map([("m", map([("a", of(Type::Integer))]))]))]),
    )]);
    server
        .apply("a", json!({"spec": {"m": {"a": 1}}}), false)
        .unwrap();
    let object = server.apply("a", json!({"spec": {"m": {}}}), false).unwrap();
    assert_eq!(object["spec"], json!({"m": null}));
}
