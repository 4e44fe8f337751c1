//! The tree of objects, from those that were applied down to the pods: pure, objects in, rows out.

use super::readiness::{State, group, state};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// An object that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub group: String,
    pub kind: String,
    /// Does not count for kinds of the cluster.
    pub namespace: String,
    pub name: String,
}

/// One row of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Empty for what is not there.
    pub uid: String,
    /// The lines that join it to its owner, as `│ └─`.
    pub branch: String,
    /// As `Deployment/example-scheduler`.
    pub name: String,
    /// Its namespace; empty for kinds of the cluster.
    pub namespace: String,
    pub state: State,
    /// What the state leaves unsaid, as `3/3` or an address.
    pub detail: String,
    /// Since it was created, as `12s`.
    pub age: String,
}

/// Kinds that only stand between an owner and what it owns.
const BETWEEN: &[&str] = &["ReplicaSet"];

/// The rows of `roots` and of everything that they own, directly or not, in the order of the roots and then of kind and
/// name. Roots that another root owns are shown under it only; those that are not there come last, as waited for.
pub fn rows(roots: &[Root], objects: &[Value], now: Timestamp) -> Vec<Row> {
    let mut by_owner: HashMap<&str, Vec<&Value>> = HashMap::new();
    for object in objects {
        let owners = object["metadata"]["ownerReferences"].as_array();
        let controller = owners.and_then(|owners| {
            owners
                .iter()
                .find(|owner| owner["controller"] == true)
                .or_else(|| owners.first())
        });
        if let Some(uid) = controller.and_then(|owner| owner["uid"].as_str()) {
            by_owner.entry(uid).or_default().push(object);
        }
    }
    for owned in by_owner.values_mut() {
        owned.sort_by_key(|object| (text(object, "/kind"), text(object, "/metadata/name")));
    }
    let mut tree = Tree {
        by_owner,
        now,
        seen: HashSet::new(),
        rows: Vec::new(),
    };
    let found: Vec<&Value> = roots.iter().filter_map(|root| find(objects, root)).collect();
    let uids: HashSet<&str> = objects
        .iter()
        .map(|object| text(object, "/metadata/uid"))
        .collect();
    // Owned roots wait: they appear below their owner, or in a second round if nothing led to them.
    let (owned, top): (Vec<&Value>, Vec<&Value>) = found.into_iter().partition(|object| {
        let owners = object["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| {
            owners
                .iter()
                .any(|owner| owner["uid"].as_str().is_some_and(|uid| uids.contains(uid)))
        })
    });
    for object in top.into_iter().chain(owned) {
        tree.add(object, String::new(), "");
    }
    let missing = roots.iter().filter(|root| find(objects, root).is_none());
    tree.rows.extend(missing.map(|root| Row {
        uid: String::new(),
        branch: String::new(),
        name: format!("{}/{}", root.kind, root.name),
        namespace: root.namespace.clone(),
        state: State::Waiting("is not there".to_owned()),
        detail: String::new(),
        age: String::new(),
    }));
    tree.rows
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn find<'a>(objects: &'a [Value], root: &Root) -> Option<&'a Value> {
    objects.iter().find(|object| {
        group(object) == root.group
            && text(object, "/kind") == root.kind
            && text(object, "/metadata/name") == root.name
            && [root.namespace.as_str(), ""].contains(&text(object, "/metadata/namespace"))
    })
}

struct Tree<'a> {
    by_owner: HashMap<&'a str, Vec<&'a Value>>,
    now: Timestamp,
    seen: HashSet<&'a str>,
    rows: Vec<Row>,
}

impl<'a> Tree<'a> {
    /// Adds an object with the branch that leads to it, and all below it. `below` leads on past it.
    fn add(&mut self, object: &'a Value, branch: String, below: &str) {
        if !self.seen.insert(text(object, "/metadata/uid")) {
            return;
        }
        self.rows.push(Row {
            uid: text(object, "/metadata/uid").to_owned(),
            branch,
            name: format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name")),
            namespace: text(object, "/metadata/namespace").to_owned(),
            state: state(object),
            detail: detail(object),
            age: age(object, self.now),
        });
        let children = self.children(object);
        for (index, child) in children.iter().enumerate() {
            let last = index + 1 == children.len();
            let (corner, line) = if last {
                ("└─", "  ")
            } else {
                ("├─", "│ ")
            };
            self.add(child, format!("{below}{corner}"), &format!("{below}{line}"));
        }
    }

