//! A container's environment, from what its spec refers to. Pure: objects in, variables out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, Pod, ResourceRequirements, Secret,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// What a container may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a> {
    /// The pod, with the addresses of its status as far as they are known.
    pub pod: &'a Pod,
    /// `ConfigMap`s of its namespace by name.
    pub config_maps: &'a BTreeMap<String, ConfigMap>,
    /// Secrets of its namespace by name.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// What the node has of a resource, for limits that are not given.
    pub capacity: &'a BTreeMap<String, String>,
}

/// What a spec refers to and is not to be had. A container that does waits with the reason
/// `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A `ConfigMap` is missing.
    #[error("configmap {0:?} not found")]
    NoConfigMap(String),
    /// A Secret is missing.
    #[error("secret {0:?} not found")]
    NoSecret(String),
    /// A key is missing.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A Secret's value can't be a variable's.
    #[error("the value of key {key} in Secret {name} is no UTF-8 text, as a variable has to be")]
    NotText {
        /// The Secret's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A path that leads to no field.
    #[error("unsupported fieldPath {0:?}")]
    NoField(String),
    /// A resource that is not known.
    #[error("unsupported resource {0:?} of container {1:?}")]
    NoResource(String, String),
    /// A way of giving a value that is not known.
    #[error("variable {0:?} has a source that the podlet does not support")]
    NoSource(String),
}

/// The variables of a container: those of `envFrom`, then those of `env`, where a later one wins.
///
/// # Errors
/// If something that is not optional is missing.
pub fn environment(container: &Container, objects: Objects<'_>) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(wanted) = &source.config_map_ref {
            match objects.config_maps.get(&wanted.name) {
                Some(found) => {
                    let data = found.data.iter().flatten();
                    variables.extend(data.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
                }
                None if wanted.optional == Some(true) => {}
                None => return Err(Error::NoConfigMap(wanted.name.clone())),
            }
        }
        if let Some(wanted) = &source.secret_ref {
            match objects.secrets.get(&wanted.name) {
                Some(found) => {
                    for key in found.data.iter().flatten().map(|(key, _)| key) {
                        variables.insert(format!("{prefix}{key}"), secret_text(found, &wanted.name, key)?);
                    }
                }
                None if wanted.optional == Some(true) => {}
                None => return Err(Error::NoSecret(wanted.name.clone())),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => from_source(variable, source, container, objects)?,
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &variables)),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// The value that a source gives. `None` if it is optional and missing.
fn from_source(
    variable: &EnvVar,
    source: &EnvVarSource,
    container: &Container,
    objects: Objects<'_>,
) -> Result<Option<String>, Error> {
    let namespace = || objects.pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(wanted) = &source.field_ref {
        return field(objects.pod, &wanted.field_path).map(Some);
    }
    if let Some(wanted) = &source.resource_field_ref {
        let name = wanted.container_name.as_deref().unwrap_or(&container.name);
        let divisor = wanted.divisor.as_ref().map(|divisor| divisor.0.as_str());
        return resource(objects, name, &wanted.resource, divisor).map(Some);
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let optional = wanted.optional == Some(true);
        let Some(found) = objects.config_maps.get(&wanted.name) else {
            return missing(optional, || Error::NoConfigMap(wanted.name.clone()));
        };
        return match found.data.as_ref().and_then(|data| data.get(&wanted.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(optional, || Error::NoKey {
                kind: "ConfigMap",
                namespace: namespace(),
                name: wanted.name.clone(),
                key: wanted.key.clone(),
            }),
        };
    }
    if let Some(wanted) = &source.secret_key_ref {
        let optional = wanted.optional == Some(true);
        let Some(found) = objects.secrets.get(&wanted.name) else {
            return missing(optional, || Error::NoSecret(wanted.name.clone()));
        };
        return if found
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key(&wanted.key))
        {
            secret_text(found, &wanted.name, &wanted.key).map(Some)
        } else {
            missing(optional, || Error::NoKey {
                kind: "Secret",
                namespace: namespace(),
                name: wanted.name.clone(),
                key: wanted.key.clone(),
            })
        };
    }
    Err(Error::NoSource(variable.name.clone()))
}

fn missing(optional: bool, error: impl FnOnce() -> Error) -> Result<Option<String>, Error> {
    if optional { Ok(None) } else { Err(error()) }
}

fn secret_text(secret: &Secret, name: &str, key: &str) -> Result<String, Error> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let bytes = value.map(|value| value.0.clone()).unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| Error::NotText {
        name: name.to_owned(),
        key: key.to_owned(),
    })
}

