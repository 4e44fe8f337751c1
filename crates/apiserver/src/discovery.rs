//! Discovery: which groups, versions and resources there are, in the older form of one document each and in the
//! aggregated form (`apidiscovery.k8s.io/v2`), which the client asks for by its Accept header.

use crate::builtin;
use crate::resource::Resource;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

/// The content type of aggregated discovery.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// The verbs of custom resources, in the real server's order.
const CUSTOM_VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// A discovery document.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The `Content-Type` of an aggregated document, which is JSON; others are written as the client wants them.
    pub content_type: Option<&'static str>,
    /// The document.
    pub body: Value,
    /// The `ETag`, which aggregated documents have.
    pub etag: Option<String>,
}

impl Answer {
    fn plain(body: Value) -> Self {
        Self {
            content_type: None,
            body,
            etag: None,
        }
    }

    fn aggregated(groups: &[Group<'_>]) -> Self {
        let items: Vec<Value> = groups.iter().map(Group::aggregated).collect();
        let body = json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
        });
        let etag = format!("\"{}\"", hash_of(&body));
        Self {
            content_type: Some(AGGREGATED),
            body,
            etag: Some(etag),
        }
    }
}

/// The SHA-512 of a document, in upper-case hexadecimal digits.
pub(crate) fn hash_of(document: &Value) -> String {
    let mut text = String::with_capacity(128);
    for byte in Sha512::digest(document.to_string()) {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// The answer to a GET of `path`, or none where the path is no discovery document of what is served. `resources`
/// are the built-in ones in their order, then the custom ones; `address` is the server's own host and port.
pub fn answer(path: &str, accept: &str, resources: &[Arc<Resource>], address: &str) -> Option<Answer> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut parts = path.strip_prefix('/')?.split('/');
    let root = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    let groups = groups(resources);
    let (core, named): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.name.is_empty());
    match (root, rest.as_slice()) {
        ("api", []) if wants_aggregated(accept) => Some(Answer::aggregated(&core)),
        ("api", []) => Some(Answer::plain(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }))),
        ("api", [version]) => core.first()?.version(version).map(|v| Answer::plain(v.list())),
        ("apis", []) if wants_aggregated(accept) => Some(Answer::aggregated(&named)),
        ("apis", []) => Some(Answer::plain(json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": named.iter().map(Group::plain).collect::<Vec<_>>(),
        }))),
        ("apis", [group]) => {
            let mut body = named.iter().find(|g| g.name == *group)?.plain();
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            Some(Answer::plain(body))
        }
        ("apis", [group, version]) => {
            let group = named.iter().find(|g| g.name == *group)?;
            group.version(version).map(|v| Answer::plain(v.list()))
        }
        _ => None,
    }
}

/// Whether the first kind of answer that the client accepts is the aggregated one.
fn wants_aggregated(accept: &str) -> bool {
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<&str> = parts.filter(|part| !part.starts_with("q=")).collect();
        if parameters.is_empty()
            && ["application/json", "application/yaml", "*/*", "application/*"].contains(&media)
        {
            return false;
        }
        if media == "application/json"
            && ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
                .iter()
                .all(|wanted| parameters.contains(wanted))
        {
            return true;
        }
    }
    false
}

struct Group<'a> {
    name: &'a str,
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    group: &'a str,
    name: &'a str,
    resources: Vec<&'a Resource>,
}

/// The resources by group and version: built-in ones as they come, custom ones after them by name.
fn groups(resources: &[Arc<Resource>]) -> Vec<Group<'_>> {
    let mut built_in: Vec<Group<'_>> = Vec::new();
    let mut custom: Vec<Group<'_>> = Vec::new();
    for resource in resources {
        let list = if resource.custom.is_some() {
            &mut custom
        } else {
            &mut built_in
        };
        put(list, resource);
    }
    for group in &mut custom {
        group.versions.sort_by(|a, b| by_priority(a.name, b.name));
        for version in &mut group.versions {
            version.resources.sort_by(|a, b| a.plural.cmp(&b.plural));
        }
    }
    custom.sort_by(|a, b| a.name.cmp(b.name));
    built_in.append(&mut custom);
    built_in
}

