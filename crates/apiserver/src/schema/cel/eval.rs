//! Evaluation of parsed expressions.

use super::failure::{Failure, Outcome};
use super::value::Val;
use super::{functions, number, special, time};
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// Steps after which an expression is given up: far beyond the real server's cost limit for one rule.
const MAX_STEPS: u32 = 2_000_000;

/// An evaluation: the variables in scope, the inner ones last, and the steps taken.
pub(super) struct Machine<'p, 'a> {
    pub scope: Vec<(&'p str, Outcome<Val<'a>>)>,
    steps: u32,
}

impl<'p, 'a> Machine<'p, 'a> {
    pub fn new() -> Self {
        Self {
            scope: Vec::with_capacity(4),
            steps: 0,
        }
    }

    pub fn is_bound(&self, name: &str) -> bool {
        self.scope.iter().any(|(bound, _)| *bound == name)
    }

    /// Evaluates with a variable bound.
    pub fn with(&mut self, name: &'p str, value: Outcome<Val<'a>>, expr: &'p IdedExpr) -> Outcome<Val<'a>> {
        self.scope.push((name, value));
        let result = self.eval(expr);
        self.scope.pop();
        result
    }

    pub fn eval(&mut self, expr: &'p IdedExpr) -> Outcome<Val<'a>> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Failure::new("operation cancelled: actual cost limit exceeded"));
        }
        match &expr.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let mut items = Vec::with_capacity(list.elements.len());
                for (index, element) in list.elements.iter().enumerate() {
                    let value = self.eval(element)?;
                    match value {
                        Val::Optional(value) if list.optional_indices.contains(&index) => {
                            items.extend(value.map(|value| (*value).clone()));
                        }
                        value => items.push(value),
                    }
                }
                Ok(Val::list(items))
            }
            Expr::Map(map) => {
                let mut entries: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(Failure::no_overload());
                    };
                    let key = self.eval(&entry.key)?;
                    let value = match (self.eval(&entry.value)?, entry.optional) {
                        (Val::Optional(None), true) => continue,
                        (Val::Optional(Some(value)), true) => (*value).clone(),
                        (value, _) => value,
                    };
                    if entries.iter().any(|(there, _)| there.equals(&key)) {
                        return Err(Failure::new("Failed with repeated key"));
                    }
                    entries.push((key, value));
                }
                Ok(Val::Map(Arc::new(entries)))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(_) | Expr::Unspecified => Err(Failure::no_overload()),
        }
    }

    fn ident(&self, name: &str) -> Outcome<Val<'a>> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(bound, _)| *bound == name) {
            return value.clone();
        }
        special::type_named(name)
            .map(Val::Kind)
            .ok_or_else(|| Failure::new(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, select: &'p SelectExpr) -> Outcome<Val<'a>> {
        if let Some(kind) = special::qualified_type(select) {
            return Ok(Val::Kind(kind));
        }
        let operand = self.eval(&select.operand)?;
        if let Val::Optional(inner) = operand {
            let found = match inner {
                Some(inner) => inner.field(&select.field, true)?,
                None => None,
            };
            return Ok(if select.test {
                Val::Bool(found.is_some())
            } else {
                found.map_or(Val::Optional(None), Val::some)
            });
        }
        let found = operand.field(&select.field, true);
        if select.test {
            return match (found, operand.entries()) {
                (Ok(found), _) => Ok(Val::Bool(found.is_some())),
                // A field that is there but of another type than the schema says is there.
                (Err(_), Some(_)) => Ok(Val::Bool(true)),
                (Err(error), None) => Err(error),
            };
        }
        found?.ok_or_else(|| Failure::no_key(&select.field))
    }

    fn call(&mut self, call: &'p CallExpr) -> Outcome<Val<'a>> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, yes, no]) => match self.eval(condition)? {
                Val::Bool(true) => self.eval(yes),
                Val::Bool(false) => self.eval(no),
                _ => Err(Failure::no_overload()),
            },
            (operators::LOGICAL_OR, [left, right]) => self.logic(left, right, true),
            (operators::LOGICAL_AND, [left, right]) => self.logic(left, right, false),
            (operators::NOT_STRICTLY_FALSE, [inner]) => {
                Ok(Val::Bool(!matches!(self.eval(inner), Ok(Val::Bool(false)))))
            }
            (operators::LOGICAL_NOT, [inner]) => match self.eval(inner)? {
                Val::Bool(value) => Ok(Val::Bool(!value)),
                _ => Err(Failure::no_overload()),
            },
            (operators::NEGATE, [inner]) => match self.eval(inner)? {
                Val::Int(value) => value
                    .checked_neg()
                    .map(Val::Int)
                    .ok_or_else(|| Failure::new("integer overflow")),
                Val::Double(value) => Ok(Val::Double(-value)),
                Val::Duration(nanos) => Ok(Val::Duration(nanos.wrapping_neg())),
                _ => Err(Failure::no_overload()),
            },
            (operators::OPT_SELECT, [operand, field]) => {
                let Expr::Literal(LiteralValue::String(field)) = &field.expr else {
                    return Err(Failure::no_overload());
                };
                let found = match self.eval(operand)? {
                    Val::Optional(None) => None,
                    Val::Optional(Some(inner)) => inner.field(field.inner(), true)?,
                    operand => operand.field(field.inner(), true)?,
                };
                Ok(found.map_or(Val::Optional(None), Val::some))
            }
            (operators::INDEX | operators::OPT_INDEX, [operand, index]) => {
                let (operand, index) = (self.eval(operand)?, self.eval(index)?);
                indexed(&operand, &index, name == operators::OPT_INDEX)
            }
            (_, [left, right]) if is_binary(name) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                binary(name, &left, &right)
            }
            _ => match special::call(self, call) {
                Some(result) => result,
                None => functions::call(self, call),
            },
        }
    }

    /// `||` where `decisive` is true, `&&` where it is false: an error on one side does not count when the other
    /// side decides.
    fn logic(&mut self, left: &'p IdedExpr, right: &'p IdedExpr, decisive: bool) -> Outcome<Val<'a>> {
        let left = boolean(self.eval(left));
        if left == Ok(decisive) {
            return Ok(Val::Bool(decisive));
        }
        let right = boolean(self.eval(right));
        if right == Ok(decisive) {
            return Ok(Val::Bool(decisive));
        }
        left.and(right).map(Val::Bool)
    }

    fn comprehension(&mut self, comprehension: &'p ComprehensionExpr) -> Outcome<Val<'a>> {
        let range = self.eval(&comprehension.iter_range)?;
        let items = special::iterated(&range)?;
        let accu = self.eval(&comprehension.accu_init);
        self.scope.push((&comprehension.accu_var, accu));
        let place = self.scope.len() - 1;
        for item in items {
            let goes_on = self.eval(&comprehension.loop_cond);
            if matches!(goes_on, Ok(Val::Bool(false))) {
                break;
            }
            self.scope.push((&comprehension.iter_var, item));
            let next = self.step(&comprehension.loop_step, place);
            self.scope.pop();
            if let Some(next) = next {
                let over = self.steps > MAX_STEPS;
                self.scope[place].1 = next;
                if over {
                    break;
                }
            }
        }
        let result = self.eval(&comprehension.result);
        self.scope.pop();
        result
    }

    /// One step of a comprehension; none where the accumulator stays or was added to in place.
    fn step(&mut self, expr: &'p IdedExpr, place: usize) -> Option<Outcome<Val<'a>>> {
        let accu = self.scope[place].0;
        let is_accu = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if name == accu);
        if is_accu(expr) {
            return None;
        }
        if let Expr::Call(call) = &expr.expr {
            match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::CONDITIONAL, [condition, yes, no]) => {
                    return match self.eval(condition) {
                        Ok(Val::Bool(true)) => self.step(yes, place),
                        Ok(Val::Bool(false)) => self.step(no, place),
                        Ok(_) => Some(Err(Failure::no_overload())),
                        Err(error) => Some(Err(error)),
                    };
                }
                (operators::ADD, [list, more])
                    if is_accu(list) && matches!(self.scope[place].1, Ok(Val::List(_))) =>
                {
                    let more = match self.eval(more) {
                        Ok(Val::List(more)) => more,
                        Ok(_) => return Some(Err(Failure::no_overload())),
                        Err(error) => return Some(Err(error)),
                    };
                    if let Ok(Val::List(items)) = &mut self.scope[place].1 {
                        Arc::make_mut(items).extend(more.iter().cloned());
                        return None;
                    }
                }
                _ => {}
            }
        }
        Some(self.eval(expr))
    }
}

