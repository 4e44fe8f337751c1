//! Whether values are valid by a schema, with the findings in the real server's words. A value that did not change in
//! an update is not held against it (ratcheting, KEP-4008).

use super::correlate::{is_unchanged, old_field, old_item};
use super::problem::{Problem, Problems, What};
use super::{Checks, Format, Schema, SchemaRef, Type, cel, gotext, lists};
use crate::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::{Number, Value, json};
use std::fmt;

/// Judges `new` by the schema's types, formats and bounds (not lists' uniqueness, not CEL), where `old` is what it
/// replaces, if anything. Errors are at paths below `base`.
pub fn validate(schema: &Schema, new: &Value, old: Option<&Value>, base: &Path, errors: &mut FieldErrors) {
    let mut problems = Problems::default();
    let walk = Walk {
        path: &Step::Root,
        old,
    };
    node(schema, new, walk, &mut problems, true);
    problems.to_errors(base, errors);
}

/// Judges a whole object of a custom resource: types and bounds, embedded metadata, uniqueness in lists, CEL rules,
/// in the real server's order.
pub fn validate_all(schema: &Schema, new: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    validate(schema, new, old, &Path::root(), errors);
    super::validate_embedded(schema, new, &Path::root(), false, errors);
    lists::validate_lists_changed(schema, new, old, errors);
    validate_rules(schema, new, old, errors);
}

/// Runs the CEL rules, unless earlier errors make that moot.
pub fn validate_rules(schema: &Schema, new: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if !schema.has_rules() {
        return;
    }
    if has_blocking(errors) {
        errors.push(FieldError::invalid(
            &Path::root(),
            &Value::Null,
            "some validation rules were not checked because the object was invalid; correct the existing errors to \
             complete validation",
        ));
    } else {
        cel::validate(schema, new, old, &Path::root(), errors);
    }
}

/// Whether CEL rules are not worth running because of these errors.
pub fn has_blocking(errors: &[FieldError]) -> bool {
    errors.iter().any(|error| {
        matches!(
            error.kind,
            Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid
        )
    })
}

/// A path that costs nothing until it is written.
enum Step<'a> {
    Root,
    Field(&'a Step<'a>, &'a str),
    Key(&'a Step<'a>, &'a str),
    Index(&'a Step<'a>, usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) | Self::Key(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    path: &'a Step<'a>,
    old: Option<&'a Value>,
}

impl Walk<'_> {
    fn problem(&self, what: What) -> Problem {
        Problem {
            name: self.path.to_string(),
            what,
        }
    }
}

/// Judges one node; returns how much of the schema matched, by which the best of several alternatives is chosen.
/// With `ratchet`, findings are dropped when the value did not change.
fn node(schema: &Schema, value: &Value, walk: Walk<'_>, out: &mut Problems, ratchet: bool) -> usize {
    let before = out.0.len();
    let matched = judge(schema, value, walk, out);
    if ratchet
        && out.0.len() > before
        && let Some(old) = walk.old
        && is_unchanged(schema, value, old)
    {
        out.0.truncate(before);
    }
    matched
}

fn judge(schema: &Schema, value: &Value, walk: Walk<'_>, out: &mut Problems) -> usize {
    let checks = schema.checks.as_deref();
    if value.is_null() {
        let types = type_names(schema);
        if !types.is_empty() && !schema.nullable {
            out.push(walk.problem(What::Type(types, json!("null"))));
        }
        if let Some(checks) = checks {
            one_of_values(checks, value, walk, out);
        }
        return 1;
    }
    let mut matched = 2;
    if schema.kind.is_some() || schema.int_or_string || checks.is_some_and(|c| c.format.is_some()) {
        matched += 1;
        match wrong_type(schema, checks.and_then(|c| c.format), value) {
            Some(what) => out.push(walk.problem(what)),
            None => matched += 1,
        }
    }
    if let Some(checks) = checks {
        matched += combined(checks, value, walk, out);
    }
    matched += 1;
    match value {
        Value::String(text) => {
            matched += 1;
            if let Some(checks) = checks {
                matched += text_checks(schema, checks, text, walk, out);
            }
        }
        Value::Number(number) => {
            matched += 2;
            range(schema, checks.and_then(|checks| checks.format), number, walk, out);
            if let Some(checks) = checks {
                number_checks(checks, number, walk, out);
            }
        }
        Value::Array(items) => {
            matched += 2;
            if let Some(below) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    let step = Step::Index(walk.path, index);
                    let old = walk.old.and_then(|old| old_item(schema, item, old));
                    matched += node(below, item, Walk { path: &step, old }, out, true);
                }
            }
            if let Some(checks) = checks {
                list_checks(checks, items, walk, out);
            }
        }
        _ => {}
    }
    if let Some(checks) = checks {
        one_of_values(checks, value, walk, out);
    }
    if let Value::Object(_) = value {
        matched += 1 + object(schema, value, walk, out);
    }
    matched
}

