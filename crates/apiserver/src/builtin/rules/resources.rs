//! What containers ask for and are held to.

use super::check::{complaints, quantity};
use crate::builtin::quantity::Quantity;
use crate::field::{FieldError, FieldErrors, Path};
use crate::metadata::names;
use serde_json::{Value, json};

const HUGE_PAGES: &str = "hugepages-";

/// Whether a resource's name is one that containers may ask for.
fn resource_name(name: &str, path: &Path, errors: &mut FieldErrors) {
    let wrong = names::qualified(name);
    if !wrong.is_empty() {
        complaints(path, &json!(name), wrong, errors);
        return;
    }
    if name.contains('/') {
        return;
    }
    let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with(HUGE_PAGES);
    if !standard {
        let other = ["storage", "pods", "services", "requests.cpu", "limits.cpu"].contains(&name);
        if !other {
            let why = "must be a standard resource type or fully qualified";
            errors.push(FieldError::invalid(path, &json!(name), why));
        }
        errors.push(FieldError::invalid(
            path,
            &json!(name),
            "must be a standard resource for containers",
        ));
    }
}

/// Whether more of it may be promised than there is.
fn may_overcommit(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    native && !name.starts_with(HUGE_PAGES)
}

fn amount(name: &str, value: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(given) = quantity(value) else {
        return;
    };
    if given.nanos < 0 {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be greater than or equal to 0",
        ));
    }
    if name.contains('/') && !given.is_whole() {
        errors.push(FieldError::invalid(path, value, "must be an integer"));
    }
}

/// Limits and requests.
pub(super) fn validate(resources: &Value, path: &Path, errors: &mut FieldErrors) {
    let limits = resources["limits"].as_object();
    for (name, value) in limits.into_iter().flatten() {
        let at = path.child("limits").key(name);
        resource_name(name, &at, errors);
        amount(name, value, &at, errors);
        whole_pages(name, value, &at, errors);
    }
    let requests = path.child("requests");
    for (name, value) in resources["requests"].as_object().into_iter().flatten() {
        let at = requests.key(name);
        resource_name(name, &at, errors);
        amount(name, value, &at, errors);
        let limit = limits.and_then(|limits| limits.get(name));
        match (limit.and_then(quantity), quantity(value)) {
            (Some(limit), Some(asked)) => {
                let why = if asked.nanos != limit.nanos && !may_overcommit(name) {
                    format!("must be equal to {name} limit of {}", limit.canonical())
                } else if asked.nanos > limit.nanos {
                    format!(
                        "must be less than or equal to {name} limit of {}",
                        limit.canonical()
                    )
                } else {
                    String::new()
                };
                if !why.is_empty() {
                    errors.push(FieldError::invalid(&requests, value, why));
                }
            }
            (None, _) if !may_overcommit(name) => {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&path.child("limits"), why));
            }
            _ => {}
        }
        whole_pages(name, value, &at, errors);
    }
}

/// Huge pages are asked for in whole pages.
fn whole_pages(name: &str, value: &Value, path: &Path, errors: &mut FieldErrors) {
    let page = name
        .strip_prefix(HUGE_PAGES)
        .and_then(|size| Quantity::parse(size).ok());
    if let (Some(page), Some(asked)) = (page, quantity(value))
        && (asked.nanos <= 0 || page.nanos <= 0 || asked.nanos % page.nanos != 0)
    {
        let why = format!("{} is not positive integer multiple of {name}", asked.canonical());
        errors.push(FieldError::invalid(path, value, why));
    }
}
