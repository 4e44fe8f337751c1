//! The roles and bindings that every cluster starts with.

use super::{Access, GROUP};
use crate::request::path::key;
use crate::server::Inner;
use crate::store::{At, Unwritten, encode};
use serde_json::{Value, json};

/// One object a line, without what all of them have. From a list of the real server's; a conformance scenario
/// compares them.
const TABLE: &str = include_str!("tables/policy.jsonl");

/// Makes what is missing, and tells the index what is there.
pub(super) fn create(inner: &Inner) -> Result<(), Unwritten> {
    let table = inner.registry.table();
    let now = json!(inner.clock.now_seconds().to_string());
    for line in TABLE.lines() {
        let Ok(mut object) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let plural = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
        let Some(served) = table.any_version(GROUP, &plural) else {
            continue;
        };
        complete(&mut object, &now);
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = key(text("namespace"), text("name"));
        // Where it is there already, what was made of it stays.
        let _ = served.shelf.put(&key, None, &encode(&object, served.form))?;
    }
    for served in table.all.iter().filter(|served| *served.resource.group == *GROUP) {
        let Access::Rbac(policy) = &inner.access else {
            return Ok(());
        };
        let items = served.shelf.list("", "", At::Now).map(|listing| listing.items);
        for (_, entry) in items.unwrap_or_default() {
            let object = entry.value();
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            policy.write().set(
                &served.resource.plural,
                text("namespace"),
                text("name"),
                Some(&object),
            );
        }
    }
    Ok(())
}

/// Adds what all of them have.
fn complete(object: &mut Value, now: &Value) {
    object["apiVersion"] = json!(format!("{GROUP}/v1"));
    let meta = &mut object["metadata"];
    meta["uid"] = json!(uuid::Uuid::new_v4().to_string());
    meta["creationTimestamp"] = now.clone();
    meta["labels"]["kubernetes.io/bootstrapping"] = json!("rbac-defaults");
    meta["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("true");
    let Some(role) = object.get_mut("roleRef") else {
        // Those that others are gathered in have none of their own, and say so.
        let fields = object.as_object_mut();
        fields.map(|fields| fields.entry("rules").or_insert(Value::Null));
        return;
    };
    role["apiGroup"] = json!(GROUP);
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        if subject["kind"] != "ServiceAccount" {
            subject["apiGroup"] = json!(GROUP);
        }
    }
}
