//! Running the rules of a schema over an object: which rules, with which old values, and what a refusal says.

use super::rule::{Reason, Rule};
use super::value::Val;
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::schema::correlate::{is_unchanged, old_item};
use crate::schema::{Schema, Type};
use serde_json::{Value, json};

/// The longest message that an expression may give, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// Runs all rules of `schema` over `new`, which replaces `old`, if anything. Transition rules run only where there
/// is an old value; other rules are not held against what did not change.
pub fn validate(schema: &Schema, new: &Value, old: Option<&Value>, base: &Path, errors: &mut FieldErrors) {
    errors.append(&mut run_all(schema, new, old, base).errors);
}

/// What the rules say of values that did not change, which is a warning rather than an error.
pub fn ratcheted(schema: &Schema, new: &Value, old: &Value) -> FieldErrors {
    run_all(schema, new, Some(old), &Path::root()).ratcheted
}

/// What the rules found.
#[derive(Default)]
struct Found {
    errors: FieldErrors,
    ratcheted: FieldErrors,
}

fn run_all(schema: &Schema, new: &Value, old: Option<&Value>, base: &Path) -> Found {
    let mut found = Found::default();
    if schema.has_rules() {
        let ratchet = Ratchet {
            current: old.map(|old| (schema, new, old)),
            parent: None,
        };
        let mut path = || base.clone();
        node(schema, new, old, ratchet, &mut path, &mut found);
    }
    found
}

type Pair<'a> = (&'a Schema, &'a Value, &'a Value);

/// What an error is measured by: the value's own old one, or that of the nearest parent that has one.
#[derive(Clone, Copy)]
struct Ratchet<'a> {
    current: Option<Pair<'a>>,
    parent: Option<Pair<'a>>,
}

impl<'a> Ratchet<'a> {
    fn is_unchanged(&self) -> bool {
        let pair = self.current.or(self.parent);
        pair.is_some_and(|(schema, new, old)| is_unchanged(schema, new, old))
    }

    fn below(&self, current: Option<Pair<'a>>) -> Self {
        match self.current {
            None => *self,
            Some(_) => Self {
                current,
                parent: self.current,
            },
        }
    }

    fn field(&self, name: &str) -> Self {
        if self.parent.is_none() && self.current.is_some() && matches!(name, "apiVersion" | "kind") {
            return Self {
                current: None,
                parent: None,
            };
        }
        let pair = self
            .current
            .and_then(|(schema, new, old)| Some((&**schema.field(name)?, new.get(name)?, old.get(name)?)));
        self.below(pair)
    }

    fn index(&self, index: usize) -> Self {
        let pair = self.current.and_then(|(schema, new, old)| {
            let item = new.get(index)?;
            Some((&**schema.items.as_ref()?, item, old_item(schema, item, old)?))
        });
        self.below(pair)
    }
}

fn node<'a>(
    schema: &'a Schema,
    new: &'a Value,
    old: Option<&'a Value>,
    ratchet: Ratchet<'a>,
    path: &mut dyn FnMut() -> Path,
    found: &mut Found,
) {
    if new.is_null() || !schema.has_rules() {
        return;
    }
    let old = old.filter(|old| !old.is_null());
    if let Some(checks) = &schema.checks {
        for rule in &checks.rules {
            run(rule, schema, new, old, ratchet, path, found);
        }
    }
    match new {
        Value::Array(items) => {
            let Some(below) = schema.items.as_ref().filter(|below| below.has_rules()) else {
                return;
            };
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| old_item(schema, item, old));
                let mut path = || path().index(index);
                node(below, item, old, ratchet.index(index), &mut path, found);
            }
        }
        Value::Object(map) => {
            for (name, field) in map {
                let (below, named) = match (schema.properties.get(name.as_str()), &schema.additional) {
                    (Some(below), _) => (below, true),
                    (None, Some(below)) => (below, false),
                    (None, None) => continue,
                };
                let mut path = || {
                    let path = path();
                    if named { path.child(name) } else { path.key(name) }
                };
                let old = old.and_then(|old| old.get(name));
                node(below, field, old, ratchet.field(name), &mut path, found);
            }
        }
        _ => {}
    }
}

fn run<'a>(
    rule: &Rule,
    schema: &'a Schema,
    new: &'a Value,
    old: Option<&'a Value>,
    ratchet: Ratchet<'a>,
    path: &mut dyn FnMut() -> Path,
    found: &mut Found,
) {
    let kind = json!(schema.kind.map(Type::name).unwrap_or_default());
    let program = match rule.program() {
        Ok(program) => program,
        Err(why) => {
            let detail = format!("rule compile error: compilation failed: {why}");
            found.errors.push(FieldError::invalid(&path(), &kind, detail));
            return;
        }
    };
    if program.uses_old_self && old.is_none() && !rule.optional_old_self {
        return;
    }
    let bound = bind(schema, new, old, rule.optional_old_self);
    let result = bound.and_then(|(this, old)| program.run(this, old));
    match result {
        Ok(Val::Bool(true)) => return,
        Ok(_) => {}
        Err(error) => {
            let said = rule.name();
            let detail = if error.0.starts_with("no such overload") {
                format!(
                    "'{}': call arguments did not match a supported operator, function or macro signature for rule: \
                     {said}",
                    error.0
                )
            } else {
                format!("{} evaluating rule: {said}", error.0)
            };
            found.errors.push(FieldError::invalid(&path(), &kind, detail));
            return;
        }
    }
    let detail = message(rule, schema, new, old).unwrap_or_else(|| rule.fixed_message());
    let refusal = refusal(rule, schema, new, &path(), detail);
    if !program.uses_old_self && ratchet.is_unchanged() {
        found.ratcheted.push(refusal);
    } else {
        found.errors.push(refusal);
    }
}

type Bound<'a> = (Val<'a>, Option<Val<'a>>);

/// `self` and `oldSelf`.
fn bind<'a>(
    schema: &'a Schema,
    new: &'a Value,
    old: Option<&'a Value>,
    optional: bool,
) -> super::failure::Outcome<Bound<'a>> {
    let this = Val::from_json(new, schema)?;
    let old = match old {
        Some(old) => Some(Val::from_json(old, schema)?),
        None => None,
    };
    let old = match (old, optional) {
        (Some(old), true) => Some(Val::some(old)),
        (None, true) => Some(Val::Optional(None)),
        (old, false) => old,
    };
    Ok((this, old))
}

/// The message that the rule's expression gives, if it has one that gives a good one.
fn message(rule: &Rule, schema: &Schema, new: &Value, old: Option<&Value>) -> Option<String> {
    let program = rule.message_program()?;
    let (this, old) = bind(schema, new, old, false).ok()?;
    let Ok(Val::Text(text)) = program.run(this, old) else {
        return None;
    };
    let text = text.trim();
    let good = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
    good.then(|| text.to_owned())
}

fn refusal(rule: &Rule, schema: &Schema, new: &Value, path: &Path, detail: String) -> FieldError {
    let path = match rule.relative_path() {
        Some(relative) => path.child(&relative),
        None => path.clone(),
    };
    let kind = match rule.reason {
        Reason::Invalid => Kind::Invalid,
        Reason::Forbidden => Kind::Forbidden,
        Reason::Required => Kind::Required,
        Reason::Duplicate => Kind::Duplicate,
    };
    let detail = if kind == Kind::Duplicate {
        String::new()
    } else {
        detail
    };
    let error = FieldError::new(kind, &path, new, detail);
    if matches!(schema.kind, Some(Type::Object | Type::Array)) {
        error.omitting_value()
    } else {
        error
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