    /// What an object owns, with what only stands between left out.
    fn children(&self, object: &Value) -> Vec<&'a Value> {
        let owned = self
            .by_owner
            .get(text(object, "/metadata/uid"))
            .cloned()
            .unwrap_or_default();
        let through = |child: &'a Value| {
            if BETWEEN.contains(&text(child, "/kind")) {
                self.children(child)
            } else {
                vec![child]
            }
        };
        owned.into_iter().flat_map(through).collect()
    }
}

fn detail(object: &Value) -> String {
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    match text(object, "/kind") {
        "HostedControlPlane" => format!(
            "{}, {}/{} API servers",
            text(object, "/spec/version"),
            count("/status/readyReplicas"),
            count("/spec/replicas")
        ),
        "Deployment" | "StatefulSet" => {
            format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas"))
        }
        "Service" => match text(object, "/status/loadBalancer/ingress/0/ip") {
            "" => text(object, "/spec/clusterIP").to_owned(),
            address => address.to_owned(),
        },
        "Pod" | "PersistentVolumeClaim" => text(object, "/status/phase").to_owned(),
        "Cluster" => {
            let endpoint = &object["spec"]["controlPlaneEndpoint"];
            match endpoint["host"].as_str() {
                Some(host) if !host.is_empty() => format!("{host}:{}", endpoint["port"]),
                _ => String::new(),
            }
        }
        _ => String::new(),
    }
}

/// As kubectl writes ages: the two largest units.
fn age(object: &Value, now: Timestamp) -> String {
    let Ok(created) = text(object, "/metadata/creationTimestamp").parse::<Timestamp>() else {
        return String::new();
    };
    let seconds = now.duration_since(created).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, name: &str, owner: Option<&str>) -> Value {
        let owners = owner
            .map(|uid| json!([{"uid": uid, "controller": true}]))
            .unwrap_or_default();
        json!({"kind": kind, "metadata": {"name": name, "namespace": "default", "uid": format!("{kind}-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": owners}})
    }

    fn shown(roots: &[(&str, &str)], objects: &[Value]) -> Vec<String> {
        let roots: Vec<_> = roots
            .iter()
            .map(|(kind, name)| Root {
                group: String::new(),
                kind: (*kind).to_owned(),
                namespace: "default".to_owned(),
                name: (*name).to_owned(),
            })
            .collect();
        let rows = rows(&roots, objects, "2026-01-01T00:02:05Z".parse().unwrap());
        rows.iter()
            .map(|row| format!("{}{} {}", row.branch, row.name, row.age))
            .collect()
    }

    #[test]
    fn owners_lead_to_what_they_own_past_what_stands_between() {
        let objects = [
            object("Pod", "p", Some("ReplicaSet-r")),
            object("ReplicaSet", "r", Some("Deployment-d")),
            object("Secret", "s", Some("HostedControlPlane-h")),
            object("Deployment", "d", Some("HostedControlPlane-h")),
            object("HostedControlPlane", "h", Some("Cluster-c")),
            object("Cluster", "c", None),
            object("Secret", "foreign", None),
        ];
        assert_eq!(
            shown(&[("HostedControlPlane", "h"), ("Cluster", "c")], &objects),
            [
                "Cluster/c 2m5s",
                "└─HostedControlPlane/h 2m5s",
                "  ├─Deployment/d 2m5s",
                "  │ └─Pod/p 2m5s",
                "  └─Secret/s 2m5s"
            ]
        );
    }

    #[test]
    fn a_root_that_is_not_there_is_waited_for() {
        let mut foreign = object("Pod", "p", None);
        foreign["apiVersion"] = "example.com/v1".into();
        assert_eq!(shown(&[("Pod", "p")], &[foreign]), ["Pod/p "]);
        let root = Root {
            group: String::new(),
            kind: "Pod".to_owned(),
            namespace: "default".to_owned(),
            name: "p".to_owned(),
        };
        let rows = rows(&[root], &[], Timestamp::UNIX_EPOCH);
        assert_eq!(rows[0].state, State::Waiting("is not there".to_owned()));
    }

    #[test]
    fn a_ring_of_owners_ends() {
        let objects = [object("A", "a", Some("B-b")), object("B", "b", Some("A-a"))];
        assert_eq!(shown(&[("A", "a")], &objects).len(), 2);
    }
}
