//! Whether an applied object fits its schema: every field known, every value of its type, no list item twice.
//!
//! This is what the real server checks before it merges; all else (formats, rules) is validated on the result.

use super::element::Element;
use super::shape::{List, ListKind, Map, Place, Scalar, Shape};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Errors with the path to each.
#[derive(Debug, Default)]
pub(super) struct TypeErrors(Vec<(String, String)>);

impl TypeErrors {
    /// All of them as one text.
    pub(super) fn text(&self) -> String {
        let said = |(path, what): &(String, String)| {
            if path.is_empty() {
                what.clone()
            } else {
                format!("{path}: {what}")
            }
        };
        match &self.0[..] {
            [one] => said(one),
            many => many.iter().fold("errors:".to_owned(), |mut text, error| {
                let _ = write!(text, "\n  {}", said(error));
                text
            }),
        }
    }
}

/// Judges `value`. Without `duplicates`, the items of sets and maps must differ.
pub(super) fn check(place: Place<'_>, value: &Value, duplicates: bool) -> Result<(), TypeErrors> {
    let mut checker = Checker {
        duplicates,
        ..Checker::default()
    };
    checker.value(place, value);
    if checker.errors.0.is_empty() {
        Ok(())
    } else {
        Err(checker.errors)
    }
}

#[derive(Default)]
struct Checker<'a> {
    duplicates: bool,
    path: Vec<Element<'a>>,
    errors: TypeErrors,
}

impl<'a> Checker<'a> {
    fn error(&mut self, what: String) {
        let path = super::set::PathText(&self.path).to_string();
        self.errors.0.push((path, what));
    }

    fn value(&mut self, place: Place<'a>, value: &'a Value) {
        match place.shape_of(value) {
            Shape::Scalar(scalar) => {
                if let Some(what) = scalar_error(scalar, value) {
                    self.error(what);
                }
            }
            Shape::List(list) => match value {
                Value::Array(items) => self.items(list, items),
                Value::Null => {}
                other => self.error(format!("expected list, got &{{{}}}", go(other, false))),
            },
            Shape::Map(map) => match value {
                Value::Object(fields) => self.fields(map, fields),
                Value::Null => {}
                other => self.error(format!("expected map, got &{{{}}}", go(other, false))),
            },
        }
    }

    fn items(&mut self, list: List<'a>, items: &'a [Value]) {
        let mut seen = BTreeSet::new();
        for (position, item) in items.iter().enumerate() {
            let element = if matches!(list.kind, ListKind::Atomic) {
                Element::Index(i64::try_from(position).unwrap_or(i64::MAX))
            } else {
                match list.element(item) {
                    Ok(element) => {
                        if !self.duplicates && !seen.insert(element.clone()) {
                            self.error(format!("duplicate entries for key {element}"));
                        }
                        element
                    }
                    Err(what) => {
                        self.error(format!("element {position}: {what}"));
                        return;
                    }
                }
            };
            self.path.push(element);
            self.value(list.items, item);
            self.path.pop();
        }
    }

    fn fields(&mut self, map: Map<'a>, fields: &'a serde_json::Map<String, Value>) {
        for (name, value) in fields {
            let field = map.field(name);
            self.path.push(Element::Field(name));
            match field {
                Some((place, _)) => self.value(place, value),
                None => self.error("field not declared in schema".to_owned()),
            }
            self.path.pop();
            if field.is_none() {
                return;
            }
        }
    }
}

fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (_, Value::Null)
        | (Scalar::Numeric, Value::Number(_))
        | (Scalar::Text, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_))
        | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => None,
        (Scalar::Numeric, other) => Some(format!("expected numeric (int or float), got {}", go_type(other))),
        (Scalar::Text, other) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go(other, true)
        )),
        (Scalar::Boolean, other) => Some(format!("expected boolean, got &{{{}}}", go(other, false))),
        (Scalar::Any, other) => Some(format!("expected any scalar, got &{{{}}}", go(other, false))),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it.
pub(crate) fn go_text(value: &Value) -> String {
    go(value, false)
}

/// A value as Go's `%v`, or with `quoted` as its `%#v`, prints it: the real server's messages carry it.
fn go(value: &Value, quoted: bool) -> String {
    match value {
        Value::Null if quoted => "interface {}(nil)".to_owned(),
        Value::Null => "<nil>".to_owned(),
        Value::String(text) if quoted => format!("{text:?}"),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| go(item, quoted)).collect();
            if quoted {
                format!("[]interface {{}}{{{}}}", items.join(", "))
            } else {
                format!("[{}]", items.join(" "))
            }
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| {
                    if quoted {
                        format!("{name:?}:{}", go(value, true))
                    } else {
                        format!("{name}:{}", go(value, false))
                    }
                })
                .collect();
            if quoted {
                format!("map[string]interface {{}}{{{}}}", fields.join(", "))
            } else {
                format!("map[{}]", fields.join(" "))
            }
        }
        other => other.to_string(),
    }
}
