//! The warning that requests to a deprecated version of a custom resource get.

use super::paths::{flag, list, text};
use crate::resource::Resource;
use std::cmp::Ordering;

/// The warning for this version, if it is deprecated: the CRD's own text, or the version to use instead.
pub fn deprecation(resource: &Resource) -> Option<String> {
    let custom = resource.custom.as_ref()?;
    if !flag(&custom.version, "deprecated") {
        return None;
    }
    if let Some(warning) = custom.version.get("deprecationWarning").and_then(|w| w.as_str()) {
        return Some(warning.to_owned());
    }
    let (group, kind) = (&resource.group, &resource.kind);
    let said = format!("{group}/{} {kind} is deprecated", resource.version);
    let better = list(&custom.definition["spec"]["versions"])
        .iter()
        .filter(|version| flag(version, "served") && !flag(version, "deprecated"))
        .map(|version| text(version, "name"))
        .filter(|name| compare(&resource.version, name).is_lt())
        .max_by(|a, b| compare(a, b));
    Some(match better {
        Some(version) => format!("{said}; use {group}/{version} {kind}"),
        None => said,
    })
}

/// Orders versions as Kubernetes does: `v1` after `v1beta2` after `v1beta1` after `v1alpha1`; other names come
/// before these, by the alphabet from behind.
fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// Stability, major version, and the number within the stability.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..end].parse().ok()?;
    let (stability, number) = match &rest[end..] {
        "" => return Some((2, major, 0)),
        beta if beta.starts_with("beta") => (1, &beta[4..]),
        alpha if alpha.starts_with("alpha") => (0, &alpha[5..]),
        _ => return None,
    };
    let number = if number.is_empty() {
        0
    } else {
        number.parse().ok()?
    };
    Some((stability, major, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::resources_of;
    use serde_json::json;

    #[test]
    fn names_the_best_version_there_is() {
        let crd = json!({"spec": {"group": "a.b", "names": {"kind": "K", "plural": "ks"}, "versions": [
            {"name": "v1alpha1", "served": true, "deprecated": true},
            {"name": "v1beta1", "served": true},
            {"name": "v1", "served": true},
            {"name": "v2", "served": true, "deprecated": true, "deprecationWarning": "gone soon"},
            {"name": "v3", "served": false}]}});
        let said: Vec<Option<String>> = resources_of(&crd).iter().map(|r| deprecation(r)).collect();
        let wanted = [
            Some("a.b/v1alpha1 K is deprecated; use a.b/v1 K"),
            None,
            None,
            Some("gone soon"),
        ];
        assert_eq!(said, wanted.map(|text| text.map(str::to_owned)));
    }
}
