//! What is written of a pod's status: what differs from what the server has.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::Patch;
use serde_json::{Map, Value, json};

/// The patch that makes a pod's status this one. `None` if it is.
///
/// It is a strategic merge patch, as the kubelet's, so that conditions of others stay as they are at that moment.
pub fn patch(pod: &Pod, wanted: &PodStatus) -> Option<Patch<Value>> {
    let have = fields(pod.status.as_ref());
    let want = fields(Some(wanted));
    let mut changes = Map::new();
    for (name, value) in &want {
        let old = have.get(name).unwrap_or(&Value::Null);
        let value = match name.as_str() {
            "conditions" => changed_conditions(old, value),
            _ if old == value => None,
            // Lists with keys, of which none of the old is to stay.
            "podIPs" | "hostIPs" => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().into_iter().flatten().cloned());
                Some(Value::Array(list))
            }
            _ => Some(value.clone()),
        };
        changes.extend(value.map(|value| (name.clone(), value)));
    }
    for name in have.keys().filter(|name| !want.contains_key(*name)) {
        // What kubelets write and is no more.
        if matches!(name.as_str(), "podIP" | "podIPs") {
            changes.insert(name.clone(), Value::Null);
        }
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    (!changes.is_empty()).then(|| Patch::Strategic(json!({"metadata": {"uid": uid}, "status": changes})))
}

fn fields(status: Option<&PodStatus>) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The conditions that differ, with each field that is not there any more.
fn changed_conditions(old: &Value, new: &Value) -> Option<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let old = list(old);
    let changed = list(new).into_iter().filter_map(|mut condition| {
        let before = old.iter().find(|before| before["type"] == condition["type"]);
        if before == Some(&condition) {
            return None;
        }
        for name in ["reason", "message"] {
            if condition.get(name).is_none() {
                condition[name] = Value::Null;
            }
        }
        Some(condition)
    });
    let changed: Vec<Value> = changed.collect();
    (!changed.is_empty()).then_some(Value::Array(changed))
}

/// The fields of a spec that say who its processes are and whom its files belong to.
pub fn users(pod: &Pod) -> Vec<&'static str> {
    let spec = pod.spec.as_ref();
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    let init = spec.iter().flat_map(|spec| &spec.init_containers).flatten();
    let containers = init.chain(spec.iter().flat_map(|spec| &spec.containers));
    let own: Vec<_> = containers
        .filter_map(|container| container.security_context.as_ref())
        .collect();
    let other = |id: Option<i64>| id.is_some_and(|id| id != 0);
    let fields = [
        (
            "runAsUser",
            context.is_some_and(|context| other(context.run_as_user))
                || own.iter().any(|context| other(context.run_as_user)),
        ),
        (
            "runAsGroup",
            context.is_some_and(|context| other(context.run_as_group))
                || own.iter().any(|context| other(context.run_as_group)),
        ),
        ("fsGroup", context.is_some_and(|context| other(context.fs_group))),
        (
            "supplementalGroups",
            context.is_some_and(|context| {
                context
                    .supplemental_groups
                    .as_ref()
                    .is_some_and(|all| !all.is_empty())
            }),
        ),
    ];
    let set = fields.into_iter().filter(|(_, set)| *set);
    set.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let pod: Pod = serde_saphyr::from_str(
            "
            metadata: {uid: u}
            status:
              phase: Pending
              podIP: 10.0.0.1
              podIPs: [{ip: 10.0.0.1}]
              conditions:
              - {type: Ready, status: 'False', reason: R, message: M, lastTransitionTime: '2026-01-01T00:00:00Z'}
              - {type: other, status: 'True'}
            ",
        )
        .unwrap();
        let same = pod.status.clone().unwrap();
        assert!(patch(&pod, &same).is_none());
        let mut next = same;
        next.phase = Some("Running".to_owned());
        next.pod_ips.as_mut().unwrap()[0].ip = "10.0.0.2".to_owned();
        let conditions = next.conditions.as_mut().unwrap();
        conditions[0].status = "True".to_owned();
        conditions[0].reason = None;
        conditions[0].message = None;
        let Some(Patch::Strategic(body)) = patch(&pod, &next) else {
            panic!("no patch");
        };
        assert_eq!(
            body,
            json!({
                "metadata": {"uid": "u"},
                "status": {
                    "phase": "Running",
                    "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
                    "conditions": [{
                        "type": "Ready", "status": "True", "reason": null, "message": null,
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }],
                },
            })
        );
    }
}