/// A field of a pod by the paths that variables and files may name.
///
/// # Errors
/// If the path is none of them.
pub fn field(pod: &Pod, path: &str) -> Result<String, Error> {
    let metadata = &pod.metadata;
    let keyed = |name: &str| {
        let rest = path.strip_prefix(name)?.strip_prefix("['")?;
        rest.strip_suffix("']")
    };
    if let Some(key) = keyed("metadata.annotations") {
        let found = metadata.annotations.as_ref().and_then(|all| all.get(key));
        return Ok(found.cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.labels") {
        let found = metadata.labels.as_ref().and_then(|all| all.get(key));
        return Ok(found.cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.annotations" => Some(lines(metadata.annotations.as_ref())),
        "metadata.labels" => Some(lines(metadata.labels.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" => status.and_then(|status| status.host_ip.clone()),
        "status.podIP" => status.and_then(|status| status.pod_ip.clone()),
        "status.hostIPs" => status.map(|status| {
            let all = status.host_ips.iter().flatten();
            all.map(|address| address.ip.clone())
                .collect::<Vec<_>>()
                .join(",")
        }),
        "status.podIPs" => status.map(|status| {
            let all = status.pod_ips.iter().flatten();
            all.map(|address| address.ip.clone())
                .collect::<Vec<_>>()
                .join(",")
        }),
        _ => return Err(Error::NoField(path.to_owned())),
    };
    Ok(value.unwrap_or_default())
}

/// A map as a file holds it: a line per key, the value quoted.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// A resource of a container's, in units of the divisor, rounded up. A limit that is not given is what the node has.
///
/// # Errors
/// If there is no such container or resource.
pub fn resource(
    objects: Objects<'_>,
    container: &str,
    name: &str,
    divisor: Option<&str>,
) -> Result<String, Error> {
    let unknown = || Error::NoResource(name.to_owned(), container.to_owned());
    let spec = objects.pod.spec.as_ref().ok_or_else(unknown)?;
    let found = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|candidate| candidate.name == container)
        .ok_or_else(unknown)?;
    let (kind, resource) = name.split_once('.').ok_or_else(unknown)?;
    let none = ResourceRequirements::default();
    let given = found.resources.as_ref().unwrap_or(&none);
    let of = |map: Option<&BTreeMap<String, Quantity>>| map?.get(resource).map(|quantity| quantity.0.clone());
    let value = match kind {
        "limits" => of(given.limits.as_ref())
            .or_else(|| objects.capacity.get(resource).cloned())
            .ok_or_else(unknown)?,
        "requests" => of(given.requests.as_ref())
            .or_else(|| of(given.limits.as_ref()))
            .unwrap_or_else(|| "0".to_owned()),
        _ => return Err(unknown()),
    };
    let divisor = divisor.filter(|divisor| *divisor != "0").unwrap_or("1");
    quantity::in_units(&value, divisor)
        .map(|units| units.to_string())
        .ok_or_else(unknown)
}

/// Replaces `$(NAME)` by the variable, and `$$` by a dollar sign. What names no variable stays.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let named = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match named {
            Some((name, tail)) => {
                match variables.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => {
                        expanded.push_str("$(");
                        expanded.push_str(name);
                        expanded.push(')');
                    }
                }
                rest = tail;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Pod {
        serde_saphyr::from_str(text).unwrap()
    }

    const POD: &str = r#"
        metadata:
          name: etcd-0
          namespace: clusters
          uid: u1
          labels: {app: etcd}
          annotations: {b: "two \"words\"", a: one}
        spec:
          nodeName: here
          containers:
          - name: etcd
            envFrom:
            - prefix: P_
              configMapRef: {name: config}
            - secretRef: {name: absent, optional: true}
            env:
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: URL, value: "https://$(NAME).peers:2380 $(UNKNOWN) $$(NAME) $"}
            - {name: LATER, value: "$(AFTER)"}
            - {name: AFTER, value: x}
            - {name: KEY, valueFrom: {secretKeyRef: {name: keys, key: k}}}
            - {name: GONE, valueFrom: {secretKeyRef: {name: keys, key: none, optional: true}}}
            - {name: P_a, value: wins}
            - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
            - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
            - {name: ALL, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
            resources:
              limits: {cpu: 1500m}
              requests: {memory: 100M}
        status:
          podIP: 10.244.0.7
          podIPs: [{ip: 10.244.0.7}]
    "#;

    fn resolve(pod: &Pod) -> Result<BTreeMap<String, String>, Error> {
        let config: ConfigMap = serde_saphyr::from_str("{data: {a: '1', b: '2'}}").unwrap();
        let keys: Secret = serde_saphyr::from_str("{data: {k: c2VjcmV0, binary: /w==}}").unwrap();
        let objects = Objects {
            pod,
            config_maps: &[("config".to_owned(), config)].into(),
            secrets: &[("keys".to_owned(), keys)].into(),
            capacity: &[("memory".to_owned(), "2Gi".to_owned())].into(),
        };
        environment(&pod.spec.as_ref().unwrap().containers[0], objects)
    }

    #[test]
    fn every_source_and_the_order_in_which_they_win() {
        let variables = resolve(&pod(POD)).unwrap();
        let expected = [
            ("AFTER", "x"),
            ("ALL", "2147483648"),
            ("CPU", "2"),
            ("KEY", "secret"),
            ("LATER", "$(AFTER)"),
            ("MEMORY", "96"),
            ("NAME", "etcd-0"),
            ("P_a", "wins"),
            ("P_b", "2"),
            ("URL", "https://etcd-0.peers:2380 $(UNKNOWN) $(NAME) $"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables, expected.into());
    }

    #[test]
    fn what_is_missing_is_named() {
        let with = |source: &str| {
            let mut pod = pod(POD);
            let variable = format!("{{name: X, valueFrom: {source}}}");
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            container.env = Some(vec![serde_saphyr::from_str(&variable).unwrap()]);
            resolve(&pod).unwrap_err().to_string()
        };
        let cases = [
            (
                "{configMapKeyRef: {name: none, key: a}}",
                "configmap \"none\" not found",
            ),
            (
                "{configMapKeyRef: {name: config, key: z}}",
                "couldn't find key z in ConfigMap clusters/config",
            ),
            (
                "{secretKeyRef: {name: none, key: a}}",
                "secret \"none\" not found",
            ),
            (
                "{secretKeyRef: {name: keys, key: z}}",
                "couldn't find key z in Secret clusters/keys",
            ),
            (
                "{fieldRef: {fieldPath: spec.color}}",
                "unsupported fieldPath \"spec.color\"",
            ),
            (
                "{resourceFieldRef: {resource: limits.color}}",
                "unsupported resource \"limits.color\" of container \"etcd\"",
            ),
        ];
        for (source, message) in cases {
            assert_eq!(with(source), message);
        }
        assert!(with("{secretKeyRef: {name: keys, key: binary}}").contains("no UTF-8 text"));
    }

    #[test]
    fn fields_of_a_pod() {
        let pod = pod(POD);
        let field = |path| field(&pod, path).unwrap();
        assert_eq!(
            field("metadata.annotations"),
            "a=\"one\"\nb=\"two \\\"words\\\"\""
        );
        assert_eq!(field("metadata.annotations['a']"), "one");
        assert_eq!(field("metadata.labels['none']"), "");
        assert_eq!(field("status.podIP"), "10.244.0.7");
        assert_eq!(field("status.podIPs"), "10.244.0.7");
        assert_eq!(field("spec.nodeName"), "here");
    }
}
