//! Conversion between the versions of a custom resource with strategy `None`: only `apiVersion` changes, and what the
//! other version does not know is pruned. Its defaults are not filled in: the real server does that when it decodes
//! (a request by its version, a stored object by the storage version), never when it converts.

use crate::resource::Resource;
use crate::schema::{drop_nulls, prune};
use serde_json::{Value, json};

/// Turns an object into this version of its resource.
pub fn convert(object: &mut Value, to: &Resource) {
    let version = to.api_version();
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(version));
        map.insert("kind".to_owned(), json!(to.kind));
    }
    prune(&to.schema, object);
    drop_nulls(&to.schema, object);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::resources_of;

    #[test]
    fn prunes_but_fills_nothing_in() {
        let version = |name: &str, fields: Value| {
            json!({"name": name, "served": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}}})
        };
        let crd = json!({"spec": {"group": "a.b", "names": {"kind": "K", "plural": "ks"}, "versions": [
            version("v1", json!({"a": {"type": "string"}, "c": {"type": "string"}})),
            version("v2", json!({"a": {"type": "string"}, "b": {"type": "string", "default": "x"}}))]}});
        let resources = resources_of(&crd);
        let mut object = json!({"apiVersion": "a.b/v1", "kind": "K", "metadata": {"name": "n"},
            "spec": {"a": "y", "c": "z"}});
        convert(&mut object, &resources[1]);
        assert_eq!(
            object,
            json!({"apiVersion": "a.b/v2", "kind": "K", "metadata": {"name": "n"}, "spec": {"a": "y"}})
        );
    }
}