fn put<'a>(groups: &mut Vec<Group<'a>>, resource: &'a Resource) {
    let at = groups
        .iter()
        .position(|g| g.name == &*resource.group)
        .unwrap_or_else(|| {
            groups.push(Group {
                name: &resource.group,
                versions: Vec::new(),
            });
            groups.len() - 1
        });
    let versions = &mut groups[at].versions;
    let at = versions
        .iter()
        .position(|v| v.name == &*resource.version)
        .unwrap_or_else(|| {
            versions.push(Version {
                group: &resource.group,
                name: &resource.version,
                resources: Vec::new(),
            });
            versions.len() - 1
        });
    versions[at].resources.push(resource);
}

/// Kubernetes' order of versions: stable before beta before alpha, then the higher number; others last, by name.
pub(crate) fn by_priority(a: &str, b: &str) -> Ordering {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability, major, minor of a version as `v1beta2`.
fn parsed(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(end);
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match rest.strip_prefix("beta") {
        Some(minor) => (1, minor),
        None => (0, rest.strip_prefix("alpha")?),
    };
    Some((stability, major, minor.parse().ok()?))
}

impl<'a> Group<'a> {
    fn version(&self, name: &str) -> Option<&Version<'a>> {
        self.versions.iter().find(|version| version.name == name)
    }

    fn plain(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|v| json!({"groupVersion": v.group_version(), "version": v.name}))
            .collect();
        json!({"name": self.name, "preferredVersion": versions.first(), "versions": versions})
    }

    fn aggregated(&self) -> Value {
        let metadata = if self.name.is_empty() {
            json!({})
        } else {
            json!({"name": self.name})
        };
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|v| {
                let resources: Vec<Value> = v.resources.iter().map(|r| aggregated(r)).collect();
                json!({"version": v.name, "resources": resources, "freshness": "Current"})
            })
            .collect();
        json!({"metadata": metadata, "versions": versions})
    }
}

impl Version<'_> {
    fn group_version(&self) -> String {
        if self.group.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}/{}", self.group, self.name)
        }
    }

    fn list(&self) -> Value {
        let mut resources = Vec::new();
        for resource in &self.resources {
            plain(resource, &mut resources);
        }
        let mut body =
            json!({"kind": "APIResourceList", "groupVersion": self.group_version(), "resources": resources});
        if !self.group.is_empty() {
            body["apiVersion"] = "v1".into();
        }
        body
    }
}

fn verbs(resource: &Resource) -> Value {
    if resource.custom.is_some() {
        json!(CUSTOM_VERBS)
    } else {
        json!(resource.verbs)
    }
}

/// Adds what is not empty.
fn add(map: &mut Map<String, Value>, name: &str, list: &[Arc<str>]) {
    if !list.is_empty() {
        map.insert(name.to_owned(), json!(list));
    }
}

fn plain(resource: &Resource, into: &mut Vec<Value>) {
    let mut entry = Map::new();
    if !resource.verbs.is_empty() {
        entry.insert("name".to_owned(), json!(resource.plural));
        entry.insert("singularName".to_owned(), json!(resource.singular));
        entry.insert("namespaced".to_owned(), json!(resource.namespaced));
        entry.insert("kind".to_owned(), json!(resource.kind));
        entry.insert("verbs".to_owned(), verbs(resource));
        add(&mut entry, "shortNames", &resource.short_names);
        add(&mut entry, "categories", &resource.categories);
        if let Some(hash) = storage_version_hash(resource) {
            entry.insert("storageVersionHash".to_owned(), hash.into());
        }
        into.push(Value::Object(entry));
    }
    for sub in &resource.subresources {
        let mut entry = json!({
            "name": format!("{}/{}", resource.plural, sub.name),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": sub.kind.as_ref().map_or(&resource.kind, |kind| &kind.2),
            "verbs": sub.verbs,
        });
        if let Some((group, version, _)) = &sub.kind
            && (group, version) != (&resource.group, &resource.version)
        {
            entry["group"] = json!(group);
            entry["version"] = json!(version);
        }
        into.push(entry);
    }
}

