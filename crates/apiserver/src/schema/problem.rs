//! What is wrong with a value, in the two forms that the real server has of it: the sentence of its OpenAPI
//! validator, by which equal findings are told apart, and the field error that a client sees.

use super::gotext;
use crate::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::{Value, json};

/// A finding of the OpenAPI validator.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// The path as the validator writes it: empty for the root, with a dot before keys of a map at the root.
    pub name: String,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Required,
    /// The type wanted, and the name of the type that is there or (for formats) the text at fault.
    Type(String, Value),
    TooLong(i64),
    TooShort(i64, Value),
    Pattern(String, Value),
    /// The values allowed and the one that is there.
    Enum(Vec<Value>, Value),
    MultipleOf(String, Value),
    MultipleOfNotPositive(String),
    /// How the bound reads, as `less than or equal to 5`, and the value.
    Bound(String, Value),
    Duplicates,
    TooManyItems(i64, usize),
    TooFewItems(i64, usize),
    TooManyProperties(i64, usize),
    TooFewProperties(i64, usize),
    Unallowed(String),
    /// A sentence that names no field.
    Sentence(String),
}

impl Problem {
    /// The validator's sentence.
    pub fn text(&self) -> String {
        let name = &self.name;
        match &self.what {
            What::Required => format!("{name} in body is required"),
            What::Type(wanted, there) => {
                let shown = there.as_str().map(gotext::quote).unwrap_or_default();
                format!("{name} in body must be of type {wanted}: {shown}")
            }
            What::TooLong(max) => format!("{name} in body should be at most {max} chars long"),
            What::TooShort(min, _) => format!("{name} in body should be at least {min} chars long"),
            What::Pattern(pattern, _) => format!("{name} in body should match '{pattern}'"),
            What::Enum(values, _) => {
                let shown: Vec<String> = values.iter().map(plain).collect();
                format!("{name} in body should be one of [{}]", shown.join(" "))
            }
            What::MultipleOf(factor, _) => format!("{name} in body should be a multiple of {factor}"),
            What::MultipleOfNotPositive(factor) => {
                format!("factor MultipleOf declared for {name} must be positive: {factor}")
            }
            What::Bound(bound, _) => format!("{name} in body should be {bound}"),
            What::Duplicates => format!("{name} in body shouldn't contain duplicates"),
            What::TooManyItems(max, _) => format!("{name} in body should have at most {max} items"),
            What::TooFewItems(min, _) => format!("{name} in body should have at least {min} items"),
            What::TooManyProperties(max, _) => format!("{name} in body should have at most {max} properties"),
            What::TooFewProperties(min, _) => format!("{name} in body should have at least {min} properties"),
            What::Unallowed(key) => format!("{name}.{key} in body is a forbidden property"),
            What::Sentence(text) => text.clone(),
        }
    }

    /// The field error, below `base`.
    pub fn to_error(&self, base: &Path) -> FieldError {
        let name = self.name.strip_prefix('.').unwrap_or(&self.name);
        let path = if name.is_empty() {
            base.clone()
        } else {
            base.child(name)
        };
        let empty = json!("");
        match &self.what {
            What::Required => FieldError::required(&path, ""),
            What::Enum(values, there) => {
                let texts: Vec<String> = values.iter().map(plain).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                FieldError::not_supported(&path, there, &texts)
            }
            What::TooLong(max) => FieldError::too_long(&path, *max),
            What::TooManyItems(max, actual) | What::TooManyProperties(max, actual) => {
                FieldError::too_many(&path, *actual, *max)
            }
            What::Type(_, there) => FieldError::new(Kind::TypeInvalid, &path, there, self.text()),
            What::TooShort(_, value)
            | What::Pattern(_, value)
            | What::MultipleOf(_, value)
            | What::Bound(_, value) => FieldError::invalid(&path, value, self.text()),
            What::MultipleOfNotPositive(factor) => {
                let value = factor.parse::<f64>().map_or(Value::Null, |f| json!(f));
                FieldError::invalid(&path, &value, self.text())
            }
            What::Unallowed(key) => FieldError::invalid(&path, &json!(key), self.text()),
            What::TooFewItems(_, actual) | What::TooFewProperties(_, actual) => {
                FieldError::invalid(&path, &json!(actual), self.text())
            }
            What::Duplicates => FieldError::invalid(&path, &empty, self.text()),
            What::Sentence(text) => FieldError::invalid(base, &empty, text.clone()),
        }
    }
}

/// A value of an enum: texts as they are, others as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Findings in order, each sentence once.
#[derive(Debug, Default)]
pub(super) struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        let text = problem.text();
        if self.0.iter().all(|known| known.text() != text) {
            self.0.push(problem);
        }
    }

    pub fn append(&mut self, other: Self) {
        for problem in other.0 {
            self.push(problem);
        }
    }

    pub fn to_errors(&self, base: &Path, errors: &mut FieldErrors) {
        errors.extend(self.0.iter().map(|problem| problem.to_error(base)));
    }
}
