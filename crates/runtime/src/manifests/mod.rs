//! What it takes to run a program of this framework on a cluster, as objects and as YAML.
//!
//! The rights come from what the controllers declare; what the framework itself needs (its Lease, Events) is added
//! here, so that nobody writes a role by hand.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

/// The group of roles and bindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// The user that the container runs as: `nonroot` of the usual minimal images.
const NONROOT: i64 = 65_532;

/// How a program is to run.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// The name of the program and of its objects.
    pub name: String,
    /// The namespace that it runs in, which is made too.
    pub namespace: String,
    /// The container image.
    pub image: String,
    /// The arguments after the image's entry point.
    pub args: Vec<String>,
    /// How many replicas there are; all but one wait to lead. 1 by default.
    pub replicas: i32,
    /// The Lease's name. The program's own by default.
    pub lease: String,
    /// Where metrics are served; 8080 by default.
    pub metrics_port: u16,
    /// Where probes are answered; 8081 by default.
    pub health_port: u16,
    /// How long the pod may take to end, in seconds; 40 by default, 10 s more than a manager's shutdown timeout.
    pub termination_grace_period: i64,
}

impl InstallOptions {
    /// One replica with the usual ports.
    pub fn new(name: impl Into<String>, namespace: impl Into<String>, image: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            lease: name.clone(),
            name,
            namespace: namespace.into(),
            image: image.into(),
            args: Vec::new(),
            replicas: 1,
            metrics_port: 8080,
            health_port: 8081,
            termination_grace_period: 40,
        }
    }

    /// The same with these arguments.
    pub fn args(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    fn meta(&self, namespaced: bool) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: namespaced.then(|| self.namespace.clone()),
            labels: Some([("app.kubernetes.io/name".to_owned(), self.name.clone())].into()),
            ..ObjectMeta::default()
        }
    }
}

/// A manifest can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// An object has no JSON form.
    #[error("failed to write a manifest as JSON")]
    Json(#[from] serde_json::Error),
    /// An object has no YAML form.
    #[error("failed to write a manifest as YAML: {0}")]
    Yaml(String),
}

/// All objects that a cluster needs to run the program, in the order in which they can be applied.
///
/// `rules` are those of the controllers; see [`Controller::rules`](crate::controller::Controller::rules). They apply to
/// all namespaces. Events go wherever objects are, the Lease is in the program's own namespace.
pub fn install(
    options: &InstallOptions,
    crds: &[CustomResourceDefinition],
    rules: &[PolicyRule],
) -> Result<Vec<Value>, ManifestError> {
    let mut objects = vec![value(&namespace(options))?];
    for crd in crds {
        let mut crd = value(crd)?;
        if let Some(crd) = crd.as_object_mut() {
            crd.remove("status");
        }
        objects.push(crd);
    }
    objects.push(value(&service_account(options))?);
    objects.push(value(&cluster_role(options, rules))?);
    objects.push(value(&cluster_role_binding(options))?);
    objects.push(value(&role(options))?);
    objects.push(value(&role_binding(options))?);
    objects.push(value(&deployment(options)?)?);
    Ok(objects)
}

/// The documents of one YAML file, each after a line `---`.
pub fn to_yaml_documents(objects: &[Value]) -> Result<String, ManifestError> {
    let mut text = String::new();
    for object in objects {
        let document =
            serde_saphyr::to_string(object).map_err(|error| ManifestError::Yaml(error.to_string()))?;
        text.push_str("---\n");
        text.push_str(document.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// What the framework itself needs in all namespaces.
pub fn cluster_rules() -> Vec<PolicyRule> {
    vec![rule("events.k8s.io", "events", &["create", "patch"], None)]
}

/// What the framework itself needs in the program's own namespace: a Lease of that name. The right to create can't be
/// bound to a name.
pub fn lease_rules(lease: &str) -> Vec<PolicyRule> {
    let group = "coordination.k8s.io";
    vec![
        rule(group, "leases", &["create"], None),
        rule(group, "leases", &["get", "update"], Some(lease)),
    ]
}

fn rule(group: &str, resource: &str, verbs: &[&str], name: Option<&str>) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: name.map(|name| vec![name.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn value(object: &impl Serialize) -> Result<Value, ManifestError> {
    Ok(serde_json::to_value(object)?)
}

fn namespace(options: &InstallOptions) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(options.namespace.clone()),
            ..options.meta(false)
        },
        ..Namespace::default()
    }
}

fn service_account(options: &InstallOptions) -> ServiceAccount {
    ServiceAccount {
        metadata: options.meta(true),
        ..ServiceAccount::default()
    }
}

fn cluster_role(options: &InstallOptions, rules: &[PolicyRule]) -> ClusterRole {
    ClusterRole {
        metadata: options.meta(false),
        rules: Some([rules, &cluster_rules()].concat()),
        ..ClusterRole::default()
    }
}

fn role(options: &InstallOptions) -> Role {
    Role {
        metadata: options.meta(true),
        rules: Some(lease_rules(&options.lease)),
    }
}

fn cluster_role_binding(options: &InstallOptions) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: options.meta(false),
        role_ref: role_ref(options, "ClusterRole"),
        subjects: Some(vec![subject(options)]),
    }
}

fn role_binding(options: &InstallOptions) -> RoleBinding {
    RoleBinding {
        metadata: options.meta(true),
        role_ref: role_ref(options, "Role"),
        subjects: Some(vec![subject(options)]),
    }
}

fn role_ref(options: &InstallOptions, kind: &str) -> RoleRef {
    RoleRef {
        api_group: Some(RBAC.to_owned()),
        kind: kind.to_owned(),
        name: options.name.clone(),
    }
}

fn subject(options: &InstallOptions) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: options.name.clone(),
        namespace: Some(options.namespace.clone()),
    }
}

fn deployment(options: &InstallOptions) -> Result<Deployment, ManifestError> {
    let labels = json!({"app.kubernetes.io/name": options.name});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "health"}});
    let spec = json!({
        "replicas": options.replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {"kubectl.kubernetes.io/default-container": "manager"},
            },
            "spec": {
                "serviceAccountName": options.name,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": options.termination_grace_period,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": NONROOT,
                    "runAsGroup": NONROOT,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "manager",
                    "image": options.image,
                    "args": options.args,
                    "env": [{
                        "name": "CONTROLLER_NAMESPACE",
                        "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
                    }],
                    "ports": [
                        {"name": "metrics", "containerPort": options.metrics_port},
                        {"name": "health", "containerPort": options.health_port},
                    ],
                    "livenessProbe": probe("/livez"),
                    "readinessProbe": probe("/readyz"),
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "64Mi"},
                        "limits": {"memory": "512Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": true,
                    },
                    // What a fatal error said is in the pod's status.
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }],
            },
        },
    });
    Ok(Deployment {
        metadata: options.meta(true),
        spec: Some(serde_json::from_value(spec)?),
        ..Deployment::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_it_takes() {
        let crd: CustomResourceDefinition = serde_json::from_value(json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets"},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
        }))
        .unwrap();
        let options =
            InstallOptions::new("widgets", "widgets-system", "example.com/widgets:v1").args(["manager"]);
        let rules = [rule("example.com", "widgets", &["get", "list", "watch"], None)];
        let objects = install(&options, &[crd], &rules).unwrap();
        insta::assert_snapshot!(to_yaml_documents(&objects).unwrap());
    }
}
