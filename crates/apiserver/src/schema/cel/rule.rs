//! A rule as a CRD states it.

use super::program::Program;
use serde_json::Value;
use std::sync::{Arc, OnceLock};

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

/// A rule of `x-kubernetes-validations`. Its expressions are parsed when they are first needed.
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
    program: OnceLock<Result<Arc<Program>, String>>,
    message_program: OnceLock<Option<Arc<Program>>>,
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
            ..Self::default()
        }
    }

    pub(super) fn program(&self) -> Result<&Program, &str> {
        let parsed = self.program.get_or_init(|| Program::parse(&self.rule));
        parsed.as_deref().map_err(String::as_str)
    }

    pub(super) fn message_program(&self) -> Option<&Program> {
        if self.message_expression.is_empty() {
            return None;
        }
        let parsed = || Program::parse(&self.message_expression).ok();
        self.message_program.get_or_init(parsed).as_deref()
    }

    /// What the rule is called in errors: its message, or itself.
    pub(super) fn name(&self) -> &str {
        if self.message.is_empty() {
            self.rule.trim()
        } else {
            self.message.trim()
        }
    }

    pub(super) fn fixed_message(&self) -> String {
        if self.message.is_empty() {
            format!("failed rule: {}", self.name())
        } else {
            self.name().to_owned()
        }
    }

    /// `fieldPath` without its dot, in the form that errors have.
    pub(super) fn relative_path(&self) -> Option<String> {
        let path = self.field_path.trim();
        if path.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(path.len());
        let mut rest = path;
        while let Some(at) = rest.find("['") {
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = inner.find("']").unwrap_or(inner.len());
            out.push('.');
            out.push_str(&inner[..end]);
            rest = inner.get(end + 2..).unwrap_or_default();
        }
        out.push_str(rest);
        Some(out.strip_prefix('.').unwrap_or(&out).to_owned())
    }
}
