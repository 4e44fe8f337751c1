//! What the real server's default admission plugins do to a new pod: a service account and its token
//! (`ServiceAccount`), a priority (`Priority`), tolerations of nodes that are lost for a short time
//! (`DefaultTolerationSeconds`).

use super::check::{items, text};
use crate::resource::Surroundings;
use crate::status::{ApiError, ApiResult};
use rand::Rng as _;
use serde_json::{Value, json};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME: &str = "kube-api-access-";
/// The characters of generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Classes that every cluster has, with their priorities.
const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

fn forbidden(pod: &Value, why: &str) -> ApiError {
    ApiError::forbidden("", "pods", text(&pod["metadata"], "name"), why)
}

pub(super) fn admit_new(pod: &mut Value, around: &dyn Surroundings) -> ApiResult<()> {
    service_account(pod, around)?;
    tolerations(pod);
    priority(pod, around)
}

fn service_account(pod: &mut Value, around: &dyn Surroundings) -> ApiResult<()> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        if !text(&pod["spec"], "serviceAccountName").is_empty() {
            return Err(forbidden(pod, "a mirror pod may not reference service accounts"));
        }
        return Ok(());
    }
    if text(&pod["spec"], "serviceAccountName").is_empty() {
        pod["spec"]["serviceAccountName"] = json!("default");
    }
    let name = text(&pod["spec"], "serviceAccountName").to_owned();
    let namespace = text(&pod["metadata"], "namespace").to_owned();
    let Some(account) = around.get("", "serviceaccounts", &namespace, &name) else {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(forbidden(pod, &why));
    };
    let wanted = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account["automountServiceAccountToken"].as_bool());
    if wanted.unwrap_or(true) {
        mount_token(pod);
    }
    if items(&pod["spec"]["imagePullSecrets"]).is_empty() && !items(&account["imagePullSecrets"]).is_empty() {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let there = items(&pod["spec"]["volumes"])
        .iter()
        .map(|volume| text(volume, "name"))
        .find(|name| name.starts_with(TOKEN_VOLUME))
        .map(str::to_owned);
    let is_new = there.is_none();
    let name = there.unwrap_or_else(|| {
        let mut random = rand::rng();
        let suffix = (0..5).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]));
        TOKEN_VOLUME.chars().chain(suffix).collect()
    });
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            if items(&container["volumeMounts"])
                .iter()
                .any(|mount| mount["mountPath"] == TOKEN_PATH)
            {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH});
            append(&mut container["volumeMounts"], mount);
            mounted = true;
        }
    }
    if is_new && mounted {
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
            ]}},
        ]);
        let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": sources}});
        append(&mut pod["spec"]["volumes"], volume);
    }
}

fn append(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

/// Every pod stays for five minutes on a node that is not ready or not to be reached, unless it says otherwise.
pub(super) fn tolerations(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = items(&pod["spec"]["tolerations"]).iter().any(|toleration| {
            ["", key].contains(&text(toleration, "key"))
                && ["", "NoExecute"].contains(&text(toleration, "effect"))
        });
        if !tolerated {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            append(&mut pod["spec"]["tolerations"], toleration);
        }
    }
}

/// The name, priority and preemption policy that the pod's class gives.
fn class_of(pod: &Value, around: &dyn Surroundings) -> ApiResult<(String, i64, String)> {
    let parts = |class: &Value| {
        let policy = class["preemptionPolicy"]
            .as_str()
            .unwrap_or("PreemptLowerPriority");
        let name = text(&class["metadata"], "name").to_owned();
        (name, class["value"].as_i64().unwrap_or(0), policy.to_owned())
    };
    let name = text(&pod["spec"], "priorityClassName");
    if name.is_empty() {
        let classes = around.list("scheduling.k8s.io", "priorityclasses", "");
        let default = classes
            .iter()
            .filter(|class| class["globalDefault"] == true)
            .min_by_key(|class| class["value"].as_i64());
        return Ok(default.map_or_else(|| (String::new(), 0, "PreemptLowerPriority".to_owned()), parts));
    }
    if let Some(class) = around.get("scheduling.k8s.io", "priorityclasses", "", name) {
        return Ok(parts(&class));
    }
    let system = SYSTEM_CLASSES.iter().find(|(class, _)| *class == name);
    system
        .map(|(name, value)| ((*name).to_owned(), *value, "PreemptLowerPriority".to_owned()))
        .ok_or_else(|| forbidden(pod, &format!("no PriorityClass with name {name} was found")))
}

fn priority(pod: &mut Value, around: &dyn Surroundings) -> ApiResult<()> {
    let (name, priority, policy) = class_of(pod, around)?;
    if let Some(given) = pod["spec"]["priority"].as_i64()
        && given != priority
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(forbidden(pod, &why));
    }
    let given = text(&pod["spec"], "preemptionPolicy");
    if !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(pod, &why));
    }
    if !name.is_empty() {
        pod["spec"]["priorityClassName"] = name.into();
    }
    pod["spec"]["priority"] = priority.into();
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}
