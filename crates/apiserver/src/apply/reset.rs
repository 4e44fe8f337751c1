//! Fields that a request can't set, and fields that nobody manages.

use super::set::Set;
use crate::resource::Resource;
use std::sync::LazyLock;

/// Paths of field names; with each goes all below it.
pub type ResetFields = &'static [&'static [&'static str]];

const NONE: ResetFields = &[];
const STATUS: ResetFields = &[&["status"]];
const SPEC: ResetFields = &[&["spec"]];
const SPEC_AND_METADATA: ResetFields = &[&["metadata"], &["spec"]];

/// What a write to `subresource` (empty for the object itself) of a resource can't set, so that nobody comes to
/// manage it by such a write.
pub fn reset_fields(resource: &Resource, subresource: &str) -> ResetFields {
    if resource.custom.is_some() {
        return match subresource {
            "status" => SPEC_AND_METADATA,
            _ if resource.subresource("status").is_some() => STATUS,
            _ => NONE,
        };
    }
    match (&*resource.group, &*resource.plural, subresource) {
        ("certificates.k8s.io", "certificatesigningrequests", "") => &[&["spec"], &["status"]],
        ("certificates.k8s.io", "certificatesigningrequests", "status") => {
            &[&["spec"], &["status", "conditions"]]
        }
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            &[&["spec"], &["status", "certificate"]]
        }
        ("apps", "deployments", "status") => &[&["spec"], &["metadata", "labels"]],
        ("", "pods", "status") => &[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ],
        (group, _, "status") if keeps_metadata(group) => SPEC_AND_METADATA,
        (_, "servicecidrs" | "volumeattachments", "status") => SPEC_AND_METADATA,
        (_, _, "status") => SPEC,
        (_, "namespaces", "finalize") => STATUS,
        _ if resource.subresource("status").is_some() => STATUS,
        _ => NONE,
    }
}

/// Groups whose kinds let a write of the status touch nothing else.
fn keeps_metadata(group: &str) -> bool {
    matches!(
        group,
        "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "internal.apiserver.k8s.io"
            | "resource.k8s.io"
            | "scheduling.k8s.io"
            | "storagemigration.k8s.io"
    )
}

/// The set without what can't be set.
pub(super) fn without(reset: ResetFields, set: Set<'_>) -> Set<'_> {
    if reset.is_empty() || set.is_empty() {
        return set;
    }
    let mut fields = Set::default();
    for path in reset {
        fields.insert_fields(path);
    }
    set.recursive_difference(&fields)
}

/// The set without what the server itself manages.
pub(super) fn stripped<'a>(set: &Set<'a>) -> Set<'a> {
    static UNMANAGED: LazyLock<Set<'static>> = LazyLock::new(|| {
        let mut set = Set::default();
        for name in ["apiVersion", "kind", "metadata"] {
            set.insert_fields(&[name]);
        }
        for name in [
            "clusterName",
            "creationTimestamp",
            "generation",
            "managedFields",
            "name",
            "namespace",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            set.insert_fields(&["metadata", name]);
        }
        set
    });
    set.difference(&UNMANAGED)
}
