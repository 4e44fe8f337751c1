//! The move from kubectl's client-side apply to server-side apply.
//!
//! Client-side apply keeps its last configuration in an annotation. When `kubectl` then applies on the server,
//! fields that still are as that configuration has them are its own, whoever is on record for them; and the
//! annotation is kept up to date, so that the way back is open.

use super::conflict::Conflict;
use super::set::Set;
use super::{Target, compare, field_set, typed};
use serde_json::Value;

/// The one manager that this is done for.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The most bytes that an object's annotations may have.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// The conflicts that are left when those in fields of the last client-side configuration are allowed.
pub(super) fn without_allowed<'a>(
    target: &Target<'_>,
    live: &Value,
    conflicts: Vec<Conflict<'a>>,
) -> Vec<Conflict<'a>> {
    let Some(last) = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return conflicts;
    };
    let place = target.place();
    let same_version = last.get("apiVersion").and_then(Value::as_str) == Some(target.api_version);
    if !same_version
        || typed::check(place, &last, false).is_err()
        || typed::check(place, live, false).is_err()
    {
        return conflicts;
    }
    let difference = compare::compare(place, &last, live);
    let allowed: Set<'_> = field_set::of(place, &last)
        .difference(&difference.changed)
        .difference(&difference.removed);
    conflicts
        .into_iter()
        .map(|conflict| Conflict {
            fields: conflict.fields.difference(&allowed),
            ..conflict
        })
        .filter(|conflict| !conflict.fields.is_empty())
        .collect()
}

/// Puts `config` into the annotation of an object that has it.
pub(super) fn renew(object: &mut Value, config: &Value) {
    if annotation(object).is_none_or(str::is_empty) {
        return;
    }
    let text = last_applied_text(config);
    let Some(annotations) = object
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(text));
    let bytes: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > MOST_ANNOTATION_BYTES {
        annotations.remove(ANNOTATION);
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(ANNOTATION)?
        .as_str()
}

/// The configuration without the annotation, as kubectl would write it: one line, with HTML's characters escaped.
fn last_applied_text(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
    }
    let mut text = config
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    text.push('\n');
    text
}
