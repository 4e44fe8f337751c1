use super::*;

fn found(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = Schema::from_openapi(schema).unwrap();
    let mut errors = FieldErrors::new();
    validate(&schema, new, old, &Path::root(), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn property(schema: &Value) -> Value {
    json!({"type": "object", "properties": {"a": schema}})
}

#[test]
fn speaks_as_the_real_server() {
    for (schema, value, said) in [
        (
            json!({"type": "integer"}),
            json!("x"),
            r#"a: Invalid value: "string": a in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "string"}),
            json!(null),
            r#"a: Invalid value: "null": a in body must be of type string: "null""#,
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(true),
            r#"a: Invalid value: "": a in body must be of type int32: """#,
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in a"#,
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            r#"a: Invalid value: "boolean": a in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"type": "string", "enum": ["x", "y"]}),
            json!("z"),
            r#"a: Unsupported value: "z": supported values: "x", "y""#,
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            "a: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("ä"),
            r#"a: Invalid value: "ä": a in body should be at least 2 chars long"#,
        ),
        (
            json!({"type": "string", "pattern": "^x"}),
            json!("y"),
            r#"a: Invalid value: "y": a in body should match '^x'"#,
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("y"),
            r#"a: Invalid value: "y": a in body must be of type ipv4: "y""#,
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "a: Invalid value: 0: a in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            "a: Invalid value: 1.5: a in body should be less than 1.5",
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(4),
            "a: Invalid value: 4: a in body should be a multiple of 3",
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            "a: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            "a: Invalid value: 0: a in body should have at least 1 items",
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            "a: Invalid value: 0: a in body should have at least 1 properties",
        ),
        (
            json!({"type": "object", "required": ["b"]}),
            json!({}),
            "a.b: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            r#"a.k: Invalid value: "integer": a.k in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            r#"a[1]: Invalid value: "integer": a[1] in body must be of type string: "integer""#,
        ),
    ] {
        assert_eq!(found(&property(&schema), &json!({ "a": value }), None), [said]);
    }
}

#[test]
fn combines_schemas() {
    let one_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert!(found(&property(&one_of), &json!({"a": {"a": "x"}}), None).is_empty());
    assert_eq!(
        found(&property(&one_of), &json!({"a": {"a": "x", "b": "y"}}), None),
        [
            r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
        ]
    );
    assert_eq!(
        found(&property(&one_of), &json!({"a": {}}), None),
        [
            r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found none valid"#,
            "a.a: Required value",
        ]
    );
    let any_of = json!({"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 2}], "not": {"enum": [1]},
        "allOf": [{"multipleOf": 1}]});
    assert_eq!(
        found(&property(&any_of), &json!({"a": 5}), None),
        [
            r#"<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)"#,
            "a: Invalid value: 5: a in body should be greater than or equal to 10",
        ]
    );
    assert_eq!(
        found(&property(&any_of), &json!({"a": 1}), None),
        [r#"<nil>: Invalid value: "": "a" must not validate the schema (not)"#]
    );
}

#[test]
fn holds_nothing_unchanged_against_an_update() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1},
        "l": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["r"], "properties": {"k": {"type": "string"},
                "v": {"type": "string", "maxLength": 1}}}}}});
    let old = json!({"a": "long", "l": ["long"], "m": [{"k": "1", "v": "long"}, {"k": "2"}]});
    assert_eq!(found(&schema, &old, None).len(), 5);
    assert!(found(&schema, &old, Some(&old)).is_empty());
    let new = json!({"a": "long", "l": ["long", "x"], "m": [{"k": "2"}, {"k": "1", "v": "long", "r": 1}]});
    assert_eq!(
        found(&schema, &new, Some(&old)),
        ["l[0]: Too long: may not be more than 1 bytes".replace("1 bytes", "1 byte")]
    );
    let new = json!({"a": "other", "m": [{"k": "1", "v": "longer"}]});
    assert_eq!(
        found(&schema, &new, Some(&old)),
        [
            "a: Too long: may not be more than 1 byte",
            "m[0].v: Too long: may not be more than 1 byte",
            "m[0].r: Required value",
        ]
    );
}

/// Each entry is a spec and the causes that kube-apiserver 1.36.3 refused it for.
#[test]
fn refuses_as_the_real_server_did() {
    let recorded: Value = serde_json::from_str(include_str!("testdata/objects.json")).unwrap();
    let schema = Schema::for_custom_resource(Some(&recorded["schema"])).unwrap();
    let mut differing = Vec::new();
    for entry in recorded["objects"].as_array().unwrap() {
        let mut object = json!({"apiVersion": "example.com/v1", "kind": "Check", "metadata": {"name": "x"}});
        object["spec"] = entry["spec"].clone();
        crate::schema::prune(&schema, &mut object);
        crate::schema::drop_nulls(&schema, &mut object);
        crate::schema::apply_defaults(&schema, &mut object);
        let mut errors = FieldErrors::new();
        validate_all(&schema, &object, None, &mut errors);
        let mut said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        said.sort();
        if json!(said) != entry["causes"] {
            differing.push(format!(
                "{}\nsaid:   {said:#?}\nwanted: {:#}",
                entry["spec"], entry["causes"]
            ));
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ\n{}",
        differing.len(),
        differing.join("\n\n")
    );
}