fn type_names(schema: &Schema) -> String {
    if schema.int_or_string {
        "integer,string".to_owned()
    } else {
        schema.kind.map(Type::name).unwrap_or_default().to_owned()
    }
}

/// The name and format of a value's type.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
    }
}

fn wrong_type(schema: &Schema, format: Option<Format>, value: &Value) -> Option<What> {
    let wants = |kind: Type| {
        schema.kind == Some(kind) || schema.int_or_string && matches!(kind, Type::Integer | Type::String)
    };
    let whole = matches!(value, Value::Number(n) if n.is_i64() || n.as_f64().is_some_and(is_json_integer));
    let fits = match value {
        Value::Null => true,
        Value::Bool(_) => wants(Type::Boolean),
        Value::String(_) => wants(Type::String),
        Value::Array(_) => wants(Type::Array),
        Value::Object(_) => wants(Type::Object),
        Value::Number(_) => wants(Type::Number) || (whole && wants(Type::Integer)),
    };
    if fits {
        return None;
    }
    let (there, there_format) = type_of(value);
    let text_or_list = matches!(value, Value::String(_) | Value::Array(_));
    if let (Some(_), Some(name)) = (format, &schema.format) {
        if !text_or_list {
            return Some(What::Type(name.to_string(), json!(there_format)));
        }
        if !wants(Type::Number) && !wants(Type::Integer) {
            return None;
        }
    }
    (schema.kind.is_some() || schema.int_or_string).then(|| What::Type(type_names(schema), json!(there)))
}

fn combined(checks: &Checks, value: &Value, walk: Walk<'_>, out: &mut Problems) -> usize {
    let mut matched = 1;
    let alternative = |schema: &SchemaRef| {
        let mut problems = Problems::default();
        let matched = node(schema, value, walk, &mut problems, false);
        (problems, matched)
    };
    if !checks.any_of.is_empty() {
        matched += any_of(&checks.any_of, alternative, walk, out);
    }
    if !checks.one_of.is_empty() {
        matched += one_of(&checks.one_of, alternative, walk, out);
    }
    if !checks.all_of.is_empty() {
        let mut valid = 0;
        for schema in &checks.all_of {
            let (problems, found) = alternative(schema);
            valid += usize::from(problems.0.is_empty());
            matched += found;
            out.append(problems);
        }
        if valid < checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            sentence(walk, &format!("must validate all the schemas (allOf){none}"), out);
        }
    }
    if let Some(schema) = &checks.not
        && alternative(schema).0.0.is_empty()
    {
        sentence(walk, "must not validate the schema (not)", out);
    }
    matched
}

fn sentence(walk: Walk<'_>, text: &str, out: &mut Problems) {
    let path = gotext::quote(&walk.path.to_string());
    out.push(walk.problem(What::Sentence(format!("{path} {text}"))));
}

/// The findings of the alternative that matched most.
#[derive(Default)]
struct Best(Option<(Problems, usize)>);

impl Best {
    fn offer(&mut self, problems: Problems, matched: usize) {
        if self.0.as_ref().is_none_or(|(_, best)| matched > *best) {
            self.0 = Some((problems, matched));
        }
    }
}

fn any_of(
    schemas: &[SchemaRef],
    alternative: impl Fn(&SchemaRef) -> (Problems, usize),
    walk: Walk<'_>,
    out: &mut Problems,
) -> usize {
    let mut best = Best::default();
    for schema in schemas {
        let (problems, matched) = alternative(schema);
        if problems.0.is_empty() {
            return matched;
        }
        best.offer(problems, matched);
    }
    sentence(walk, "must validate at least one schema (anyOf)", out);
    best.0.map_or(0, |(problems, matched)| {
        out.append(problems);
        matched
    })
}

