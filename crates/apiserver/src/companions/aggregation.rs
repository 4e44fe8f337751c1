//! `ClusterRoles` that are gathered of others: `admin`, `edit`, `view`, and whichever say so.

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Error};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const MANAGER: &str = "clusterrole-aggregation-controller";
const RETRY: Duration = Duration::from_secs(1);

/// Roles by their names, whose order is that of their rules.
type Roles = BTreeMap<String, ClusterRole>;

/// Sees to `ClusterRoles` until it is dropped.
pub(super) async fn run(client: Client) {
    let all: Api<ClusterRole> = Api::all(client);
    let mut events = Box::pin(watcher(all.clone(), watcher::Config::default()).default_backoff());
    let mut roles = Roles::new();
    let mut listed = false;
    let mut failed = false;
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(event)) => learn(&mut roles, &mut listed, event),
                Some(Err(error)) => tracing::debug!(%error, "failed to watch cluster roles"),
                None => return,
            },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        if listed {
            let written = gather(&all, &roles).await;
            failed = written.is_err();
            if let Err(error) = written {
                tracing::debug!(%error, "failed to gather the rules of a cluster role");
            }
        }
    }
}

fn learn(roles: &mut Roles, listed: &mut bool, event: watcher::Event<ClusterRole>) {
    let name = |role: &ClusterRole| role.metadata.name.clone().unwrap_or_default();
    match event {
        watcher::Event::Init => {
            roles.clear();
            *listed = false;
        }
        watcher::Event::InitDone => *listed = true,
        watcher::Event::InitApply(role) | watcher::Event::Apply(role) => {
            roles.insert(name(&role), role);
        }
        watcher::Event::Delete(role) => {
            roles.remove(&name(&role));
        }
    }
}

/// Writes what is not as it should be.
async fn gather(all: &Api<ClusterRole>, roles: &Roles) -> Result<(), Error> {
    for (name, whole) in roles {
        let Some(union) = wanted(name, whole, roles) else {
            continue;
        };
        if union == whole.rules.clone().unwrap_or_default() {
            continue;
        }
        let mut patch = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
        });
        // No rules are not said, as in the real controller: those of others stay.
        if !union.is_empty() {
            patch["rules"] = json!(union);
        }
        all.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch))
            .await?;
    }
    Ok(())
}

/// The rules of all roles that a role selects, each once; none for a role that selects none.
fn wanted(name: &str, whole: &ClusterRole, roles: &Roles) -> Option<Vec<PolicyRule>> {
    let aggregation = whole.aggregation_rule.as_ref()?;
    let mut union: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let selector = read(selector)?;
        for (other, from) in roles {
            let labels = from.metadata.labels.clone().unwrap_or_default();
            if other == name || !selector.matches(&labels) {
                continue;
            }
            for rule in from.rules.iter().flatten() {
                if !union.contains(rule) {
                    union.push(rule.clone());
                }
            }
        }
    }
    Some(union)
}

/// A selector, where it is one.
fn read(selector: &LabelSelector) -> Option<Selector> {
    selector.clone().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn roles(list: &[(&str, Value)]) -> Roles {
        let read = |(name, fields): &(&str, Value)| {
            let mut object = json!({"metadata": {"name": name}});
            object
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            if let Some(label) = fields.get("label") {
                object["metadata"]["labels"] = json!({"to": label});
            }
            ((*name).to_owned(), serde_json::from_value(object).unwrap())
        };
        list.iter().map(read).collect()
    }

    fn rule(resource: &str) -> Value {
        json!([{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}])
    }

    fn gathered(selectors: &Value, others: &[(&str, Value)]) -> Option<Vec<String>> {
        let mut list = others.to_vec();
        list.push(("whole", json!({"aggregationRule": {"clusterRoleSelectors": selectors}, "label": "whole", "rules": rule("old")})));
        let roles = roles(&list);
        let union = wanted("whole", &roles["whole"], &roles)?;
        Some(
            union
                .iter()
                .map(|rule| rule.resources.clone().unwrap().concat())
                .collect(),
        )
    }

    #[test]
    fn rules_come_by_selector_and_name_and_once() {
        let others = [
            ("b", json!({"label": "whole", "rules": rule("pods")})),
            ("a", json!({"label": "whole", "rules": rule("secrets")})),
            ("c", json!({"label": "whole", "rules": rule("pods")})),
            ("d", json!({"label": "other", "rules": rule("nodes")})),
        ];
        let whole = json!({"matchLabels": {"to": "whole"}});
        let other = json!({"matchExpressions": [{"key": "to", "operator": "In", "values": ["other"]}]});
        let text = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(gathered(&json!([whole]), &others), text(&["secrets", "pods"]));
        assert_eq!(
            gathered(&json!([other, whole]), &others),
            text(&["nodes", "secrets", "pods"])
        );
        assert_eq!(gathered(&json!([other]), &[]), text(&[]));
        let wrong = json!({"matchExpressions": [{"key": "to", "operator": "Like"}]});
        assert_eq!(gathered(&json!([wrong]), &others), None);
    }
}
