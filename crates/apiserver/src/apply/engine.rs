//! Applying a configuration.

use super::compare::{self, Difference};
use super::conflict::{self, Conflict};
use super::element::same_value;
use super::managed::{self, Entry, Operation, Who};
use super::shape::Place;
use super::{Target, field_set, last_applied, merge, prune, reconcile, reset, typed, update, zero};
use crate::schema::SchemaRef;
use crate::status::{ApiError, ApiResult};
use http::StatusCode;
use serde_json::Value;

/// Applies `config` to an object in the name of `manager` and gives the object that results, its managed fields
/// included.
///
/// `live` is the object as it is stored (in the version of the request), or none where there is none yet. The
/// result has neither been defaulted nor validated. A null is left where a map or list has lost its last item.
///
/// # Errors
/// 409 when fields of other managers would change and `force` is not given; 400 for a configuration of another
/// kind or with managed fields; 500 (as the real server has it) for one that does not fit the schema.
pub fn apply(
    target: &Target<'_>,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
) -> ApiResult<Value> {
    let manager = if manager.is_empty() { "unknown" } else { manager };
    check_type(target, config)?;
    let place = target.place();
    let versions = Versioned::of(target, live.and_then(managed_fields));
    let stored = managed::decode(live.and_then(managed_fields))
        .map_err(|error| plain(format!("failed to decode managed fields: {error}")))?;
    let untracked = stored.is_empty();
    let entries = versions.reconciled(target, stored);
    let live_error = live.and_then(|live| Some((live, typed::check(place, live, true).err()?)));
    if let (true, Some((live, errors))) = (untracked, &live_error) {
        return Err(plain(format!(
            "failed to create manager for existing fields: failed to convert new object ({}) to smd typed: {}",
            named(live),
            errors.text()
        )));
    }
    check_config(place, config)?;
    if let Some((live, errors)) = live_error {
        return Err(plain(format!(
            "failed to create typed live object ({}): {}",
            named(live),
            errors.text()
        )));
    }
    let zero = if untracked {
        zero::object(target)
    } else {
        Value::Null
    };
    let request = Request {
        target,
        live,
        config,
        manager,
        versions: &versions,
        untracked,
        zero: &zero,
    };
    let outcome = match request.run(entries.clone(), force) {
        Err(conflicts) if manager == last_applied::MANAGER => {
            let left = match live {
                Some(live) => last_applied::without_allowed(target, live, conflicts),
                None => conflicts,
            };
            if left.is_empty() {
                request.run(entries, true)
            } else {
                Err(left)
            }
        }
        outcome => outcome,
    };
    let mut object = outcome.map_err(conflict::refusal)?;
    if manager == last_applied::MANAGER {
        last_applied::renew(&mut object, config);
    }
    Ok(object)
}

/// 500 without a reason: what the real server makes of errors that it did not foresee.
fn plain(message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
}

fn check_type(target: &Target<'_>, config: &Value) -> ApiResult<()> {
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") == target.api_version && text("kind") == target.kind {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "invalid object type: {}",
        type_name(text("apiVersion"), text("kind"))
    )))
}

fn check_config(place: Place<'_>, config: &Value) -> ApiResult<()> {
    let managed = config
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"));
    if managed.is_some_and(|managed| !managed.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    typed::check(place, config, false).map_err(|errors| {
        plain(format!(
            "failed to create typed patch object ({}): {}",
            named(config),
            errors.text()
        ))
    })
}

/// `NAMESPACE/NAME; GROUP/VERSION, Kind=KIND`, as messages name an object.
fn named(object: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = object.get("metadata");
    format!(
        "{}/{}; {}",
        text(metadata.and_then(|m| m.get("namespace"))),
        text(metadata.and_then(|m| m.get("name"))),
        type_name(&text(object.get("apiVersion")), &text(object.get("kind")))
    )
}

fn type_name(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// The schemas of the other versions that an object's entries were written in.
pub(super) struct Versioned {
    others: Vec<(String, SchemaRef)>,
}

impl Versioned {
    pub(super) fn of(target: &Target<'_>, managed_fields: Option<&Value>) -> Self {
        let mut others: Vec<(String, SchemaRef)> = Vec::new();
        for entry in managed_fields.and_then(Value::as_array).into_iter().flatten() {
            let Some(version) = entry.get("apiVersion").and_then(Value::as_str) else {
                continue;
            };
            if version != target.api_version && !others.iter().any(|(known, _)| known == version) {
                others.extend(
                    target
                        .versions
                        .schema(version)
                        .map(|schema| (version.to_owned(), schema)),
                );
            }
        }
        Self { others }
    }

    /// The root of an object in a version, or none where the version is not served.
    pub(super) fn place<'s>(&'s self, target: &'s Target<'_>, version: &str) -> Option<Place<'s>> {
        if version == target.api_version {
            return Some(target.place());
        }
        let (_, schema) = self.others.iter().find(|(known, _)| known == version)?;
        Some(Place::root(schema, target.custom))
    }

    /// The entries of served versions, each as the schema is now.
    pub(super) fn reconciled<'a>(&self, target: &Target<'_>, mut entries: Vec<Entry<'a>>) -> Vec<Entry<'a>> {
        entries.retain_mut(|entry| {
            let Some(place) = self.place(target, entry.who.api_version) else {
                return false;
            };
            if let Some(set) = reconcile::reconcile(place, &entry.set) {
                entry.put(set);
            }
            true
        });
        entries
    }
}

/// `metadata.managedFields`.
pub(super) fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// The differences between two states, by the version they are looked at in.
pub(super) struct Differences<'a> {
    versions: &'a Versioned,
    target: &'a Target<'a>,
    old: &'a Value,
    new: &'a Value,
    known: Vec<(String, Difference<'a>)>,
}

