//! The containers of a pod.

use super::check::{
    complaints, config_key, items, label, not_supported, port_name, shown_as, subdomain, text,
};
use super::pod_spec::{validate_id, validate_seccomp};
use super::volumes::inner_path;
use super::{probes, resources};
use crate::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Fields of a pod that a variable may be set from.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

pub(super) fn validate(spec: &Value, volumes: &[&str], path: &Path, errors: &mut FieldErrors) {
    let containers = items(&spec["containers"]);
    let at = path.child("containers");
    if containers.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    let mut known = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index);
        common(container, volumes, &at, errors);
        unique(container, &mut known, &at, errors);
        probes::validate(container, &at, errors);
    }
    host_ports(containers, &at, errors);
    let at = path.child("initContainers");
    for (index, container) in items(&spec["initContainers"]).iter().enumerate() {
        let item = at.index(index);
        common(container, volumes, &item, errors);
        restart_policy(container, &item, errors);
        unique(container, &mut known, &item, errors);
        if container["restartPolicy"] == "Always" {
            probes::validate(container, &item, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if !container[field].is_null() {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&item.child(field), why));
            }
        }
    }
    ephemeral(spec, volumes, &path.child("ephemeralContainers"), errors);
}

/// What holds for a container in a pod, but not in a template.
pub(super) fn validate_in_pod(container: &Value, path: &Path, errors: &mut FieldErrors) {
    let image = text(container, "image");
    if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), &json!(image), why));
    }
}

/// Containers for debugging, on which nothing may rely.
fn ephemeral(spec: &Value, volumes: &[&str], path: &Path, errors: &mut FieldErrors) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let lasting = ["containers", "initContainers"].into_iter();
    let lasting: Vec<&str> = lasting
        .flat_map(|list| items(&spec[list]))
        .map(|container| text(container, "name"))
        .collect();
    let mut known = lasting.clone();
    for (index, container) in items(&spec["ephemeralContainers"]).iter().enumerate() {
        let at = path.index(index);
        common(container, volumes, &at, errors);
        validate_in_pod(container, &at, errors);
        let name = text(container, "name");
        if known.contains(&name) {
            errors.push(FieldError::duplicate(&at.child("name"), &json!(name)));
        }
        known.push(name);
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !lasting.contains(&target) {
            let at = at.child("targetContainerName");
            errors.push(FieldError::new(Kind::NotFound, &at, &json!(target), ""));
        }
        for field in [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            let empty = match &container[field] {
                Value::Null => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => field == "resources" && map.is_empty(),
                _ => false,
            };
            if !empty {
                errors.push(FieldError::forbidden(&at.child(field), WHY));
            }
        }
        for (index, mount) in items(&container["volumeMounts"]).iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let at = at.child("volumeMounts").index(index).child(field);
                    errors.push(FieldError::forbidden(&at, WHY));
                }
            }
        }
    }
}

fn restart_policy(container: &Value, path: &Path, errors: &mut FieldErrors) {
    if !container["restartPolicy"].is_null() {
        let known = ["Always", "Never", "OnFailure"];
        not_supported(
            &path.child("restartPolicy"),
            &container["restartPolicy"],
            &known,
            errors,
        );
    }
}

fn unique<'a>(container: &'a Value, known: &mut Vec<&'a str>, path: &Path, errors: &mut FieldErrors) {
    let name = text(container, "name");
    if known.contains(&name) {
        errors.push(FieldError::duplicate(&path.child("name"), &json!(name)));
    } else if !name.is_empty() {
        known.push(name);
    }
}

fn common(container: &Value, volumes: &[&str], path: &Path, errors: &mut FieldErrors) {
    let name = text(container, "name");
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        label(&path.child("name"), name, errors);
    }
    if text(container, "image").is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    let known = ["File", "FallbackToLogsOnError"];
    let at = path.child("terminationMessagePolicy");
    not_supported(&at, &container["terminationMessagePolicy"], &known, errors);
    ports(&container["ports"], &path.child("ports"), errors);
    env(&container["env"], &path.child("env"), errors);
    env_from(&container["envFrom"], &path.child("envFrom"), errors);
    mounts(
        &container["volumeMounts"],
        volumes,
        &path.child("volumeMounts"),
        errors,
    );
    let known = ["Always", "IfNotPresent", "Never"];
    not_supported(
        &path.child("imagePullPolicy"),
        &container["imagePullPolicy"],
        &known,
        errors,
    );
    resources::validate(&container["resources"], &path.child("resources"), errors);
    security(
        &container["securityContext"],
        &path.child("securityContext"),
        errors,
    );
}

fn ports(ports: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut known = Vec::new();
    for (index, port) in items(ports).iter().enumerate() {
        let at = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = port_name(name);
            if wrong.is_empty() && known.contains(&name) {
                errors.push(FieldError::duplicate(&at.child("name"), &json!(name)));
            } else if wrong.is_empty() {
                known.push(name);
            }
            complaints(&at.child("name"), &json!(name), wrong, errors);
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.push(FieldError::required(&at.child("containerPort"), "")),
            number if !(1..=65_535).contains(&number) => {
                errors.push(FieldError::invalid(
                    &at.child("containerPort"),
                    &json!(number),
                    PORT_RANGE,
                ));
            }
            _ => {}
        }
        let number = port["hostPort"].as_i64().unwrap_or(0);
        if number != 0 && !(1..=65_535).contains(&number) {
            errors.push(FieldError::invalid(
                &at.child("hostPort"),
                &json!(number),
                PORT_RANGE,
            ));
        }
        not_supported(
            &at.child("protocol"),
            &port["protocol"],
            &["SCTP", "TCP", "UDP"],
            errors,
        );
    }
}

