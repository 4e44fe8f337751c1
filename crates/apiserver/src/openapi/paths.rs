//! The paths of a document: what can be asked of each resource, with which parameters, and what comes back.

use crate::builtin::definition_name;
use crate::crd::openapi as custom;
use crate::resource::{Resource, Subresource};
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// Parameters of lists and watches, with their types.
const LISTING: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETION: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const WRITING: [(&str, &str); 3] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn query(parameters: &[(&str, &str)]) -> Vec<Value> {
    let one = |(name, kind): &(&str, &str)| json!({"in": "query", "name": name, "schema": {"type": kind, "uniqueItems": true}});
    parameters.iter().map(one).collect()
}

fn in_path(name: &str) -> Value {
    json!({"in": "path", "name": name, "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

fn content(media: &[&str], schema: &Value) -> Value {
    let all: Map<String, Value> = media
        .iter()
        .map(|media| ((*media).to_owned(), json!({"schema": schema})))
        .collect();
    Value::Object(all)
}

/// The group and version as part of names of operations (`RbacAuthorizationV1`) and as a tag
/// (`rbacAuthorization_v1`).
fn spoken(group: &str, version: &str) -> (String, String) {
    let group = if group.is_empty() {
        "core"
    } else {
        group.strip_suffix(".k8s.io").unwrap_or(group)
    };
    let words = group.split(['.', '-']).map(capital).collect::<String>();
    let mut tag = words.clone();
    if let Some(first) = tag.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    (format!("{words}{}", capital(version)), format!("{tag}_{version}"))
}

fn capital(word: &str) -> String {
    let mut word = word.to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    word
}

/// What the operations of one document share.
struct Writer<'a> {
    group: &'a str,
    version: &'a str,
    words: String,
    tag: String,
}

impl Writer<'_> {
    fn operation(
        &self,
        id: &str,
        action: &str,
        kind: (&str, &str, &str),
        codes: &[&str],
        returns: &Value,
    ) -> Value {
        let media: &[&str] = match action {
            "list" | "watch" => &[
                "application/json",
                "application/json;stream=watch",
                "application/yaml",
            ],
            _ => &["application/json", "application/yaml"],
        };
        let mut responses = Map::new();
        for code in codes {
            responses.insert((*code).to_owned(), json!({"content": content(media, returns)}));
        }
        responses.insert("401".to_owned(), json!({}));
        json!({
            "operationId": id,
            "tags": [self.tag],
            "responses": responses,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": kind.0, "version": kind.1, "kind": kind.2},
        })
    }

    /// Operations that read or write one object.
    fn object(
        &self,
        verbs: &[&str],
        named: &str,
        kind: (&str, &str, &str),
        schema: &Value,
        is_custom: bool,
    ) -> Map<String, Value> {
        let mut all = Map::new();
        for (verb, method, word) in [
            ("get", "get", "read"),
            ("update", "put", "replace"),
            ("create", "post", "create"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ] {
            if !verbs.contains(&verb) {
                continue;
            }
            let id = format!("{word}{}{named}", self.words);
            let codes: &[&str] = match verb {
                "get" => &["200"],
                "create" => &["200", "201", "202"],
                "delete" => &["200", "202"],
                _ => &["200", "201"],
            };
            let status = reference(&format!("{META}.Status"));
            let returns = if verb == "delete" { &status } else { schema };
            let action = if method == "get" { "get" } else { method };
            let mut operation = self.operation(&id, action, kind, codes, returns);
            match verb {
                "get" => {}
                "delete" => {
                    operation["parameters"] = query(&DELETION).into();
                    let body = reference(&format!("{META}.DeleteOptions"));
                    operation["requestBody"] = json!({"content": content(&["*/*"], &body)});
                }
                "patch" => {
                    let mut parameters = query(&WRITING);
                    parameters.extend(query(&[("force", "boolean")]));
                    operation["parameters"] = parameters.into();
                    let mut media = vec![
                        "application/apply-patch+yaml",
                        "application/json-patch+json",
                        "application/merge-patch+json",
                    ];
                    if !is_custom {
                        media.push("application/strategic-merge-patch+json");
                    }
                    let body = reference(&format!("{META}.Patch"));
                    operation["requestBody"] = json!({"content": content(&media, &body), "required": true});
                }
                _ => {
                    operation["parameters"] = query(&WRITING).into();
                    operation["requestBody"] =
                        json!({"content": content(&["*/*"], schema), "required": true});
                }
            }
            all.insert(method.to_owned(), operation);
        }
        all
    }

    /// Operations on all objects of a namespace or of the cluster.
    fn collection(&self, resource: &Resource, verbs: &[&str], named: &str, name: &str) -> Map<String, Value> {
        let kind = (self.group, self.version, &*resource.kind);
        let is_custom = resource.custom.is_some();
        let creating: Vec<&str> = verbs.iter().copied().filter(|verb| *verb == "create").collect();
        let mut all = self.object(&creating, named, kind, &reference(name), is_custom);
        if verbs.contains(&"list") {
            let id = format!("list{}{named}", self.words);
            let mut operation = self.operation(
                &id,
                "list",
                kind,
                &["200"],
                &reference(&list_definition(resource)),
            );
            operation["parameters"] = query(&LISTING).into();
            all.insert("get".to_owned(), operation);
        }
        if verbs.contains(&"deletecollection") {
            let id = format!("delete{}Collection{named}", self.words);
            let status = reference(&format!("{META}.Status"));
            let mut operation = self.operation(&id, "deletecollection", kind, &["200"], &status);
            let mut parameters = query(&DELETION);
            let listing: Vec<_> = LISTING
                .into_iter()
                .filter(|(name, _)| !["allowWatchBookmarks", "watch"].contains(name))
                .collect();
            parameters.extend(query(&listing));
            operation["parameters"] = parameters.into();
            let body = reference(&format!("{META}.DeleteOptions"));
            operation["requestBody"] = json!({"content": content(&["*/*"], &body)});
            all.insert("delete".to_owned(), operation);
        }
        all
    }
}

fn definition(resource: &Resource) -> String {
    if resource.custom.is_some() {
        custom::component_name(&resource.group, &resource.version, &resource.kind)
    } else {
        definition_name(&resource.group, &resource.version, &resource.kind)
    }
}

fn list_definition(resource: &Resource) -> String {
    if resource.custom.is_some() {
        custom::component_name(&resource.group, &resource.version, &resource.list_kind)
    } else {
        definition_name(&resource.group, &resource.version, &resource.list_kind)
    }
}

/// Whether a subresource is a stream of bytes, which has no schema.
fn is_stream(sub: &Subresource) -> bool {
    sub.kind
        .as_ref()
        .is_some_and(|(_, _, kind)| kind.ends_with("Options"))
        || &*sub.name == "log"
}

/// The paths of a group's version.
pub(super) fn of(group: &str, version: &str, resources: &[&Resource]) -> Value {
    let (words, tag) = spoken(group, version);
    let writer = Writer {
        group,
        version,
        words,
        tag,
    };
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let mut paths = Map::new();
    let list = reference(&format!("{META}.APIResourceList"));
    if !resources.iter().any(|resource| resource.custom.is_some()) {
        paths.insert(format!("{root}/"), json!({"get": {
            "operationId": format!("get{}APIResources", writer.words),
            "tags": [writer.tag],
            "responses": {"200": {"content": content(&["application/json", "application/yaml"], &list)}, "401": {}},
        }}));
    }
    for resource in resources {
        of_resource(&writer, &root, resource, &mut paths);
    }
    Value::Object(paths)
}

fn put(
    paths: &mut Map<String, Value>,
    path: String,
    mut operations: Map<String, Value>,
    parameters: &[&str],
) {
    if operations.is_empty() {
        return;
    }
    let mut all: Vec<Value> = parameters.iter().map(|name| in_path(name)).collect();
    all.extend(query(&[("pretty", "string")]));
    operations.insert("parameters".to_owned(), all.into());
    paths.insert(path, Value::Object(operations));
}

fn of_resource(writer: &Writer<'_>, root: &str, resource: &Resource, paths: &mut Map<String, Value>) {
    let name = definition(resource);
    let verbs: Vec<&str> = resource.verbs.iter().map(|verb| &**verb).collect();
    let (plural, kind) = (&resource.plural, &resource.kind);
    let scoped = if resource.namespaced {
        format!("Namespaced{kind}")
    } else {
        kind.to_string()
    };
    let (base, outer, inner): (String, &[&str], &[&str]) = if resource.namespaced {
        (
            format!("{root}/namespaces/{{namespace}}/{plural}"),
            &["namespace"],
            &["name", "namespace"],
        )
    } else {
        (format!("{root}/{plural}"), &[], &["name"])
    };
    put(
        paths,
        base.clone(),
        writer.collection(resource, &verbs, &scoped, &name),
        outer,
    );
    if resource.namespaced && verbs.contains(&"list") {
        let everywhere = writer.collection(resource, &["list"], &format!("{kind}ForAllNamespaces"), &name);
        put(paths, format!("{root}/{plural}"), everywhere, &[]);
    }
    let gvk = (writer.group, writer.version, &**kind);
    let is_custom = resource.custom.is_some();
    let single: Vec<&str> = verbs.iter().copied().filter(|verb| *verb != "create").collect();
    let object = writer.object(&single, &scoped, gvk, &reference(&name), is_custom);
    put(paths, format!("{base}/{{name}}"), object, inner);
    for sub in resource.subresources.iter().filter(|sub| !is_stream(sub)) {
        let verbs: Vec<&str> = sub.verbs.iter().map(|verb| &**verb).collect();
        let (gvk, schema) = match &sub.kind {
            Some((group, version, kind)) => (
                (&**group, &**version, &**kind),
                reference(&definition_name(group, version, kind)),
            ),
            None => (gvk, reference(&name)),
        };
        let named = format!("{scoped}{}", capital(&sub.name));
        let operations = writer.object(&verbs, &named, gvk, &schema, is_custom);
        put(paths, format!("{base}/{{name}}/{}", sub.name), operations, inner);
    }
}

/// The path of a document that has only discovery (or the version).
pub(super) fn of_discovery(name: &str) -> Value {
    let (definition, words) = match name {
        "api" => (format!("{META}.APIVersions"), "getCoreAPIVersions"),
        "apis" => (format!("{META}.APIGroupList"), "getAPIVersions"),
        "version" => (
            "io.k8s.apimachinery.pkg.version.Info".to_owned(),
            "getCodeVersion",
        ),
        _ => (format!("{META}.APIGroup"), "getAPIGroup"),
    };
    let media = content(&["application/json", "application/yaml"], &reference(&definition));
    json!({format!("/{name}/"): {"get": {
        "operationId": words, "responses": {"200": {"content": media}, "401": {}},
    }}})
}
