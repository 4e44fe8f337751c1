//! The schemas of custom resources as `/openapi/v3/apis/GROUP/VERSION` publishes them, which is what `kubectl explain`
//! and client-side validation read.

use super::paths::{flag, text};
use crate::resource::Resource;
use serde_json::{Map, Value, json};

const META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The name of the component schema of a kind: the group's domain turned round, as `com.example.v1.Widget`.
pub fn component_name(group: &str, version: &str, kind: &str) -> String {
    let turned: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", turned.join("."))
}

/// The component schemas of a custom resource and of lists of it, by name. They refer to `ObjectMeta` and `ListMeta`
/// of the `io.k8s.apimachinery.pkg.apis.meta.v1` components. Empty for a resource that is not custom.
pub fn components(resource: &Resource) -> Map<String, Value> {
    let mut components = Map::new();
    let Some(custom) = &resource.custom else {
        return components;
    };
    let name = component_name(&resource.group, &resource.version, &resource.kind);
    let list_name = component_name(&resource.group, &resource.version, &resource.list_kind);
    components.insert(list_name, list(resource, &name));
    components.insert(
        name,
        object(resource, &custom.version["schema"]["openAPIV3Schema"]),
    );
    components
}

fn kind_extension(resource: &Resource, kind: &str) -> Value {
    json!([{"group": &*resource.group, "kind": kind, "version": &*resource.version}])
}

fn reference(kind: &str, description: &str) -> Value {
    json!({"description": description, "allOf": [{"$ref": format!("{META}{kind}")}]})
}

fn described(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

fn object(resource: &Resource, schema: &Value) -> Value {
    let mut published = published(schema);
    if !published.is_object() {
        published = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    set_properties(
        &mut published,
        [
            ("apiVersion", described(API_VERSION)),
            ("kind", described(KIND)),
            ("metadata", reference("ObjectMeta", METADATA)),
        ],
    );
    published["x-kubernetes-group-version-kind"] = kind_extension(resource, &resource.kind);
    published
}

fn list(resource: &Resource, name: &str) -> Value {
    let items = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        resource.plural
    );
    json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": described(API_VERSION),
            "items": {"description": items, "type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}},
            "kind": described(KIND),
            "metadata": reference("ListMeta", LIST_METADATA),
        },
        "x-kubernetes-group-version-kind": kind_extension(resource, &resource.list_kind),
    })
}

fn set_properties<const N: usize>(schema: &mut Value, fields: [(&str, Value); N]) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        for (name, field) in fields {
            properties.insert(name.to_owned(), field);
        }
    }
}

/// A schema as it is published: int-or-string values say so by `anyOf`, embedded objects have their type fields.
fn published(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else {
        return schema.clone();
    };
    let mut out: Map<String, Value> = map
        .iter()
        .map(|(key, value)| {
            let value = match (key.as_str(), value) {
                ("items" | "additionalProperties" | "not", value) => published(value),
                ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => list.iter().map(published).collect(),
                ("properties", Value::Object(fields)) => fields
                    .iter()
                    .map(|(name, field)| (name.clone(), published(field)))
                    .collect(),
                (_, value) => value.clone(),
            };
            (key.clone(), value)
        })
        .collect();
    if flag(schema, "x-kubernetes-int-or-string") && text(schema, "type").is_empty() {
        int_or_string(&mut out);
    }
    let mut out = Value::Object(out);
    if flag(schema, "x-kubernetes-embedded-resource") {
        set_properties(
            &mut out,
            [
                ("apiVersion", described(EMBEDDED_API_VERSION)),
                ("kind", described(EMBEDDED_KIND)),
                ("metadata", reference("ObjectMeta", METADATA)),
            ],
        );
        let mut required: Vec<Value> = out["required"].as_array().cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if !required.contains(&json!(name)) {
                required.push(json!(name));
            }
        }
        out["required"] = Value::Array(required);
    }
    out
}

/// Says that a value is an integer or a text, beside what alternatives there are already.
fn int_or_string(schema: &mut Map<String, Value>) {
    let types = json!([{"type": "integer"}, {"type": "string"}]);
    match schema.get("anyOf") {
        None => {
            schema.insert("anyOf".to_owned(), types);
        }
        Some(there) if *there == types => {}
        Some(_) => {
            let own = json!({ "anyOf": types });
            match schema.get_mut("allOf") {
                Some(Value::Array(all)) if all.contains(&own) => {}
                Some(Value::Array(all)) => all.insert(0, own),
                _ => {
                    schema.insert("allOf".to_owned(), json!([own]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::resources_of;

    #[test]
    fn publishes_what_the_real_server_does() {
        let crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com",
            "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget",
            "listKind": "WidgetList"}, "versions": [{"name": "v1", "served": true, "storage": true, "schema":
            {"openAPIV3Schema": {"type": "object", "description": "W", "properties": {
                "spec": {"type": "object", "properties": {"x": {"x-kubernetes-int-or-string": true}}}}}}}]}});
        let resources = resources_of(&crd);
        let components = components(&resources[0]);
        let widget = &components["com.example.v1.Widget"];
        assert_eq!(widget["description"], "W");
        assert_eq!(
            widget["properties"]["spec"]["properties"]["x"],
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true})
        );
        assert_eq!(
            widget["properties"]["metadata"]["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        assert_eq!(
            widget["x-kubernetes-group-version-kind"],
            json!([{"group": "example.com", "kind": "Widget", "version": "v1"}])
        );
        let list = &components["com.example.v1.WidgetList"];
        assert_eq!(list["description"], "WidgetList is a list of Widget");
        assert_eq!(
            list["properties"]["items"]["items"]["$ref"],
            "#/components/schemas/com.example.v1.Widget"
        );
    }
}
