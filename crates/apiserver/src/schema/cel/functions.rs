//! Functions of CEL itself; those of Kubernetes' libraries are called where none of these is meant.

use super::convert;
use super::eval::Machine;
use super::failure::{Failure, Outcome};
use super::value::Val;
use super::{foreign, time};
use crate::schema::pattern;
use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr};
use parking_lot::Mutex;
use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Names before a function that belong to it, as `sets` in `sets.contains`.
pub(super) const SPACES: [&str; 7] = ["sets", "strings", "lists", "format", "ip", "cidr", "optional"];

pub(super) fn call<'p, 'a>(machine: &mut Machine<'p, 'a>, call: &'p CallExpr) -> Outcome<Val<'a>> {
    let name = call.func_name.as_str();
    let space = match call.target.as_deref().map(|target| &target.expr) {
        Some(Expr::Ident(space)) if SPACES.contains(&space.as_str()) && !machine.is_bound(space) => {
            Some(space.as_str())
        }
        _ => None,
    };
    let target = match (&call.target, space) {
        (Some(target), None) => Some(machine.eval(target)?),
        _ => None,
    };
    let args = evaluated(machine, &call.args)?;
    match (space, &target) {
        (Some("optional"), _) => optional(name, &args),
        (Some(space), _) => foreign::call(name, Some(space), None, &args),
        (None, Some(target)) => member(name, target, &args),
        (None, None) => global(name, &args),
    }
}

fn evaluated<'p, 'a>(machine: &mut Machine<'p, 'a>, args: &'p [IdedExpr]) -> Outcome<Vec<Val<'a>>> {
    args.iter().map(|arg| machine.eval(arg)).collect()
}

fn optional<'a>(name: &str, args: &[Val<'a>]) -> Outcome<Val<'a>> {
    match (name, args) {
        ("none", []) => Ok(Val::Optional(None)),
        ("of", [value]) => Ok(Val::some(value.clone())),
        ("ofNonZeroValue", [value]) => Ok(if is_zero(value) {
            Val::Optional(None)
        } else {
            Val::some(value.clone())
        }),
        _ => Err(Failure::no_overload()),
    }
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null
        | Val::Bool(false)
        | Val::Int(0)
        | Val::Uint(0)
        | Val::Duration(0)
        | Val::Optional(None) => true,
        Val::Double(value) => *value == 0.0,
        value => value.size() == Some(0),
    }
}

fn member<'a>(name: &str, target: &Val<'a>, args: &[Val<'a>]) -> Outcome<Val<'a>> {
    let zone = match args {
        [Val::Text(zone)] => Some(&**zone),
        _ => None,
    };
    if args.len() <= 1
        && let Some(part) = time::part(name, target, zone)
    {
        return part;
    }
    match (name, target, args) {
        ("contains", Val::Text(text), [Val::Text(part)]) => Ok(Val::Bool(text.contains(&**part))),
        ("startsWith", Val::Text(text), [Val::Text(part)]) => Ok(Val::Bool(text.starts_with(&**part))),
        ("endsWith", Val::Text(text), [Val::Text(part)]) => Ok(Val::Bool(text.ends_with(&**part))),
        ("matches", Val::Text(text), [Val::Text(pattern)]) => matches(text, pattern),
        ("size", target, []) => size(target),
        ("hasValue", Val::Optional(value), []) => Ok(Val::Bool(value.is_some())),
        ("value", Val::Optional(value), []) => value
            .as_ref()
            .map(|value| (**value).clone())
            .ok_or_else(|| Failure::new("optional.none() dereference")),
        ("orValue", Val::Optional(value), [other]) => Ok(value
            .as_ref()
            .map_or_else(|| other.clone(), |value| (**value).clone())),
        ("or", Val::Optional(value), [other]) => Ok(match value {
            Some(_) => target.clone(),
            None => other.clone(),
        }),
        _ => foreign::call(name, None, Some(target), args),
    }
}

fn global<'a>(name: &str, args: &[Val<'a>]) -> Outcome<Val<'a>> {
    match (name, args) {
        ("size", [value]) => size(value),
        ("matches", [Val::Text(text), Val::Text(pattern)]) => matches(text, pattern),
        ("type", [value]) => Ok(Val::Kind(value.kind())),
        ("dyn", [value]) => Ok(value.clone()),
        (name, [value]) if convert::is_conversion(name) => convert::convert(name, value),
        _ => foreign::call(name, None, None, args),
    }
}

fn size<'a>(value: &Val<'_>) -> Outcome<Val<'a>> {
    let size = value.size().ok_or_else(Failure::no_overload)?;
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// Patterns that were compiled; a pattern is nearly always a literal of a rule.
static PATTERNS: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
const MOST_PATTERNS: usize = 1024;

fn matches<'a>(text: &str, source: &str) -> Outcome<Val<'a>> {
    if let Some(regex) = PATTERNS.lock().get(source) {
        return Ok(Val::Bool(regex.is_match(text)));
    }
    let regex = pattern::compile(source).map_err(Failure)?;
    let found = regex.is_match(text);
    let mut patterns = PATTERNS.lock();
    if patterns.len() >= MOST_PATTERNS {
        patterns.clear();
    }
    patterns.insert(source.to_owned(), regex);
    Ok(Val::Bool(found))
}

/// A scalar as text, as `string()` gives it.
pub(super) fn text_of(value: &Val<'_>) -> Option<String> {
    match convert::convert("string", value) {
        Ok(Val::Text(text)) => Some(text.into_owned()),
        _ => None,
    }
}
