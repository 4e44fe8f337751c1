//! Errors of validation, each at the path of a field, in the words that the real API server uses.

use crate::schema::gotext;
use serde_json::{Value, json};
use std::fmt;

/// A path to a field, as `spec.containers[0].name` or `metadata.labels[app.kubernetes.io/name]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts at the named field.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The named field below this one.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// The item at `index` of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The value of `key` in this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path's text; empty for the object itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field. The names are those of `metav1.CauseType` where one exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A required value is missing.
    Required,
    /// The value is malformed or not allowed.
    Invalid,
    /// The value has the wrong type.
    TypeInvalid,
    /// The value is not one of those supported.
    NotSupported,
    /// Another item has the same value.
    Duplicate,
    /// A value that is given may not be.
    Forbidden,
    /// The text is longer than allowed (counted in bytes or characters, as the rule says).
    TooLong,
    /// The list or map has more items than allowed.
    TooMany,
    /// The list or map has fewer items than required.
    TooFew,
    /// What the value refers to does not exist.
    NotFound,
    /// The server failed to judge the value.
    Internal,
}

impl Kind {
    /// The `reason` of the cause in a Status.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }

    /// Whether the message shows the value.
    fn shows_value(self) -> bool {
        matches!(
            self,
            Self::Invalid
                | Self::TypeInvalid
                | Self::NotSupported
                | Self::Duplicate
                | Self::NotFound
                | Self::TooMany
                | Self::TooFew
        )
    }
}

/// How a message shows the value at fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// As it is.
    #[default]
    Value,
    /// As this text, where the real server has another form of it.
    Text(String),
    /// Not at all.
    Nothing,
}

/// One error of validation.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: Kind,
    /// Where.
    pub path: Path,
    /// The value at fault, shown for the kinds that show one.
    pub value: Value,
    /// What would be right.
    pub detail: String,
    /// How the message shows the value, for the kinds that show one.
    pub shown: Shown,
}

impl FieldError {
    /// An error at `path`.
    pub fn new(kind: Kind, path: &Path, value: &Value, detail: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.clone(),
            value: value.clone(),
            detail: detail.into(),
            shown: Shown::Value,
        }
    }

    /// The same without the value in its message.
    pub fn omitting_value(mut self) -> Self {
        self.shown = Shown::Nothing;
        self
    }

    /// The same with the value shown as `text`.
    pub fn showing(mut self, text: impl Into<String>) -> Self {
        self.shown = Shown::Text(text.into());
        self
    }

    /// A missing value.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Required, path, &Value::Null, detail)
    }

    /// A malformed value.
    pub fn invalid(path: &Path, value: &Value, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, path, value, detail)
    }

    /// A value that may not be given.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, path, &Value::Null, detail)
    }

    /// A value that is there twice.
    pub fn duplicate(path: &Path, value: &Value) -> Self {
        Self::new(Kind::Duplicate, path, value, "")
    }

    /// A text of more than `max` (said to be bytes, as the real server says it of characters too).
    pub fn too_long(path: &Path, max: i64) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max} {unit}");
        Self::new(Kind::TooLong, path, &Value::Null, detail)
    }

    /// A list or map of `actual` items where `max` are allowed.
    pub fn too_many(path: &Path, actual: usize, max: i64) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            Kind::TooMany,
            path,
            &json!(actual),
            format!("must have at most {max} {unit}"),
        )
    }

    /// A value that is not one of `supported`.
    pub fn not_supported(path: &Path, value: &Value, supported: &[&str]) -> Self {
        let mut detail = String::new();
        if !supported.is_empty() {
            let quoted: Vec<String> = supported.iter().map(|s| gotext::quote(s)).collect();
            detail = format!("supported values: {}", quoted.join(", "));
        }
        Self::new(Kind::NotSupported, path, value, detail)
    }

    /// The message without the path, which is what a cause in a Status carries.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if self.kind.shows_value() && self.shown != Shown::Nothing {
            text.push_str(": ");
            match &self.shown {
                Shown::Text(shown) => text.push_str(shown),
                _ => text.push_str(&gotext::shown(&self.value)),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// The cause for `details.causes` of a Status.
    pub fn to_cause(&self) -> Value {
        json!({"reason": self.kind.cause(), "message": self.body(), "field": self.path.to_string()})
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Errors in the order in which they were found.
pub type FieldErrors = Vec<FieldError>;

/// The errors as one text, as the real server joins them: one alone, or several in brackets, each said once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut said: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !said.contains(&text) {
            said.push(text);
        }
    }
    match said.len() {
        1 => said.remove(0),
        _ => format!("[{}]", said.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_real_servers_messages() {
        let spec = Path::new("spec");
        let replicas = FieldError::invalid(
            &spec.child("replicas"),
            &json!(-1),
            "must be greater than or equal to 0",
        );
        assert_eq!(
            replicas.to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        let policy = FieldError::not_supported(&spec.child("p").index(0), &json!("x"), &["A", "B"]);
        assert_eq!(
            policy.to_string(),
            r#"spec.p[0]: Unsupported value: "x": supported values: "A", "B""#
        );
        assert_eq!(
            aggregate(&[replicas.clone(), replicas, FieldError::required(&spec, "")]),
            "[spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec: Required value]"
        );
    }
}
