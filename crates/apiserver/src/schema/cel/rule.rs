//! A rule as a CRD states it.

use serde_json::Value;

/// Why a rule refuses, as the error's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// `FieldValueInvalid`.
    #[default]
    Invalid,
    /// `FieldValueForbidden`.
    Forbidden,
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueDuplicate`.
    Duplicate,
}

/// A rule of `x-kubernetes-validations`.
#[derive(Debug, Default)]
pub struct Rule {
    /// The expression, which must give true.
    pub rule: String,
    /// What is said when it does not; empty where nothing is given.
    pub message: String,
    /// An expression that gives the message; empty where there is none.
    pub message_expression: String,
    /// The kind of the error.
    pub reason: Reason,
    /// Where the error is, relative to the value, as `.a['b']`; empty for the value itself.
    pub field_path: String,
    /// `oldSelf` is an optional, and the rule is run when there is no old value too.
    pub optional_old_self: bool,
}

impl Rule {
    /// Reads a rule.
    pub fn new(rule: &Value) -> Self {
        let text = |key: &str| {
            rule.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: match text("reason").as_str() {
                "FieldValueForbidden" => Reason::Forbidden,
                "FieldValueRequired" => Reason::Required,
                "FieldValueDuplicate" => Reason::Duplicate,
                _ => Reason::Invalid,
            },
            field_path: text("fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool) == Some(true),
        }
    }
}