impl<'a> Differences<'a> {
    pub(super) fn new(
        versions: &'a Versioned,
        target: &'a Target<'a>,
        old: &'a Value,
        new: &'a Value,
    ) -> Self {
        Self {
            versions,
            target,
            old,
            new,
            known: Vec::new(),
        }
    }

    /// What differs in this version, but for fields that the request can't set; none for a version not served.
    pub(super) fn get(&mut self, version: &str) -> Option<&Difference<'a>> {
        let known = self.known.iter().position(|(known, _)| known == version);
        let at = if let Some(at) = known {
            at
        } else {
            let place = self.versions.place(self.target, version)?;
            let mut difference = compare::compare(place, self.old, self.new);
            difference.changed = reset::without(self.target.reset, difference.changed);
            difference.removed = reset::without(self.target.reset, difference.removed);
            self.known.push((version.to_owned(), difference));
            self.known.len() - 1
        };
        self.known.get(at).map(|(_, difference)| difference)
    }
}

struct Request<'a> {
    target: &'a Target<'a>,
    live: Option<&'a Value>,
    config: &'a Value,
    manager: &'a str,
    versions: &'a Versioned,
    /// Nobody is on record for any field.
    untracked: bool,
    /// The object before its first field was set, where it is untracked.
    zero: &'a Value,
}

impl<'a> Request<'a> {
    fn run(&self, mut entries: Vec<Entry<'a>>, force: bool) -> Result<Value, Vec<Conflict<'a>>> {
        let target = self.target;
        let live = self.live.unwrap_or(self.zero);
        let who = Who {
            manager: self.manager,
            operation: Operation::Apply,
            api_version: target.api_version,
            subresource: target.subresource,
        };
        if self.untracked && self.live.is_some() {
            // What was there before anybody was tracked has an owner too.
            let first = Who {
                manager: "before-first-apply",
                operation: Operation::Update,
                ..who
            };
            let changed = compare::compare(target.place(), self.zero, live).changed;
            let set = reset::stripped(&reset::without(target.reset, changed));
            if !set.is_empty() {
                let mut entry = Entry::new(first, set);
                entry.time = Some(managed::time_text(target.now).into());
                entries.push(entry);
            }
        }
        let given = reset::without(target.reset, field_set::of(target.place(), self.config));
        let last = entries
            .iter()
            .position(|entry| entry.who.is(&who))
            .map(|at| entries.swap_remove(at));

        let mut object = match self.live {
            Some(live) => {
                let mut object = without_managed_fields(live);
                merge::merge(target.place(), &mut object, self.config);
                object
            }
            None => self.config.clone(),
        };
        if let Some(last) = &last
            && (last.who.api_version != target.api_version || !last.set.is_subset(&given))
        {
            object = prune::prune(target, self.versions, object, &entries, &given, last);
        }

        let changed = self.live.is_none_or(|live| !same_object(live, &object));
        let mut all = Vec::with_capacity(entries.len() + 1);
        {
            let mut differences = Differences::new(self.versions, target, live, &object);
            let conflicts = take(&mut entries, &mut differences, force);
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        all.append(&mut entries);
        let set = reset::stripped(&given);
        if !set.is_empty() {
            let mut entry = match last {
                // The stored form stands where the same fields are applied again.
                Some(last) if last.set == set && last.who.api_version == who.api_version => last,
                Some(mut last) => {
                    last.who = who;
                    last.put(set);
                    last
                }
                None => Entry::new(who, set),
            };
            if changed {
                entry.time = Some(managed::time_text(target.now).into());
            }
            all.push(entry);
        }
        let encoded = managed::encode(all);
        managed::put(&mut object, encoded);
        Ok(object)
    }
}

/// Takes what differs from its managers. Without `force`, gives the conflicts instead if there are any.
fn take<'a>(
    entries: &mut Vec<Entry<'a>>,
    differences: &mut Differences<'_>,
    force: bool,
) -> Vec<Conflict<'a>> {
    let mut conflicts = Vec::new();
    entries.retain_mut(|entry| {
        let Some(difference) = differences.get(entry.who.api_version) else {
            return false;
        };
        if !force && entry.set.intersects(&difference.changed) {
            conflicts.push(Conflict {
                who: entry.who,
                fields: entry.set.intersection(&difference.changed),
            });
            return true;
        }
        update::lose(entry, difference);
        !entry.set.is_empty()
    });
    conflicts
}

/// The object without `metadata.managedFields`, which is not copied.
fn without_managed_fields(object: &Value) -> Value {
    let Value::Object(fields) = object else {
        return object.clone();
    };
    fields
        .iter()
        .map(|(name, value)| match value {
            Value::Object(metadata) if name == "metadata" => {
                let kept = metadata.iter().filter(|(name, _)| *name != "managedFields");
                let kept = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
                (name.clone(), Value::Object(kept))
            }
            value => (name.clone(), value.clone()),
        })
        .collect()
}

/// Whether two states are the same but for `metadata.managedFields`.
fn same_object(old: &Value, new: &Value) -> bool {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return old == new;
    };
    old.len() == new.len()
        && old.iter().zip(new).all(|((old_name, old), (new_name, new))| {
            old_name == new_name
                && match (old, new) {
                    (Value::Object(old), Value::Object(new)) if old_name == "metadata" => {
                        let rest = |(name, _): &(&String, &Value)| *name != "managedFields";
                        old.iter().filter(rest).count() == new.iter().filter(rest).count()
                            && old
                                .iter()
                                .filter(rest)
                                .zip(new.iter().filter(rest))
                                .all(|((a, x), (b, y))| a == b && same_value(x, y))
                    }
                    (old, new) => same_value(old, new),
                }
        })
}
