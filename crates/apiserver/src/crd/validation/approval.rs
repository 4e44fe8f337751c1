//! Groups of the Kubernetes project are protected: a CRD in one must say that its API was approved.

use super::text;
use crate::field::{FieldError, Path};
use crate::schema::gotext;
use serde_json::{Value, json};

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What a CRD says of the approval of its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::crd) enum Approval {
    Missing,
    Invalid,
    Approved(String),
    Bypassed(String),
}

/// Whether a group is the Kubernetes project's.
pub(in crate::crd) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn annotation(crd: &Value) -> &str {
    text(&crd["metadata"]["annotations"], ANNOTATION)
}

pub(in crate::crd) fn approval(crd: &Value) -> Approval {
    let said = annotation(crd);
    let is_url = said
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.split('/').next().unwrap_or("").is_empty());
    if said.is_empty() {
        Approval::Missing
    } else if said.starts_with("unapproved") {
        Approval::Bypassed(said.to_owned())
    } else if is_url {
        Approval::Approved(said.to_owned())
    } else {
        Approval::Invalid
    }
}

impl Approval {
    fn reason(&self) -> String {
        let must = format!("protected groups must have approval annotation {ANNOTATION:?}");
        match self {
            Self::Missing => format!("{must}, {SEE}"),
            Self::Invalid => {
                format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}")
            }
            Self::Approved(url) => format!("approved in {url}"),
            Self::Bypassed(said) => format!("not approved: {}", gotext::quote(said)),
        }
    }

    /// Status, reason and message of the condition.
    pub(in crate::crd) fn condition(&self) -> (&'static str, &'static str, String) {
        let (status, reason) = match self {
            Self::Missing => ("False", "MissingAnnotation"),
            Self::Invalid => ("False", "InvalidAnnotation"),
            Self::Approved(_) => ("True", "ApprovedAnnotation"),
            Self::Bypassed(_) => ("False", "UnapprovedAnnotation"),
        };
        (status, reason, self.reason())
    }
}

/// The error of a CRD in a protected group whose approval is missing or malformed, unless it was so before.
pub(super) fn judge(crd: &Value, old: Option<&Value>) -> Option<FieldError> {
    if !is_protected(text(&crd["spec"], "group")) {
        return None;
    }
    let now = approval(crd);
    if old.is_some_and(|old| std::mem::discriminant(&approval(old)) == std::mem::discriminant(&now)) {
        return None;
    }
    let path = Path::new("metadata").child("annotations").key(ANNOTATION);
    match now {
        Approval::Missing => Some(FieldError::required(&path, now.reason())),
        Approval::Invalid => Some(FieldError::invalid(&path, &json!(annotation(crd)), now.reason())),
        Approval::Approved(_) | Approval::Bypassed(_) => None,
    }
}
