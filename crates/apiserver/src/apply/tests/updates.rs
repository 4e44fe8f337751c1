//! Writes that are not applies.

use super::fixture::{Server, entries};
use crate::apply::{ReplicasPath, ScaleWrite, keep_times, to_parent, to_scale, validate_managed_fields};
use crate::field::Path;
use serde_json::json;

#[test]
fn a_creation_owns_everything_but_what_the_server_manages() {
    let mut server = Server::new();
    server.put(
        "a",
        json!({"metadata": {"uid": "1", "labels": {"x": "y"}}, "spec": {"replicas": 1, "zones": ["x"]}, "status": {"ready": 1}}),
    );
    assert_eq!(
        server.entries(),
        vec![concat!(
            r#"a Update 0: {"f:metadata":{"f:labels":{".":{},"f:x":{}}},"#,
            r#""f:spec":{".":{},"f:replicas":{},"f:zones":{".":{},"v:\"x\"":{}}}}"#
        )]
    );
}

#[test]
fn an_update_takes_what_it_changes_and_the_time_moves_only_then() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1, "paused": true}}), false)
        .unwrap();
    server.put("b", json!({"spec": {"replicas": 2, "paused": true}}));
    let expected = vec![
        r#"a Apply 0: {"f:spec":{"f:paused":{}}}"#,
        r#"b Update 1: {"f:spec":{"f:replicas":{}}}"#,
    ];
    assert_eq!(server.entries(), expected);
    server.put("b", json!({"spec": {"replicas": 2, "paused": true}}));
    assert_eq!(server.entries(), expected);
    server.put("c", json!({"spec": {"paused": true}}));
    assert_eq!(server.entries(), vec![r#"a Apply 0: {"f:spec":{"f:paused":{}}}"#]);
}

#[test]
fn managed_fields_can_be_forgotten_and_stay_so_until_an_apply() {
    for reset in [json!([]), json!([{}])] {
        let mut server = Server::new();
        server.put("a", json!({"spec": {"replicas": 1}}));
        server.put(
            "b",
            json!({"metadata": {"managedFields": reset}, "spec": {"replicas": 2}}),
        );
        assert!(server.entries().is_empty());
        server.put("b", json!({"spec": {"replicas": 3}}));
        assert!(server.entries().is_empty());
    }
}

#[test]
fn clients_may_edit_managed_fields_but_not_break_them() {
    let mut server = Server::new();
    server.put("a", json!({"spec": {"replicas": 1}}));
    let mut sent = server.live.clone().unwrap()["metadata"]["managedFields"].clone();
    sent[0]["manager"] = json!("z");
    server.put(
        "b",
        json!({"metadata": {"managedFields": sent}, "spec": {"replicas": 1}}),
    );
    let renamed = vec![r#"z Update 0: {"f:spec":{".":{},"f:replicas":{}}}"#];
    assert_eq!(server.entries(), renamed);
    for broken in [
        json!([{"manager": "q", "operation": "Steal", "apiVersion": "g/v1", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "q", "operation": "Update", "apiVersion": "", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "q", "operation": "Update", "apiVersion": "g/v1", "fieldsType": "FieldsV2"}]),
        json!([{"manager": "q", "operation": "Update", "apiVersion": "g/v1", "fieldsType": "FieldsV1", "fieldsV1": {"x": {}}}]),
    ] {
        server.put(
            "b",
            json!({"metadata": {"managedFields": broken}, "spec": {"replicas": 1}}),
        );
        assert_eq!(server.entries(), renamed);
    }
    server.subresource = "status";
    server.put(
        "b",
        json!({"metadata": {"managedFields": []}, "spec": {"replicas": 1}}),
    );
    assert_eq!(server.entries(), renamed);
}

#[test]
fn of_more_than_ten_updaters_the_oldest_are_joined() {
    let mut server = Server::new();
    let mut labels = serde_json::Map::new();
    for writer in 0..12 {
        labels.insert(format!("l{writer:02}"), json!("1"));
        server.put(&format!("m{writer:02}"), json!({"spec": {"labels": labels}}));
    }
    let listed = server.entries();
    assert_eq!(listed.len(), 10);
    assert_eq!(
        listed[0],
        r#"ancient-changes Update 2: {"f:spec":{".":{},"f:labels":{".":{},"f:l00":{},"f:l01":{},"f:l02":{}}}}"#
    );
}

#[test]
fn times_are_kept_where_nothing_else_differs() {
    let mut server = Server::new();
    let old = server.put("a", json!({"spec": {"replicas": 1}}));
    let mut same = old.clone();
    same["metadata"]["managedFields"][0]["time"] = json!("2030-01-01T00:00:00Z");
    let mut other = same.clone();
    other["spec"]["replicas"] = json!(2);
    let unlike = other.clone();
    keep_times(&old, &mut same);
    keep_times(&old, &mut other);
    assert_eq!(same, old);
    assert_eq!(other, unlike);
}

#[test]
fn replicas_are_managed_through_the_scale() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1, "paused": true}}), false)
        .unwrap();
    let parent = server.live.clone().unwrap()["metadata"]["managedFields"].clone();
    let paths = [ReplicasPath {
        api_version: "g/v1".to_owned(),
        path: Some(vec!["spec".to_owned(), "replicas".to_owned()]),
    }];
    let mut scale = to_scale(Some(&parent), &paths).unwrap();
    assert_eq!(scale[0]["apiVersion"], "autoscaling/v1");
    assert_eq!(scale[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(
        to_parent(Some(&parent), Some(&scale), &paths, "g/v1"),
        Some(parent.clone())
    );

    scale[0]["manager"] = json!("scaler");
    scale[0]["operation"] = json!("Update");
    scale[0]["subresource"] = json!("scale");
    let after = to_parent(Some(&parent), Some(&scale), &paths, "g/v1").unwrap();
    assert_eq!(
        entries(&json!({"metadata": {"managedFields": after}})),
        vec![
            r#"a Apply 0: {"f:spec":{"f:paused":{}}}"#,
            r#"scaler/scale Update -: {"f:spec":{"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn a_scale_is_applied_to_and_written() {
    let mut server = Server::new();
    server
        .apply("a", json!({"spec": {"replicas": 1}}), false)
        .unwrap();
    let parent = server.live.clone().unwrap();
    let paths = [ReplicasPath {
        api_version: "g/v1".to_owned(),
        path: Some(vec!["spec".to_owned(), "replicas".to_owned()]),
    }];
    let before = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "o", "uid": "1"},
        "spec": {"replicas": 1}, "status": {"replicas": 1},
    });
    let write = ScaleWrite {
        parent: &parent,
        api_version: "g/v1",
        paths: &paths,
        before: &before,
        manager: "b",
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let config = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "o"}, "spec": {"replicas": 2},
    });
    assert_eq!(
        write.apply(&config, false).unwrap_err().message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
    let (scale, managed) = write.apply(&config, true).unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    let taken = entries(&json!({"metadata": {"managedFields": managed}}));
    assert_eq!(taken, [r#"b/scale Apply -: {"f:spec":{"f:replicas":{}}}"#]);

    let mut changed = before.clone();
    changed["spec"]["replicas"] = json!(3);
    let (_, managed) = write.track(changed);
    let taken = entries(&json!({"metadata": {"managedFields": managed}}));
    assert_eq!(taken, [r#"b/scale Update -: {"f:spec":{"f:replicas":{}}}"#]);
}

#[test]
fn managers_of_stored_entries_are_judged() {
    let listed = json!([
        {"manager": "ok", "operation": "Apply", "fieldsType": "FieldsV1"},
        {"manager": "a".repeat(129), "operation": "Apply"},
        {"manager": "a\u{1}", "operation": "Merge", "fieldsType": "FieldsV2"}
    ]);
    let mut errors = Vec::new();
    validate_managed_fields(
        &listed,
        &Path::new("metadata").child("managedFields"),
        &mut errors,
    );
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "metadata.managedFields[1].manager: Too long: may not be more than 128 bytes",
            "metadata.managedFields[2].operation: Invalid value: \"Merge\": must be `Apply` or `Update`",
            "metadata.managedFields[2].fieldsType: Invalid value: \"FieldsV2\": must be `FieldsV1`",
            "metadata.managedFields[2].manager: Invalid value: \"a\\x01\": invalid character U+0001 (at position 1)",
        ]
    );
}
