//! Laws of sets, and of applying, for all objects.

use super::fixture::{Server, schema};
use crate::apply::set::Set;
use crate::apply::shape::Place;
use crate::apply::{field_set, fieldsv1, remove};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn spec() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![Just(json!("x")), Just(json!("y"))];
    let labels = prop::collection::btree_map("[a-c]", text(), 0..3);
    let zones = prop::collection::btree_set("[a-d]", 0..4);
    let ports = prop::collection::btree_map(1..4_i64, prop::option::of(text()), 0..3);
    let fields = (
        prop::option::of(0..3_i64),
        prop::option::of(any::<bool>()),
        prop::option::of(labels),
        prop::option::of(zones),
        prop::option::of(ports),
        prop::option::of(prop::collection::btree_map("[a-b]", text(), 1..3)),
        prop::option::of(prop::collection::vec(text(), 0..3)),
        prop::option::of(prop::collection::btree_map(
            "[k-m]",
            prop::option::of(text()),
            0..3,
        )),
    );
    fields.prop_map(|(replicas, paused, labels, zones, ports, selector, args, any)| {
        let mut spec = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            spec.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("replicas", replicas.map(|v| json!(v)));
        put("paused", paused.map(|v| json!(v)));
        put("labels", labels.map(|v| json!(v)));
        put("zones", zones.map(|v| json!(v)));
        put("selector", selector.map(|v| json!(v)));
        put("args", args.map(|v| json!(v)));
        put("any", any.map(|v| json!(v)));
        let port = |(port, name): (i64, Option<Value>)| match name {
            Some(name) => json!({"port": port, "name": name}),
            None => json!({"port": port}),
        };
        put("ports", ports.map(|ports| ports.into_iter().map(port).collect()));
        json!({"spec": spec})
    })
}

/// The set of an object, through its stored form so that it borrows from nothing but `stored`.
fn stored(object: &Value) -> Value {
    let schema = schema(false);
    fieldsv1::encode(&field_set::of(Place::root(&schema, true), object))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sets_are_sets(a in spec(), b in spec(), c in spec()) {
        let (a, b, c) = (stored(&a), stored(&b), stored(&c));
        let (a, b, c) = (fieldsv1::decode(&a).unwrap(), fieldsv1::decode(&b).unwrap(), fieldsv1::decode(&c).unwrap());
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.difference(&a), Set::default());
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert_eq!(a.difference(&b).intersection(&b), Set::default());
        prop_assert_eq!(a.intersects(&b), !a.intersection(&b).is_empty());
        prop_assert_eq!(a.is_subset(&b), a.difference(&b).is_empty());
        prop_assert!(a.intersection(&b).is_subset(&a));
        prop_assert!(a.is_subset(&a.union(&c)));
    }

    #[test]
    fn the_stored_form_says_all(a in spec()) {
        let form = stored(&a);
        let set = fieldsv1::decode(&form).unwrap();
        prop_assert_eq!(fieldsv1::encode(&set), form.clone());
    }

    #[test]
    fn what_is_removed_is_gone(a in spec()) {
        let schema = schema(false);
        let place = Place::root(&schema, true);
        let form = stored(&a);
        let set = fieldsv1::decode(&form).unwrap();
        let mut object = a.clone();
        remove::remove(place, &mut object, &set);
        let left = field_set::of(place, &object);
        prop_assert!(left.intersection(&set).difference(&nulls(&object, place)).is_empty());
    }

    #[test]
    fn applying_twice_is_applying_once(before in spec(), config in spec()) {
        let mut server = Server::new();
        server.put("other", before);
        let once = server.apply("a", config.clone(), true).unwrap();
        prop_assert_eq!(server.apply("a", config, false).unwrap(), once);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(before in spec(), first in spec(), second in spec()) {
        let mut server = Server::new();
        server.put("other", before);
        server.apply("a", first, true).unwrap();
        let object = server.apply("a", second.clone(), true).unwrap();
        let wanted = stored(&second);
        let schema = schema(false);
        let there = fieldsv1::encode(&field_set::of(Place::root(&schema, true), &object));
        let (wanted, there) = (fieldsv1::decode(&wanted).unwrap(), fieldsv1::decode(&there).unwrap());
        prop_assert!(wanted.is_subset(&there) || has_empty(&second));
        let entry = object["metadata"]["managedFields"].as_array().into_iter().flatten()
            .find(|entry| entry["manager"] == "a");
        let owned = entry.map_or(json!({}), |entry| entry["fieldsV1"].clone());
        prop_assert_eq!(fieldsv1::decode(&owned).unwrap(), wanted);
    }

    #[test]
    fn nobody_owns_what_is_not_there(writes in prop::collection::vec((any::<bool>(), 0..3_usize, spec()), 1..6)) {
        let mut server = Server::new();
        for (is_apply, who, config) in writes {
            let manager = ["a", "b", "c"][who];
            if is_apply {
                server.apply(manager, config, true).unwrap();
            } else {
                server.put(manager, config);
            }
            let live = server.live.clone().unwrap();
            let schema = schema(false);
            let there = field_set::of(Place::root(&schema, true), &live);
            let there = remove::with_named_fields(Place::root(&schema, true), &there);
            for entry in live["metadata"]["managedFields"].as_array().into_iter().flatten() {
                let owned = fieldsv1::decode(&entry["fieldsV1"]).unwrap();
                for path in owned.path_texts() {
                    let known = there.path_texts().contains(&path);
                    prop_assert!(known || is_container(&path), "{path} is owned and not there: {live}");
                }
            }
        }
    }
}

/// Lists and maps that an update made are owned apart from their items.
fn is_container(path: &str) -> bool {
    [".spec", ".spec.labels", ".spec.zones", ".spec.ports", ".spec.any"].contains(&path)
}

fn nulls<'a>(object: &'a Value, place: Place<'a>) -> Set<'a> {
    fn only_nulls<'a>(object: &'a Value, set: &Set<'a>) -> Set<'a> {
        let mut out = Set::default();
        for node in &set.nodes {
            if let crate::apply::element::Element::Field(name) = &node.element {
                let value = &object[*name];
                out.add(
                    node.element.clone(),
                    value.is_null(),
                    only_nulls(value, &node.below),
                );
            }
        }
        out
    }
    only_nulls(object, &field_set::of(place, object))
}

fn has_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty() || fields.values().any(has_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
