//! What is done about definitions that are there, and what is said of those that differ.

use serde_json::{Value, json};

use super::shape::differences;
use super::*;

fn crd(edit: impl FnOnce(&mut Value)) -> CustomResourceDefinition {
    let mut crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "shortNames": []},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "minimum": 0.0, "default": 0, "nullable": false},
                        "on": {"type": "boolean", "default": false},
                    }}},
                }},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 0},
                ],
            }],
        },
    });
    edit(&mut crd);
    serde_json::from_value(crd).unwrap()
}

/// As the API server gives it back.
fn stored(edit: impl FnOnce(&mut Value)) -> CustomResourceDefinition {
    crd(|crd| {
        crd["spec"]["names"] =
            json!({"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"});
        crd["spec"]["conversion"] = json!({"strategy": "None"});
        let version = &mut crd["spec"]["versions"][0];
        version["additionalPrinterColumns"][0] =
            json!({"name": "Size", "type": "integer", "jsonPath": ".spec.size"});
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
            json!({"type": "integer", "minimum": 0, "default": 0});
        edit(crd);
    })
}

fn own() -> Definition {
    Definition::own(crd(|_| {}))
}

fn options() -> InstallOptions {
    InstallOptions::new("clusterwright")
}

#[test]
fn what_the_server_fills_in_is_no_difference() {
    assert_eq!(differences(&crd(|_| {}), &stored(|_| {})), [""; 0]);
}

/// A change of what is there, and the paths that differ then.
type Case<'a> = (&'a dyn Fn(&mut Value), &'a [&'a str]);

#[test]
fn differences_are_named_on_both_sides() {
    let schema = "spec.versions[v1].schema.openAPIV3Schema.properties.spec.properties";
    let cases: [Case<'_>; 6] = [
        (&|crd| crd["spec"]["scope"] = json!("Cluster"), &["spec.scope"]),
        (
            &|crd| crd["spec"]["names"]["kind"] = json!("Gadget"),
            &["spec.names.kind", "spec.names.listKind", "spec.names.singular"],
        ),
        (
            &|crd| crd["spec"]["versions"][0]["name"] = json!("v2"),
            &["spec.versions[v1]", "spec.versions[v2]"],
        ),
        (
            &|crd| {
                let properties = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
                    ["properties"];
                properties["size"]["type"] = json!("string");
                properties["colour"] = json!({"type": "string"});
                properties["on"]["default"] = json!(true);
            },
            &["{}.colour", "{}.on.default", "{}.size.type"],
        ),
        (
            &|crd| crd["spec"]["versions"][0]["served"] = json!(false),
            &["spec.versions[v1].served"],
        ),
        (
            &|crd| {
                crd["spec"]["conversion"] =
                    json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}});
            },
            &["spec.conversion"],
        ),
    ];
    for (edit, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|path| path.replace("{}", schema)).collect();
        assert_eq!(differences(&crd(|_| {}), &stored(edit)), expected);
    }
}

#[test]
fn what_is_missing_is_created() {
    assert_eq!(plan(&own(), None, &options()).unwrap(), Step::Create);
    let foreign = Definition::foreign(crd(|_| {}));
    assert_eq!(plan(&foreign, None, &options()).unwrap(), Step::Create);
}

#[test]
fn the_same_shape_is_left_alone() {
    assert_eq!(
        plan(&own(), Some(&stored(|_| {})), &options()).unwrap(),
        Step::Leave
    );
}

#[test]
fn our_former_shape_is_brought_up_to_date() {
    let present = stored(|crd| {
        crd["metadata"]["managedFields"] = json!([{"manager": "clusterwright", "operation": "Apply"}]);
        crd["spec"]["scope"] = json!("Cluster");
    });
    assert_eq!(plan(&own(), Some(&present), &options()).unwrap(), Step::Apply);
}

#[test]
fn anothers_shape_is_refused_unless_forced() {
    for managed_fields in [
        json!([]),
        json!([{"manager": "kubectl", "operation": "Apply"}]),
        json!([{"manager": "clusterwright", "operation": "Update"}]),
    ] {
        let present = stored(|crd| {
            crd["metadata"]["managedFields"] = managed_fields;
            crd["spec"]["scope"] = json!("Cluster");
            crd["spec"]["names"]["shortNames"] = json!(["wd"]);
        });
        let error = plan(&own(), Some(&present), &options()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to install the definition widgets.example.com: another of that name is there and differs in \
             spec.names.shortNames, spec.scope; --force takes it over"
        );
        let force = InstallOptions {
            force: true,
            ..options()
        };
        assert_eq!(plan(&own(), Some(&present), &force).unwrap(), Step::Apply);
        let foreign = Definition::foreign(crd(|_| {}));
        assert_eq!(plan(&foreign, Some(&present), &force).unwrap(), Step::Leave);
    }
}

#[test]
fn one_on_its_way_out_is_refused() {
    let present = stored(|crd| crd["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    let error = plan(&own(), Some(&present), &options()).unwrap_err();
    assert!(error.to_string().ends_with("it is being deleted"), "{error}");
}

#[test]
fn long_lists_are_cut() {
    let fields: Vec<_> = (0..12).map(|number| format!("f{number}")).collect();
    assert_eq!(
        listed(&fields),
        "f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 2 more"
    );
    assert_eq!(listed(&fields[..2]), "f0, f1");
}
