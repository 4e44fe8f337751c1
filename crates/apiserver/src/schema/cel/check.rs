//! What is wrong with a rule before it has ever run: what a CRD is refused for.

use super::program::Program;
use super::rule::Rule;
use crate::schema::Schema;

/// What checking a rule found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Why the rule cannot be used.
    pub rule_error: Option<String>,
    /// Why the expression for its message cannot be used.
    pub message_error: Option<String>,
    /// Whether it is a transition rule.
    pub uses_old_self: bool,
}

/// Checks a rule for values of this schema. `root` values are whole objects.
pub fn check(rule: &Rule, schema: &Schema, root: bool) -> Checked {
    let _ = (schema, root);
    let mut checked = Checked::default();
    if rule.rule.trim().is_empty() {
        return checked;
    }
    match rule.program() {
        Ok(program) => checked.uses_old_self = program.uses_old_self,
        Err(why) => {
            checked.rule_error = Some(format!("compilation failed: {why}"));
            return checked;
        }
    }
    if !rule.message_expression.is_empty()
        && let Err(why) = Program::parse(&rule.message_expression)
    {
        checked.message_error = Some(format!("messageExpression compilation failed: {why}"));
    }
    checked
}