fn aggregated(resource: &Resource) -> Value {
    let scope = if resource.namespaced {
        "Namespaced"
    } else {
        "Cluster"
    };
    // Built-in kinds of the version's own group leave group and version out.
    let own = |kind: &str| {
        if resource.custom.is_some() {
            json!({"group": resource.group, "version": resource.version, "kind": kind})
        } else {
            json!({"group": "", "version": "", "kind": kind})
        }
    };
    let mut entry = Map::new();
    entry.insert("resource".to_owned(), json!(resource.plural));
    entry.insert("responseKind".to_owned(), own(&resource.kind));
    entry.insert("scope".to_owned(), json!(scope));
    entry.insert("singularResource".to_owned(), json!(resource.singular));
    entry.insert("verbs".to_owned(), verbs(resource));
    add(&mut entry, "shortNames", &resource.short_names);
    add(&mut entry, "categories", &resource.categories);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let kind = match &sub.kind {
                Some((group, version, kind)) if (group, version) != (&resource.group, &resource.version) => {
                    json!({"group": group, "version": version, "kind": kind})
                }
                Some((_, _, kind)) => own(kind),
                None => own(&resource.kind),
            };
            json!({"subresource": sub.name, "responseKind": kind, "verbs": sub.verbs})
        })
        .collect();
    if !subresources.is_empty() {
        entry.insert("subresources".to_owned(), subresources.into());
    }
    Value::Object(entry)
}

/// The hash of the group, version and kind in which objects are stored.
fn storage_version_hash(resource: &Resource) -> Option<String> {
    let Some(custom) = &resource.custom else {
        return builtin::storage_version_hash(&resource.group, &resource.version, &resource.plural);
    };
    let versions = custom.definition["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|version| version["storage"] == true)?["name"].as_str()?;
    let text = format!("{}/{stored}/{}", resource.group, resource.kind);
    Some(STANDARD.encode(&Sha256::digest(text)[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// The documents that Kubernetes publishes, where a tool has put them.
    fn published() -> Option<PathBuf> {
        let folder = PathBuf::from(std::env::var_os("HOME")?)
            .join(".cache/clusterwright/tools/openapi-1.36.3/discovery");
        folder.is_dir().then_some(folder)
    }

    fn get(path: &str, accept: &str) -> Value {
        answer(path, accept, &builtin::resources(), "127.0.0.1:6443")
            .expect("served")
            .body
    }

    #[test]
    fn says_what_the_published_documents_say() {
        let Some(folder) = published() else {
            return;
        };
        for line in builtin::lines() {
            let (group, version) = (line["group"].as_str().unwrap(), line["version"].as_str().unwrap());
            let (path, file) = if group.is_empty() {
                (format!("/api/{version}"), format!("api__{version}.json"))
            } else {
                (
                    format!("/apis/{group}/{version}"),
                    format!("apis__{group}__{version}.json"),
                )
            };
            let text = std::fs::read_to_string(folder.join(file)).expect("published");
            let wanted: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(get(&path, "application/json"), wanted, "{path}");
        }
    }

    #[test]
    fn aggregates_where_asked_to() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let all = get("/apis", accept);
        assert_eq!(all["items"][0]["metadata"]["name"], "apiregistration.k8s.io");
        assert_eq!(all["items"][5]["versions"][0]["version"], "v2");
        let core = get("/api", accept);
        let pods = core["items"][0]["versions"][0]["resources"]
            .as_array()
            .and_then(|list| list.iter().find(|r| r["resource"] == "pods"))
            .expect("pods");
        assert_eq!(
            pods["responseKind"],
            json!({"group": "", "version": "", "kind": "Pod"})
        );
        assert_eq!(get("/apis", "application/json")["kind"], "APIGroupList");
        assert_eq!(
            get(
                "/apis",
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
            )["kind"],
            "APIGroupList"
        );
    }

    #[test]
    fn knows_nothing_of_what_is_not_served() {
        let all = builtin::resources();
        for path in [
            "/apis/nope",
            "/apis/apps/v7",
            "/api/v2",
            "/version",
            "/api/v1/pods",
        ] {
            assert_eq!(answer(path, "*/*", &all, ""), None, "{path}");
        }
    }

    #[test]
    fn orders_versions_by_stability() {
        let mut versions = ["v1alpha1", "foo", "v2beta1", "v1", "v10", "v2"];
        versions.sort_by(|a, b| by_priority(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1alpha1", "foo"]);
    }
}
