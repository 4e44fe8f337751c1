//! What patches make, by example.

use super::*;
use crate::schema::{ListType, SchemaRef, Type};
use serde_json::json;
use std::sync::Arc;

fn of(kind: Type) -> Schema {
    Schema {
        kind: Some(kind),
        ..Schema::default()
    }
}

fn map(fields: Vec<(&str, Schema)>) -> Schema {
    Schema {
        properties: fields
            .into_iter()
            .map(|(name, schema)| (Arc::from(name), SchemaRef::new(schema)))
            .collect(),
        ..of(Type::Object)
    }
}

fn list(items: Schema, merge: bool, key: Option<&str>) -> Schema {
    Schema {
        items: Some(SchemaRef::new(items)),
        list: ListType::Atomic,
        patch: PatchStrategy {
            merge,
            retain_keys: false,
            merge_key: key.map(Arc::from),
        },
        ..of(Type::Array)
    }
}

fn schema() -> Schema {
    let env = map(vec![("name", of(Type::String)), ("value", of(Type::String))]);
    let container = map(vec![
        ("name", of(Type::String)),
        ("image", of(Type::String)),
        ("args", list(of(Type::String), false, None)),
        ("env", list(env, true, Some("name"))),
    ]);
    let strategy = map(vec![
        ("type", of(Type::String)),
        ("rolling", map(vec![("surge", of(Type::Integer))])),
    ]);
    map(vec![(
        "spec",
        map(vec![
            ("containers", list(container, true, Some("name"))),
            ("finalizers", list(of(Type::String), true, None)),
            ("strategy", strategy),
            (
                "tolerations",
                list(map(vec![("key", of(Type::String))]), false, None),
            ),
            (
                "labels",
                Schema {
                    additional: Some(SchemaRef::new(of(Type::String))),
                    ..of(Type::Object)
                },
            ),
        ]),
    )])
}

fn merged(original: &Value, patch: &Value) -> ApiResult<Value> {
    let original = json!({"kind": "Deployment", "spec": original});
    let patched = strategic_merge(&schema(), &original, &json!({ "spec": patch }))?;
    Ok(patched["spec"].clone())
}

#[test]
fn merges_as_the_schema_says() {
    let containers = json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]);
    let table = [
        // Maps merge, null deletes, and a null of nothing is nothing.
        (
            json!({"labels": {"a": "1", "b": "2"}}),
            json!({"labels": {"b": null, "c": "3", "d": null}}),
            json!({"labels": {"a": "1", "c": "3"}}),
        ),
        (
            json!({}),
            json!({"labels": {"a": null, "b": "1"}}),
            json!({"labels": {"b": "1"}}),
        ),
        // Lists with a merge key merge by it, in the order of the patch.
        (
            json!({"containers": containers}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}),
            json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}, {"name": "c"}]}),
        ),
        (
            json!({"containers": containers}),
            json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "args": ["y"]}]}),
            json!({"containers": [{"name": "a", "image": "1", "args": ["y"]}]}),
        ),
        (
            json!({"containers": containers}),
            json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}),
            json!({"containers": [{"name": "c"}]}),
        ),
        (
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}]}),
        ),
        // Other lists of maps are replaced.
        (
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        // Scalars are a set, and have a list of their own for what goes.
        (
            json!({"finalizers": ["a", "b"]}),
            json!({"finalizers": ["c", "a"]}),
            json!({"finalizers": ["c", "a", "b"]}),
        ),
        (
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
            json!({"finalizers": ["c", "b"]}),
        ),
        (
            json!({}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
            json!({}),
        ),
        // An order for the list.
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "s"}]}),
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}, {"name": "s"}]}),
        ),
        // Directives of maps.
        (
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "replace", "b": "2"}}),
            json!({"labels": {"b": "2"}}),
        ),
        (
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "delete"}}),
            json!({"labels": {}}),
        ),
        (json!({}), json!({"labels": {"$patch": "delete"}}), json!({})),
        (
            json!({"strategy": {"type": "Rolling", "rolling": {"surge": 1}}}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
            json!({"strategy": {"type": "Recreate"}}),
        ),
    ];
    for (original, patch, expected) in table {
        assert_eq!(merged(&original, &patch), Ok(expected), "{patch}");
    }
}

#[test]
fn refuses_in_the_real_servers_words() {
    let there = json!({"containers": [{"name": "a"}], "finalizers": ["a"], "strategy": {"type": "x"}, "labels": {"a": "1"}});
    let table = [
        (
            json!({"containers": [{"image": "1"}]}),
            500,
            "map: map[image:1] does not contain declared merge key: name",
        ),
        (
            json!({"labels": {"$patch": "merge"}}),
            500,
            "unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            json!({"containers": [{"$patch": "merge"}]}),
            500,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"finalizers": [1]}),
            500,
            "list element types are not identical: [[a] [1]]",
        ),
        (
            json!({"strategy": {"$retainKeys": "type"}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"strategy": {"$retainKeys": ["rolling"], "type": "y"}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"$setElementOrder": []}),
            400,
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"$deleteFromPrimitiveList": ["a"]}),
            400,
            "invalid patch format of primitive list",
        ),
        (
            json!({"$setElementOrder/foo": []}),
            500,
            "unable to find api field in struct DeploymentSpec for the json field \"foo\"",
        ),
        (
            json!({"$setElementOrder/finalizers": ["a"], "finalizers": ["b"]}),
            500,
            "The order in patch list:\n[b]\n doesn't match $setElementOrder list:\n[a]\n",
        ),
    ];
    for (patch, code, message) in table {
        let error = merged(&there, &patch).unwrap_err();
        assert_eq!((error.code.as_u16(), &*error.message), (code, message), "{patch}");
    }
}
