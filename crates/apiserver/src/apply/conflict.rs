//! The refusal of an apply that would take fields from other managers.

use super::managed::{Operation, Who};
use super::set::Set;
use crate::status::ApiError;
use http::StatusCode;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The fields that one manager would lose.
pub(super) struct Conflict<'a> {
    pub(super) who: Who<'a>,
    pub(super) fields: Set<'a>,
}

/// 409 that names every field and its manager.
pub(super) fn refusal(mut conflicts: Vec<Conflict<'_>>) -> ApiError {
    conflicts.sort_by(|a, b| {
        let key = |c: &Conflict<'_>| {
            (
                c.who.manager.to_owned(),
                c.who.operation,
                c.who.api_version.to_owned(),
            )
        };
        key(a).cmp(&key(b))
    });
    let named: Vec<(String, Vec<String>)> = conflicts
        .iter()
        .map(|conflict| (name(&conflict.who), conflict.fields.path_texts()))
        .collect();
    let count: usize = named.iter().map(|(_, paths)| paths.len()).sum();
    let causes: Vec<Value> = named
        .iter()
        .flat_map(|(who, paths)| {
            paths.iter().map(move |path| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {who}"),
                    "field": path,
                })
            })
        })
        .collect();
    ApiError::new(StatusCode::CONFLICT, "Conflict", message(&named, count))
        .with_details(json!({ "causes": causes }))
}

fn message(named: &[(String, Vec<String>)], count: usize) -> String {
    if let ([(who, paths)], 1) = (named, count) {
        return format!(
            "Apply failed with 1 conflict: conflict with {who}: {}",
            paths.concat()
        );
    }
    let mut text = format!("Apply failed with {count} conflicts: ");
    for (position, (who, paths)) in named.iter().enumerate() {
        let line = if position > 0 { "\n" } else { "" };
        let _ = write!(text, "{line}conflicts with {who}:");
        for path in paths {
            let _ = write!(text, "\n- {path}");
        }
    }
    text
}

fn name(who: &Who<'_>) -> String {
    let mut text = format!("{:?}", who.manager);
    if !who.subresource.is_empty() {
        let _ = write!(text, " with subresource {:?}", who.subresource);
    }
    if who.operation == Operation::Update {
        let _ = write!(text, " using {}", who.api_version);
    }
    text
}