fn of_literal<'a>(literal: &LiteralValue) -> Val<'a> {
    match literal {
        LiteralValue::Null => Val::Null,
        LiteralValue::Boolean(value) => Val::Bool(*value.inner()),
        LiteralValue::Int(value) => Val::Int(*value.inner()),
        LiteralValue::UInt(value) => Val::Uint(*value.inner()),
        LiteralValue::Double(value) => Val::Double(*value.inner()),
        LiteralValue::String(text) => Val::text(text.inner()),
        LiteralValue::Bytes(bytes) => Val::Bytes(bytes.inner().into()),
    }
}

fn boolean(value: Outcome<Val<'_>>) -> Outcome<bool> {
    match value? {
        Val::Bool(value) => Ok(value),
        _ => Err(Failure::no_overload()),
    }
}

fn indexed<'a>(operand: &Val<'a>, index: &Val<'a>, optional: bool) -> Outcome<Val<'a>> {
    let (found, optional) = match operand {
        Val::Optional(None) => (None, true),
        Val::Optional(Some(inner)) => (inner.at(index)?, true),
        operand => (operand.at(index)?, optional),
    };
    match (found, optional) {
        (found, true) => Ok(found.map_or(Val::Optional(None), Val::some)),
        (Some(found), false) => Ok(found),
        (None, false) => Err(match index {
            Val::Text(key) => Failure::no_key(key),
            Val::Int(index) if operand.kind() == "list" => {
                Failure::new(format!("index out of bounds: {index}"))
            }
            other => Failure::no_key(&functions::text_of(other).unwrap_or_default()),
        }),
    }
}