fn one_of(
    schemas: &[SchemaRef],
    alternative: impl Fn(&SchemaRef) -> (Problems, usize),
    walk: Walk<'_>,
    out: &mut Problems,
) -> usize {
    let mut best = Best::default();
    let mut first = 0;
    let mut valid = 0;
    for schema in schemas {
        let (problems, matched) = alternative(schema);
        if problems.0.is_empty() {
            valid += 1;
            if valid == 1 {
                first = matched;
            }
            best = Best::default();
        } else if valid == 0 {
            best.offer(problems, matched);
        }
    }
    if valid == 1 {
        return first;
    }
    let found = match valid {
        0 => "Found none valid".to_owned(),
        count => format!("Found {count} valid alternatives"),
    };
    sentence(
        walk,
        &format!("must validate one and only one schema (oneOf). {found}"),
        out,
    );
    best.0.map_or(0, |(problems, matched)| {
        out.append(problems);
        matched
    })
}

fn text_checks(schema: &Schema, checks: &Checks, text: &str, walk: Walk<'_>, out: &mut Problems) -> usize {
    let value = || Value::String(text.to_owned());
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    // One finding at most, in this order.
    if let Some(max) = checks.max_length.filter(|max| length() > *max) {
        out.push(walk.problem(What::TooLong(max)));
    } else if let Some(min) = checks.min_length.filter(|min| length() < *min) {
        out.push(walk.problem(What::TooShort(min, value())));
    } else if let Some(pattern) = &checks.pattern {
        match pattern.is_match(text) {
            Ok(true) => {}
            Ok(false) => out.push(walk.problem(What::Pattern(pattern.source().to_owned(), value()))),
            Err(error) => {
                let shown = format!("{}, but pattern is invalid: {error}", pattern.source());
                out.push(walk.problem(What::Pattern(shown, value())));
            }
        }
    }
    match (checks.format, &schema.format) {
        (Some(format), Some(name)) if !is_numeric(format) => {
            if !format.accepts(text) {
                out.push(walk.problem(What::Type(name.to_string(), value())));
            }
            1
        }
        _ => 0,
    }
}

fn is_numeric(format: Format) -> bool {
    matches!(
        format,
        Format::Int32 | Format::Int64 | Format::Float | Format::Double
    )
}

fn number_checks(checks: &Checks, number: &Number, walk: Walk<'_>, out: &mut Problems) {
    let float = number.as_f64().unwrap_or_default();
    let value = || Value::Number(number.clone());
    // Whole numbers are compared as such, with the bound cut to a whole one.
    let whole = number.as_i64();
    if let Some(factor) = checks.multiple_of {
        let (multiple, positive, shown) = match whole {
            Some(whole) => {
                let factor = cut(factor);
                (factor > 0 && whole % factor == 0, factor > 0, factor.to_string())
            }
            None => {
                let ratio = if factor < 1.0 {
                    1.0 / factor * float
                } else {
                    float / factor
                };
                (is_whole(ratio), factor > 0.0, gotext::float(factor))
            }
        };
        if !positive {
            out.push(walk.problem(What::MultipleOfNotPositive(shown)));
        } else if !multiple {
            out.push(walk.problem(What::MultipleOf(shown, value())));
        }
    }
    let bound = |bound: f64, ordering: std::cmp::Ordering, exclusive: bool| {
        let compared = match whole {
            Some(whole) => whole.cmp(&cut(bound)),
            None => float.partial_cmp(&bound).unwrap_or(std::cmp::Ordering::Equal),
        };
        compared == ordering || exclusive && compared.is_eq()
    };
    let shown = |bound: f64| match whole {
        Some(_) => cut(bound).to_string(),
        None => gotext::float(bound),
    };
    if let Some(min) = checks.minimum
        && bound(min, std::cmp::Ordering::Less, checks.exclusive_minimum)
    {
        let or_equal = if checks.exclusive_minimum {
            ""
        } else {
            " or equal to"
        };
        out.push(walk.problem(What::Bound(
            format!("greater than{or_equal} {}", shown(min)),
            value(),
        )));
    }
    if let Some(max) = checks.maximum
        && bound(max, std::cmp::Ordering::Greater, checks.exclusive_maximum)
    {
        let or_equal = if checks.exclusive_maximum {
            ""
        } else {
            " or equal to"
        };
        out.push(walk.problem(What::Bound(
            format!("less than{or_equal} {}", shown(max)),
            value(),
        )));
    }
}

/// Whether a float is a whole number that every reader of JSON takes as the same.
fn is_json_integer(float: f64) -> bool {
    float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_991.0
}

/// A whole number by cutting off the fraction, as Go converts.
#[allow(clippy::cast_possible_truncation)]
fn cut(float: f64) -> i64 {
    float as i64
}