/// A port of the host goes to one container only.
fn host_ports(containers: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut taken = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, port) in items(&container["ports"]).iter().enumerate() {
            let number = port["hostPort"].as_i64().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if taken.contains(&key) {
                let at = path.index(index).child("ports").index(at).child("hostPort");
                errors.push(FieldError::duplicate(&at, &json!(key)));
            }
            taken.push(key);
        }
    }
}

fn env(variables: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, variable) in items(variables).iter().enumerate() {
        let at = path.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else if !name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
            let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(FieldError::invalid(&at.child("name"), &json!(name), why));
        }
        let source = &variable["valueFrom"];
        if !source.is_null() {
            env_source(
                source,
                !text(variable, "value").is_empty(),
                &at.child("valueFrom"),
                errors,
            );
        }
    }
}

fn env_source(source: &Value, has_value: bool, path: &Path, errors: &mut FieldErrors) {
    let mut count = 0;
    let field = &source["fieldRef"];
    if !field.is_null() {
        count += 1;
        field_ref(field, &path.child("fieldRef"), errors);
    }
    let resource = &source["resourceFieldRef"];
    if !resource.is_null() {
        count += 1;
        if text(resource, "resource").is_empty() {
            errors.push(FieldError::required(
                &path.child("resourceFieldRef").child("resource"),
                "",
            ));
        }
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let reference = &source[kind];
        if !reference.is_null() {
            count += 1;
            let at = path.child(kind);
            subdomain(&at.child("name"), text(reference, "name"), errors);
            if text(reference, "key").is_empty() {
                errors.push(FieldError::required(&at.child("key"), ""));
            } else {
                config_key(&at.child("key"), text(reference, "key"), errors);
            }
        }
    }
    count += i32::from(!source["fileKeyRef"].is_null());
    let why = if count == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if has_value {
        "may not be specified when `value` is not empty"
    } else if count > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, &json!(""), why));
}

fn field_ref(reference: &Value, path: &Path, errors: &mut FieldErrors) {
    if text(reference, "apiVersion").is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), ""));
        return;
    }
    let at = path.child("fieldPath");
    let field = text(reference, "fieldPath");
    if field.is_empty() {
        errors.push(FieldError::required(&at, ""));
        return;
    }
    let subscript = ["metadata.annotations['", "metadata.labels['"]
        .iter()
        .any(|start| field.starts_with(start) && field.ends_with("']"));
    if subscript || FIELDS.contains(&field) {
        return;
    }
    let why = format!("error converting fieldPath: field label not supported: {field}");
    errors.push(FieldError::invalid(&at, &json!(field), why));
}

fn env_from(sources: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, source) in items(sources).iter().enumerate() {
        let at = path.index(index);
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            if !source[kind].is_null() {
                count += 1;
                subdomain(&at.child(kind).child("name"), text(&source[kind], "name"), errors);
            }
        }
        if count == 0 {
            let why = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(FieldError::invalid(&at, &json!(""), why));
        } else if count > 1 {
            let why = "may not have more than one field specified at a time";
            errors.push(FieldError::invalid(&at, &json!(""), why));
        }
    }
}

fn mounts(mounts: &Value, volumes: &[&str], path: &Path, errors: &mut FieldErrors) {
    let mut points = Vec::new();
    for (index, mount) in items(mounts).iter().enumerate() {
        let at = path.index(index);
        let name = text(mount, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        if !volumes.contains(&name) {
            let error = FieldError::new(Kind::NotFound, &at.child("name"), &json!(name), "");
            errors.push(error);
        }
        let point = text(mount, "mountPath");
        if point.is_empty() {
            errors.push(FieldError::required(&at.child("mountPath"), ""));
        }
        if points.contains(&point) {
            errors.push(FieldError::invalid(
                &at.child("mountPath"),
                &json!(point),
                "must be unique",
            ));
        }
        points.push(point);
        // The real server leaves the index out here.
        for field in ["subPath", "subPathExpr"] {
            if !text(mount, field).is_empty() {
                inner_path(text(mount, field), &path.child(field), errors);
            }
        }
    }
}

fn security(context: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["runAsUser", "runAsGroup"] {
        validate_id(&path.child(field), &context[field], errors);
    }
    validate_seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(shown_as(Kind::Invalid, path, &internal(context), why));
        }
        let added = items(&context["capabilities"]["add"]);
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(shown_as(Kind::Invalid, path, &internal(context), why));
        }
    }
}

/// The security context in the server's own form, which messages show.
fn internal(context: &Value) -> String {
    let capabilities = &context["capabilities"];
    let capabilities = if capabilities.is_null() {
        "null".to_owned()
    } else {
        format!(
            r#"{{"Add":{},"Drop":{}}}"#,
            capabilities["add"], capabilities["drop"]
        )
    };
    let mut shown = format!(r#"{{"Capabilities":{capabilities}"#);
    for (name, field) in [
        ("Privileged", "privileged"),
        ("SELinuxOptions", "seLinuxOptions"),
        ("WindowsOptions", "windowsOptions"),
        ("RunAsUser", "runAsUser"),
        ("RunAsGroup", "runAsGroup"),
        ("RunAsNonRoot", "runAsNonRoot"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("ProcMount", "procMount"),
        ("SeccompProfile", "seccompProfile"),
        ("AppArmorProfile", "appArmorProfile"),
    ] {
        let _ = write!(shown, r#","{name}":{}"#, context[field]);
    }
    shown.push('}');
    shown
}
