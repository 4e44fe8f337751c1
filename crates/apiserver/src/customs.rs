//! Custom resource definitions at work: what is served because of them, and what goes with them.
//!
//! The real server leaves this to controllers inside it. Here it is done in the wake of the write that calls for it,
//! as the same updates one by one, so that a client that was answered finds it done.

use crate::crd;
use crate::metadata::rules;
use crate::registry::Served;
use crate::resource::Resource;
use crate::server::Inner;
use crate::store::{At, Changed, Entry, encode};
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// Whether these are the definitions themselves.
pub(crate) fn is_definition(resource: &Resource) -> bool {
    are_definitions(&resource.group, &resource.plural)
}

/// Whether the definitions are what is called this.
pub(crate) fn are_definitions(group: &str, plural: &str) -> bool {
    group == GROUP && plural == PLURAL
}

fn definitions(inner: &Inner) -> Option<Arc<Served>> {
    inner.registry.table().find(GROUP, "v1", PLURAL).cloned()
}

fn group_and_plural(definition: &Value) -> (&str, &str) {
    (
        definition["spec"]["group"].as_str().unwrap_or_default(),
        definition["spec"]["names"]["plural"].as_str().unwrap_or_default(),
    )
}

/// Does what follows from a definition that was written or removed.
pub(crate) fn settle(inner: &Arc<Inner>, definition: &Value, removed: bool) {
    let (group, plural) = group_and_plural(definition);
    if removed {
        withdraw(inner, group, plural);
    }
    let Some(served) = definitions(inner) else { return };
    let own = rules::text(definition, "name");
    if !removed {
        advance(inner, &served, own);
    }
    // Names that were taken may be free now, and the other way round.
    for (key, entry) in all(&served) {
        if &*key != own && entry.value()["spec"]["group"] == group {
            advance(inner, &served, &key);
        }
    }
}

fn all(served: &Served) -> Vec<(Arc<str>, Arc<Entry>)> {
    served
        .shelf
        .list("", "", At::Now)
        .map(|listing| listing.items)
        .unwrap_or_default()
}

/// Serves what the definitions define that an earlier server left, before its objects are put back.
pub(crate) fn publish_all(inner: &Inner) {
    for (_, entry) in definitions(inner).iter().flat_map(|served| all(served)) {
        publish(inner, &entry.value());
    }
}

/// Goes on with the definitions that an earlier server left.
pub(crate) fn resume(inner: &Arc<Inner>) {
    let Some(served) = definitions(inner) else { return };
    for (name, _) in all(&served) {
        advance(inner, &served, &name);
    }
}

/// Takes the steps that a definition has before it, one update each.
fn advance(inner: &Arc<Inner>, served: &Served, name: &str) {
    while let Some(entry) = served.shelf.get(name) {
        let definition = entry.value();
        publish(inner, &definition);
        if clean(inner, served, &entry, &definition) {
            continue;
        }
        let everything: Vec<Value> = all(served).iter().map(|(_, entry)| entry.value()).collect();
        let Some(next) = crd::next_status(&definition, &everything, &inner.clock) else {
            return;
        };
        let draft = encode(&next, served.form);
        if draft.same(&entry) {
            return;
        }
        // Where somebody came between, the next round sees what they wrote; what could not be written is tried again
        // with the next write.
        if served.shelf.put(name, Some(entry.version), &draft).is_err() {
            return;
        }
    }
}

/// Serves what an established definition defines.
fn publish(inner: &Inner, definition: &Value) {
    let (group, plural) = group_and_plural(definition);
    if !crd::is_established(definition) {
        return;
    }
    let table = inner.registry.table();
    let current = table.any_version(group, plural);
    let same = current
        .and_then(|served| served.resource.custom.as_ref())
        .is_some_and(|custom| {
            custom.definition["spec"] == definition["spec"]
                && custom.definition["status"]["acceptedNames"] == definition["status"]["acceptedNames"]
                && rules::text(&custom.definition, "uid") == rules::text(definition, "uid")
        });
    if !same {
        let resources = crd::resources_of(definition);
        inner.registry.replace(&inner.store, group, plural, resources);
    }
}

fn withdraw(inner: &Inner, group: &str, plural: &str) {
    let shelf = inner.store.shelf(&group.into(), &plural.into());
    inner.registry.replace(&inner.store, group, plural, Vec::new());
    shelf.drop_watchers();
}

/// Deletes the objects of a definition that is on its way out; whether that changed the definition.
fn clean(inner: &Arc<Inner>, served: &Served, entry: &Entry, definition: &Value) -> bool {
    if !rules::is_deleting(definition) || !rules::finalizers(definition).contains(&crd::FINALIZER) {
        return false;
    }
    let (group, plural) = group_and_plural(definition);
    let mut next = definition.clone();
    let table = inner.registry.table();
    if let Some(custom) = table.any_version(group, plural) {
        for (key, _) in all(custom) {
            crate::handlers::delete_for_good(inner, custom, &key);
        }
        if custom.shelf.any("") {
            crd::deletion_in_progress(&mut next, &inner.clock);
            let draft = encode(&next, served.form);
            return !draft.same(entry)
                && matches!(
                    served
                        .shelf
                        .put(rules::text(definition, "name"), Some(entry.version), &draft),
                    Ok(Ok(_))
                );
        }
    }
    crd::finish_deletion(&mut next, &inner.clock);
    let name = rules::text(definition, "name");
    let draft = encode(&next, served.form);
    let stored = match served.shelf.put(name, Some(entry.version), &draft) {
        Ok(Ok(stored)) => stored,
        Ok(Err(Changed)) => return true,
        Err(_) => return false,
    };
    if rules::finalizers(&next).is_empty()
        && let Ok(Ok(_)) = served.shelf.remove(name, stored.version, &draft)
    {
        settle(inner, definition, true);
    }
    true
}

/// Whether objects may no longer be made because their definition is on its way out.
pub(crate) fn is_terminating(inner: &Inner, resource: &Resource) -> bool {
    let Some(served) = resource.custom.as_ref().and(definitions(inner)) else {
        return false;
    };
    let name = format!("{}.{}", resource.plural, resource.group);
    served
        .shelf
        .get(&name)
        .is_some_and(|entry| entry.contains("deletionTimestamp") && rules::is_deleting(&entry.value()))
}

/// Looks after a definition whose object is gone.
pub(crate) fn object_gone(inner: &Arc<Inner>, resource: &Resource) {
    if is_terminating(inner, resource)
        && let Some(served) = definitions(inner)
    {
        advance(inner, &served, &format!("{}.{}", resource.plural, resource.group));
    }
}

/// Marks a definition for its end.
pub(crate) fn begin_deletion(definition: &mut Value, inner: &Inner) {
    crd::begin_deletion(definition, &inner.clock);
}