/// Whether a float is a whole number but for rounding.
fn is_whole(float: f64) -> bool {
    let nearest = float.round();
    let off = (float - nearest).abs();
    float.is_finite() && (off == 0.0 || off < 1e-9 * float.abs().max(1.0))
}

fn range(schema: &Schema, format: Option<Format>, number: &Number, walk: Walk<'_>, out: &mut Problems) {
    let float = number.as_f64().unwrap_or_default();
    let fits_i64 = |float: f64| number.is_i64() || fits_i64(float);
    let (fits, kind) = match (format, schema.kind) {
        (Some(Format::Int32), _) => (
            float >= f64::from(i32::MIN) && float <= f64::from(i32::MAX) && float.fract() == 0.0,
            "integer with format int32",
        ),
        (Some(Format::Float), _) => (float.abs() <= f64::from(f32::MAX), "number with format float"),
        (Some(Format::Int64), Some(Type::Integer)) => (fits_i64(float), "integer with format int64"),
        (None, Some(Type::Integer)) => (fits_i64(float), "integer (default format)"),
        _ => return,
    };
    if !fits {
        let text = format!("Checked value must be of type {kind} in {}", walk.path);
        out.push(walk.problem(What::Sentence(text)));
    }
}

#[allow(clippy::cast_precision_loss)]
fn fits_i64(float: f64) -> bool {
    float.fract() == 0.0 && float >= i64::MIN as f64 && float < i64::MAX as f64
}

fn list_checks(checks: &Checks, items: &[Value], walk: Walk<'_>, out: &mut Problems) {
    let size = items.len();
    let length = i64::try_from(size).unwrap_or(i64::MAX);
    if let Some(min) = checks.min_items.filter(|min| length < *min) {
        out.push(walk.problem(What::TooFewItems(min, size)));
    }
    if let Some(max) = checks.max_items.filter(|max| length > *max) {
        out.push(walk.problem(What::TooManyItems(max, size)));
    }
    if checks.unique_items && (1..size).any(|at| items[..at].contains(&items[at])) {
        out.push(walk.problem(What::Duplicates));
    }
}

fn one_of_values(checks: &Checks, value: &Value, walk: Walk<'_>, out: &mut Problems) {
    let allowed = &checks.one_of_values;
    let same = |allowed: &Value| {
        !value.is_null()
            && (allowed == value
                || matches!((allowed.as_f64(), value.as_f64()), (Some(a), Some(b)) if a.to_bits() == b.to_bits()))
    };
    if !allowed.is_empty() && !allowed.iter().any(same) {
        out.push(walk.problem(What::Enum(allowed.clone(), value.clone())));
    }
}

fn object(schema: &Schema, value: &Value, walk: Walk<'_>, out: &mut Problems) -> usize {
    let Value::Object(map) = value else { return 0 };
    let mut matched = 0;
    let size = map.len();
    let count = i64::try_from(size).unwrap_or(i64::MAX);
    let checks = schema.checks.as_deref();
    if let Some(checks) = checks {
        if let Some(min) = checks.min_properties.filter(|min| count < *min) {
            out.push(walk.problem(What::TooFewProperties(min, size)));
        }
        if let Some(max) = checks.max_properties.filter(|max| count > *max) {
            out.push(walk.problem(What::TooManyProperties(max, size)));
        }
    }
    let closed = checks.is_some_and(|checks| checks.closed);
    let root = matches!(walk.path, Step::Root);
    for (name, field) in map {
        let (below, step) = match (schema.properties.get(name.as_str()), &schema.additional) {
            (Some(below), _) => (below, Step::Field(walk.path, name)),
            (None, Some(_)) if closed => {
                out.push(walk.problem(What::Unallowed(name.clone())));
                continue;
            }
            (None, Some(below)) => (below, Step::Key(walk.path, name)),
            (None, None) => continue,
        };
        // Both sides were converted to one version, so their type says nothing about a change.
        let typed = root && matches!(name.as_str(), "apiVersion" | "kind");
        let old = walk
            .old
            .filter(|_| !typed)
            .and_then(|old| old_field(schema, name, old));
        matched += node(below, field, Walk { path: &step, old }, out, true);
    }
    for name in &schema.required {
        if !map.contains_key(&**name) {
            out.push(Problem {
                name: format!("{}.{name}", walk.path),
                what: What::Required,
            });
        }
    }
    matched
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
