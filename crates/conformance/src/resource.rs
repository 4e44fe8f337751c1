//! The short paths of scenarios: `configmaps/a?dryRun=All` for `/api/v1/namespaces/<ns>/configmaps/a?dryRun=All`.

use serde_json::{Value, json};

/// Plural, API version, kind, and whether it lives in a namespace.
const SHORT: &[(&str, &str, &str, bool)] = &[
    ("bindings", "v1", "Binding", true),
    ("configmaps", "v1", "ConfigMap", true),
    ("endpoints", "v1", "Endpoints", true),
    ("limitranges", "v1", "LimitRange", true),
    ("namespaces", "v1", "Namespace", false),
    ("nodes", "v1", "Node", false),
    ("persistentvolumeclaims", "v1", "PersistentVolumeClaim", true),
    ("persistentvolumes", "v1", "PersistentVolume", false),
    ("pods", "v1", "Pod", true),
    ("replicationcontrollers", "v1", "ReplicationController", true),
    ("resourcequotas", "v1", "ResourceQuota", true),
    ("secrets", "v1", "Secret", true),
    ("serviceaccounts", "v1", "ServiceAccount", true),
    ("services", "v1", "Service", true),
    ("coreevents", "v1", "Event", true),
    ("controllerrevisions", "apps/v1", "ControllerRevision", true),
    ("daemonsets", "apps/v1", "DaemonSet", true),
    ("deployments", "apps/v1", "Deployment", true),
    ("replicasets", "apps/v1", "ReplicaSet", true),
    ("statefulsets", "apps/v1", "StatefulSet", true),
    ("jobs", "batch/v1", "Job", true),
    ("cronjobs", "batch/v1", "CronJob", true),
    ("poddisruptionbudgets", "policy/v1", "PodDisruptionBudget", true),
    ("endpointslices", "discovery.k8s.io/v1", "EndpointSlice", true),
    ("leases", "coordination.k8s.io/v1", "Lease", true),
    ("events", "events.k8s.io/v1", "Event", true),
    ("ingresses", "networking.k8s.io/v1", "Ingress", true),
    ("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy", true),
    ("roles", "rbac.authorization.k8s.io/v1", "Role", true),
    (
        "rolebindings",
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        true,
    ),
    (
        "clusterroles",
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        false,
    ),
    (
        "clusterrolebindings",
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        false,
    ),
    ("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", false),
    ("storageclasses", "storage.k8s.io/v1", "StorageClass", false),
    (
        "customresourcedefinitions",
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        false,
    ),
    (
        "selfsubjectreviews",
        "authentication.k8s.io/v1",
        "SelfSubjectReview",
        false,
    ),
    ("tokenreviews", "authentication.k8s.io/v1", "TokenReview", false),
    (
        "subjectaccessreviews",
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        false,
    ),
    (
        "localsubjectaccessreviews",
        "authorization.k8s.io/v1",
        "LocalSubjectAccessReview",
        true,
    ),
    (
        "selfsubjectrulesreviews",
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        false,
    ),
    (
        "selfsubjectaccessreviews",
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        false,
    ),
];

/// Where a short path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The full path with its query.
    pub path: String,
    /// API version and kind of the objects there; none for a path that was full already and for subresources.
    pub kind: Option<(String, String)>,
}

/// Expands a short path; a path that starts with `/` stays as it is.
///
/// `widgets` is the custom resource that a scenario's `widgets:` set up, in the API group `group`.
pub fn expand(path: &str, namespace: &str, group: &str) -> Resource {
    if path.starts_with('/') {
        return Resource {
            path: path.to_owned(),
            kind: None,
        };
    }
    let plural = path.split(['/', '?']).next().unwrap_or_default();
    let subresource = path.split('?').next().unwrap_or_default().matches('/').count() > 1;
    let known = SHORT.iter().find(|(known, ..)| *known == plural);
    let (version, kind, namespaced) = known.map_or_else(
        || (format!("{group}/v1"), "Widget", true),
        |(_, version, kind, namespaced)| ((*version).to_owned(), *kind, *namespaced),
    );
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let scope = if namespaced {
        format!("/namespaces/{namespace}")
    } else {
        String::new()
    };
    // Events have two groups; the older one has a name of ours, since a short path holds no group.
    let path = path
        .strip_prefix("core")
        .filter(|_| plural == "coreevents")
        .unwrap_or(path);
    Resource {
        path: format!("{root}/{version}{scope}/{path}"),
        kind: (!subresource).then(|| (version, kind.to_owned())),
    }
}

/// Fills in API version and kind where the body does not name them.
pub fn complete(body: &mut Value, resource: &Resource) {
    if let (Value::Object(map), Some((version, kind))) = (body, &resource.kind) {
        map.entry("apiVersion").or_insert_with(|| json!(version));
        map.entry("kind").or_insert_with(|| json!(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_paths_know_their_group_and_scope() {
        let expand = |path| expand(path, "n", "g.example.com");
        assert_eq!(
            expand("configmaps/a?x=1").path,
            "/api/v1/namespaces/n/configmaps/a?x=1"
        );
        assert_eq!(expand("namespaces").path, "/api/v1/namespaces");
        assert_eq!(
            expand("deployments/d/scale").path,
            "/apis/apps/v1/namespaces/n/deployments/d/scale"
        );
        assert_eq!(expand("deployments/d/scale").kind, None);
        assert_eq!(
            expand("widgets/w").path,
            "/apis/g.example.com/v1/namespaces/n/widgets/w"
        );
        assert_eq!(expand("coreevents/e").path, "/api/v1/namespaces/n/events/e");
        assert_eq!(
            expand("/version"),
            Resource {
                path: "/version".into(),
                kind: None
            }
        );
    }

    #[test]
    fn a_body_keeps_what_it_says() {
        let resource = expand("configmaps", "n", "g");
        let mut body = json!({"kind": "Secret"});
        complete(&mut body, &resource);
        assert_eq!(body, json!({"apiVersion": "v1", "kind": "Secret"}));
    }
}
