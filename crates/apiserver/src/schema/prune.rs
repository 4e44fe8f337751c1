//! Pruning: what the schema does not know is dropped, and named for `fieldValidation`.

use super::Schema;
use serde_json::Value;
use std::fmt::Write as _;

/// Drops what `schema` does not name from a whole object, and returns the paths of what was dropped, sorted, those
/// within `metadata` first, those within metadata of embedded objects last. apiVersion, kind and metadata of the root
/// are known always.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut pruner = Pruner::default();
    if let Some(metadata) = object.get_mut("metadata").filter(|m| m.is_object()) {
        pruner.path.push_str("metadata");
        pruner.node(super::meta::object_meta(), metadata, false, false);
        pruner.path.clear();
    }
    let mut all = std::mem::take(&mut pruner.dropped);
    pruner.node(schema, object, true, false);
    all.append(&mut pruner.into_sorted());
    all
}

/// Drops what `schema` does not name from any value; the root is an object with metadata where the schema says so.
pub fn prune_value(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.node(schema, value, false, false);
    pruner.into_sorted()
}

#[derive(Default)]
struct Pruner {
    path: String,
    dropped: Vec<String>,
    /// What was dropped from the metadata of embedded objects.
    within_meta: Vec<String>,
}

impl Pruner {
    fn into_sorted(mut self) -> Vec<String> {
        self.dropped.sort();
        self.within_meta.sort();
        self.dropped.append(&mut self.within_meta);
        self.dropped
    }

    /// `root` objects have metadata whatever the schema says. With `keep`, unknown fields of this node stay, though
    /// the schema does not say so itself: items of a list that keeps what is unknown.
    fn node(&mut self, schema: &Schema, value: &mut Value, root: bool, keep: bool) {
        let keep = keep || schema.preserve_unknown;
        match value {
            Value::Object(map) => {
                let embedded = schema.embedded || root;
                let length = self.path.len();
                map.retain(|name, field| {
                    if embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                        if !root && name == "metadata" && field.is_object() {
                            self.path
                                .push_str(if length > 0 { ".metadata" } else { "metadata" });
                            let before = std::mem::take(&mut self.dropped);
                            self.node(super::meta::object_meta(), field, false, false);
                            self.within_meta.append(&mut self.dropped);
                            self.dropped = before;
                            self.path.truncate(length);
                        }
                        return true;
                    }
                    let below = schema.field(name);
                    if below.is_some() || !keep {
                        if length > 0 {
                            self.path.push('.');
                        }
                        self.path.push_str(name);
                        match below {
                            Some(below) => self.node(below, field, false, false),
                            None => self.dropped.push(self.path.clone()),
                        }
                        self.path.truncate(length);
                    }
                    below.is_some() || keep
                });
            }
            Value::Array(items) => {
                let nothing;
                let below: &Schema = match &schema.items {
                    Some(items) => items,
                    None if keep => return,
                    None => {
                        nothing = Schema::default();
                        &nothing
                    }
                };
                let length = self.path.len();
                for (index, item) in items.iter_mut().enumerate() {
                    // Writing to a string cannot fail.
                    let _ = write!(self.path, "[{index}]");
                    self.node(below, item, false, keep);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(value: &Value) -> Schema {
        Schema::for_custom_resource(Some(value)).unwrap()
    }

    #[test]
    fn drops_and_names_what_is_unknown() {
        let schema = schema(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
                "free": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"in": {"type": "object", "properties": {"a": {"type": "string"}}}}},
                "true": {"type": "object", "additionalProperties": true}
            }}}}),
        );
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "extra": 1,
            "metadata": {"name": "n", "foo": 1, "labels": {"x": "y"}},
            "spec": {"a": "x", "b": 1, "list": [{"n": 1, "m": 2}], "free": {"k": {"x": "1", "y": 2}},
                "any": {"out": {"a": 1}, "in": {"a": "", "b": 2}}, "true": {"a": {"b": 1}}}});
        let dropped = prune(&schema, &mut object);
        assert_eq!(
            dropped,
            [
                "metadata.foo",
                "extra",
                "spec.any.in.b",
                "spec.b",
                "spec.free.k.y",
                "spec.list[0].m",
                "spec.true.a.b"
            ]
        );
        assert_eq!(
            object,
            json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "labels": {"x": "y"}},
                "spec": {"a": "x", "list": [{"n": 1}], "free": {"k": {"x": "1"}},
                    "any": {"out": {"a": 1}, "in": {"a": ""}}, "true": {"a": {}}}})
        );
    }

    #[test]
    fn leaves_an_embedded_objects_metadata() {
        let schema = schema(
            &json!({"type": "object", "properties": {"template": {"type": "object",
            "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}}),
        );
        let mut object = json!({"template": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "x"}, "spec": {}, "z": 1}});
        assert_eq!(prune(&schema, &mut object), ["template.z"]);
        assert_eq!(object["template"]["metadata"]["name"], "x");
    }
}