fn is_binary(name: &str) -> bool {
    matches!(
        name,
        operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::IN
    )
}

fn binary<'a>(name: &str, left: &Val<'a>, right: &Val<'a>) -> Outcome<Val<'a>> {
    let ordered = |holds: fn(Ordering) -> bool| {
        number::order(left, right).map(|ordering| Val::Bool(ordering.is_some_and(holds)))
    };
    match name {
        operators::EQUALS => Ok(Val::Bool(left.equals(right))),
        operators::NOT_EQUALS => Ok(Val::Bool(!left.equals(right))),
        operators::LESS => ordered(Ordering::is_lt),
        operators::LESS_EQUALS => ordered(Ordering::is_le),
        operators::GREATER => ordered(Ordering::is_gt),
        operators::GREATER_EQUALS => ordered(Ordering::is_ge),
        operators::ADD => added(left, right),
        operators::SUBSTRACT => subtracted(left, right),
        operators::MULTIPLY => arithmetic('*', left, right),
        operators::DIVIDE => arithmetic('/', left, right),
        operators::MODULO => arithmetic('%', left, right),
        _ => contained(left, right),
    }
}

fn arithmetic<'a>(operator: char, left: &Val<'a>, right: &Val<'a>) -> Outcome<Val<'a>> {
    number::arithmetic(operator, left, right).unwrap_or_else(|| Err(Failure::no_overload()))
}

fn added<'a>(left: &Val<'a>, right: &Val<'a>) -> Outcome<Val<'a>> {
    match (left, right) {
        (Val::Text(left), Val::Text(right)) => Ok(Val::text(format!("{left}{right}"))),
        (Val::Bytes(left), Val::Bytes(right)) => Ok(Val::Bytes([&left[..], &right[..]].concat().into())),
        (Val::Duration(left), Val::Duration(right)) => left
            .checked_add(*right)
            .map(Val::Duration)
            .ok_or_else(|| Failure::new("duration overflow")),
        (Val::Time(at), Val::Duration(nanos)) | (Val::Duration(nanos), Val::Time(at)) => {
            time::moved(*at, *nanos).map(Val::Time)
        }
        _ => match (left.items(), right.items()) {
            (Some(left), Some(right)) => {
                let mut items = left?;
                items.extend(right?);
                Ok(Val::list(items))
            }
            _ => arithmetic('+', left, right),
        },
    }
}

fn subtracted<'a>(left: &Val<'a>, right: &Val<'a>) -> Outcome<Val<'a>> {
    match (left, right) {
        (Val::Duration(left), Val::Duration(right)) => left
            .checked_sub(*right)
            .map(Val::Duration)
            .ok_or_else(|| Failure::new("duration overflow")),
        (Val::Time(at), Val::Duration(nanos)) => time::moved(*at, nanos.wrapping_neg()).map(Val::Time),
        (Val::Time(left), Val::Time(right)) => time::between(*right, *left).map(Val::Duration),
        _ => arithmetic('-', left, right),
    }
}

fn contained<'a>(item: &Val<'a>, container: &Val<'a>) -> Outcome<Val<'a>> {
    if let Some(items) = container.items() {
        return Ok(Val::Bool(items?.iter().any(|there| there.equals(item))));
    }
    match (container, item) {
        (Val::Object(..), Val::Text(key)) => Ok(Val::Bool(match container.field(key, true) {
            Ok(found) => found.is_some(),
            Err(_) => true,
        })),
        (Val::Map(_), key) => Ok(Val::Bool(container.at(key)?.is_some())),
        (Val::Object(..), _) => Ok(Val::Bool(false)),
        _ => Err(Failure::no_overload()),
    }
}
