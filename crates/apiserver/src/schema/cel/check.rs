//! What is wrong with a rule before it has ever run, which is what a CRD is refused for: fields and functions that
//! do not exist, operators on types they do not have, a result that is not a bool.
//!
//! The checker finds what cel-go's would find in the expressions that people write; where a type is not simple to
//! tell, it takes it as fitting, and the error shows when the rule is run.

use super::places::Places;
use super::program::{Program, located};
use super::rule::Rule;
use super::types::Ty;
use super::{functions, signatures, special};
use crate::schema::{Schema, formats, pattern};
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators,
};
use std::sync::Arc;

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
    let mut checked = Checked::default();
    if rule.rule.trim().is_empty() {
        return checked;
    }
    let whole;
    let schema = if root && !schema.embedded {
        whole = Schema {
            embedded: true,
            ..schema.clone()
        };
        &whole
    } else {
        schema
    };
    match rule.program() {
        Ok(program) => checked.uses_old_self = program.uses_old_self,
        Err(why) => {
            checked.rule_error = Some(format!("compilation failed: {why}"));
            return checked;
        }
    }
    match rule
        .program()
        .map(|program| infer(program, &rule.rule, schema, rule))
    {
        Ok(Err(why)) => checked.rule_error = Some(format!("compilation failed: {why}")),
        Ok(Ok(ty)) if !matches!(ty, Ty::Bool | Ty::Dyn) => {
            checked.rule_error = Some("cel expression must evaluate to a bool".to_owned());
        }
        _ => {}
    }
    if checked.rule_error.is_some() || rule.message_expression.is_empty() {
        return checked;
    }
    let message = Program::parse(&rule.message_expression);
    let gives_text = |program: Arc<Program>| {
        let ty = infer(&program, &rule.message_expression, schema, rule)?;
        Ok(matches!(ty, Ty::Text | Ty::Dyn))
    };
    checked.message_error = match message.and_then(gives_text) {
        Ok(true) => None,
        Ok(false) => Some("messageExpression must evaluate to a string".to_owned()),
        Err(why) => Some(format!("messageExpression compilation failed: {why}")),
    };
    checked
}

fn infer<'a>(program: &Program, source: &str, schema: &'a Schema, rule: &Rule) -> Result<Ty<'a>, String> {
    let this = Ty::of(schema, "selfType").unwrap_or(Ty::Dyn);
    let old = if rule.optional_old_self {
        Ty::Optional(Box::new(this.clone()))
    } else {
        this.clone()
    };
    let mut checker = Checker {
        scope: vec![("oldSelf".to_owned(), old), ("self".to_owned(), this)],
        places: Places::new(source),
        errors: Vec::new(),
        mixed: false,
    };
    let ty = checker.ty(&program.expr);
    if checker.errors.is_empty() {
        return Ok(ty);
    }
    let mut errors = checker.errors;
    errors.sort_by_key(|(place, _)| *place);
    let said: Vec<String> = errors
        .iter()
        .map(|(place, message)| located(source, checker.places.position(*place), message))
        .collect();
    Err(said.join("\n"))
}

struct Checker<'a, 's> {
    scope: Vec<(String, Ty<'a>)>,
    places: Places<'s>,
    errors: Vec<(usize, String)>,
    /// Lists may hold values of several types: the arguments of `format`.
    mixed: bool,
}

/// The parser's name for what a macro accumulates.
const ACCUMULATED: &str = "@result";

fn is_accumulator(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Ident(name) => name == ACCUMULATED,
        Expr::Call(call) => {
            matches!(
                call.func_name.as_str(),
                operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE
            ) && call.args.iter().any(is_accumulator)
        }
        _ => false,
    }
}

impl<'a> Checker<'a, '_> {
    fn fail(&mut self, place: usize, message: String) -> Ty<'a> {
        self.errors.push((place, message));
        Ty::Dyn
    }

    fn no_overload(&mut self, place: usize, name: &str, args: &[&Ty<'a>]) -> Ty<'a> {
        let shown: Vec<String> = args.iter().map(ToString::to_string).collect();
        let shown = shown.join(", ");
        self.fail(
            place,
            format!("found no matching overload for '{name}' applied to '({shown})'"),
        )
    }

    fn ty(&mut self, expr: &IdedExpr) -> Ty<'a> {
        match &expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Null => Ty::Null,
                LiteralValue::Boolean(_) => Ty::Bool,
                LiteralValue::Int(_) => Ty::Int,
                LiteralValue::UInt(_) => Ty::Uint,
                LiteralValue::Double(_) => Ty::Double,
                LiteralValue::String(_) => Ty::Text,
                LiteralValue::Bytes(_) => Ty::Bytes,
            },
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => {
                let mut items: Option<Ty<'a>> = None;
                for (index, element) in list.elements.iter().enumerate() {
                    let place = literal_place(&mut self.places, element);
                    let ty = match (self.ty(element), list.optional_indices.contains(&index)) {
                        (Ty::Optional(inner), true) => *inner,
                        (ty, _) => ty,
                    };
                    match &items {
                        Some(first) if !first.fits(&ty) && !self.mixed => {
                            let message = format!("expected type '{first}' but found '{ty}'");
                            self.fail(place.unwrap_or(0), message);
                        }
                        Some(_) => {}
                        None => items = Some(ty),
                    }
                }
                Ty::List(Box::new(items.unwrap_or(Ty::Dyn)))
            }
            Expr::Map(map) => {
                let mut first = None;
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let key = self.ty(&entry.key);
                        let value = self.ty(&entry.value);
                        first.get_or_insert((key, value));
                    }
                }
                let (key, value) = first.unwrap_or((Ty::Dyn, Ty::Dyn));
                Ty::Map(Box::new(key), Box::new(value))
            }
            Expr::Struct(inner) => {
                let message = format!("undeclared reference to '{}' (in container '')", inner.type_name);
                self.fail(0, message)
            }
            Expr::Unspecified => Ty::Dyn,
        }
    }

    fn ident(&mut self, name: &str) -> Ty<'a> {
        if name == ACCUMULATED {
            return Ty::Dyn;
        }
        let place = self.places.next(name);
        if let Some((_, ty)) = self.scope.iter().rev().find(|(bound, _)| bound == name) {
            return ty.clone();
        }
        if special::type_named(name).is_some() {
            return Ty::Kind;
        }
        self.fail(
            place,
            format!("undeclared reference to '{name}' (in container '')"),
        )
    }

    fn select(&mut self, select: &SelectExpr) -> Ty<'a> {
        if special::qualified_type(select).is_some() {
            return Ty::Kind;
        }
        let macro_place = select.test.then(|| self.places.call("has"));
        let operand = self.ty(&select.operand);
        let dot = self.places.dot(&select.field);
        let place = macro_place.unwrap_or(dot);
        let ty = self.field(&operand, &select.field, place);
        if select.test { Ty::Bool } else { ty }
    }

    fn field(&mut self, operand: &Ty<'a>, field: &str, place: usize) -> Ty<'a> {
        match operand {
            Ty::Dyn => Ty::Dyn,
            Ty::Optional(inner) => {
                let ty = self.field(inner, field, place);
                Ty::Optional(Box::new(ty))
            }
            Ty::Object(..) | Ty::Map(..) => match operand.field(field) {
                Some(ty) => ty,
                None => self.fail(place, format!("undefined field '{field}'")),
            },
            other => {
                let message = format!("type '{other}' does not support field selection");
                self.fail(place, message)
            }
        }
    }

    fn comprehension(&mut self, inner: &ComprehensionExpr) -> Ty<'a> {
        let range = self.ty(&inner.iter_range);
        let place = self.places.call(macro_name(inner));
        // The variable stands in the text where the macro declares it.
        self.places.next(&inner.iter_var);
        let item = match &range {
            Ty::List(items) => (**items).clone(),
            Ty::Map(keys, _) => (**keys).clone(),
            Ty::Object(..) => Ty::Text,
            Ty::Dyn => Ty::Dyn,
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return self.fail(place, message);
            }
        };
        self.scope.push((inner.iter_var.clone(), item));
        let step = self.step(&inner.loop_step, place);
        self.scope.pop();
        match &inner.accu_init.expr {
            Expr::Literal(LiteralValue::Boolean(_) | LiteralValue::Int(_)) => Ty::Bool,
            _ => match step {
                Ty::List(items) => Ty::List(items),
                _ => Ty::List(Box::new(Ty::Dyn)),
            },
        }
    }

    /// What a macro does in each round, without what it adds of its own.
    fn step(&mut self, expr: &IdedExpr, place: usize) -> Ty<'a> {
        let Expr::Call(call) = &expr.expr else {
            return self.ty(expr);
        };
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [accu, body]) if is_accumulator(accu) => {
                let ty = self.ty(body);
                if !matches!(ty, Ty::Bool | Ty::Dyn) {
                    self.no_overload(place, &call.func_name, &[&Ty::Bool, &ty]);
                }
                Ty::Bool
            }
            (operators::ADD, [accu, body]) if is_accumulator(accu) => self.ty(body),
            (operators::CONDITIONAL, [condition, yes, _]) => {
                let condition = self.ty(condition);
                let result = self.step(yes, place);
                if !matches!(condition, Ty::Bool | Ty::Dyn) {
                    return self.no_overload(place, operators::CONDITIONAL, &[&condition, &result, &result]);
                }
                result
            }
            _ if call.args.iter().any(is_accumulator) => Ty::Dyn,
            _ => self.ty(expr),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Ty<'a> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.ty(condition);
                let place = self.places.next("?");
                let (yes, no) = (self.ty(yes), self.ty(no));
                if !matches!(condition, Ty::Bool | Ty::Dyn) || !yes.fits(&no) {
                    return self.no_overload(place, name, &[&condition, &yes, &no]);
                }
                if yes.is_dyn() { no } else { yes }
            }
            (operators::LOGICAL_NOT, [inner]) => {
                self.unary("!", name, inner, |ty| matches!(ty, Ty::Bool | Ty::Dyn))
            }
            (operators::NEGATE, [inner]) => self.unary("-", name, inner, |ty| {
                matches!(ty, Ty::Int | Ty::Double | Ty::Dyn)
            }),
            (operators::OPT_SELECT, [operand, field]) => {
                let operand = self.ty(operand);
                let Expr::Literal(LiteralValue::String(field)) = &field.expr else {
                    return Ty::Dyn;
                };
                let place = self.places.dot(field.inner());
                match self.field(&operand, field.inner(), place) {
                    ty @ Ty::Optional(_) => ty,
                    ty => Ty::Optional(Box::new(ty)),
                }
            }
            (operators::INDEX | operators::OPT_INDEX, [operand, index]) => {
                let operand = self.ty(operand);
                self.ty(index);
                let ty = match operand {
                    Ty::List(items) | Ty::Map(_, items) => *items,
                    _ => Ty::Dyn,
                };
                if name == operators::OPT_INDEX {
                    Ty::Optional(Box::new(ty))
                } else {
                    ty
                }
            }
            (_, [left, right]) if symbol(name).is_some() => self.binary(name, left, right),
            _ => self.function(call),
        }
    }

    fn unary(&mut self, sign: &str, name: &str, inner: &IdedExpr, good: fn(&Ty<'_>) -> bool) -> Ty<'a> {
        let place = self.places.next(sign);
        let ty = self.ty(inner);
        if good(&ty) {
            return ty;
        }
        self.no_overload(place, name, &[&ty])
    }

    fn binary(&mut self, name: &str, left: &IdedExpr, right: &IdedExpr) -> Ty<'a> {
        let left = self.ty(left);
        let place = symbol(name).map_or(0, |sign| self.places.next(sign));
        let right = self.ty(right);
        let either_dyn = left.is_dyn() || right.is_dyn();
        let (good, result) = match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR => {
                let bool_like = |ty: &Ty<'_>| matches!(ty, Ty::Bool | Ty::Dyn);
                (bool_like(&left) && bool_like(&right), Ty::Bool)
            }
            operators::EQUALS | operators::NOT_EQUALS => (left.fits(&right), Ty::Bool),
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
                let ordered = left.is_number() && right.is_number()
                    || left.fits(&right)
                        && matches!(
                            left,
                            Ty::Dyn | Ty::Text | Ty::Bytes | Ty::Bool | Ty::Duration | Ty::Time
                        );
                (ordered || either_dyn, Ty::Bool)
            }
            operators::IN => match &right {
                Ty::List(items) => (items.fits(&left), Ty::Bool),
                Ty::Map(keys, _) => (keys.fits(&left), Ty::Bool),
                Ty::Object(..) => (matches!(left, Ty::Text | Ty::Dyn), Ty::Bool),
                other => (other.is_dyn(), Ty::Bool),
            },
            _ => arithmetic(name, &left, &right),
        };
        if good {
            result
        } else {
            self.no_overload(place, name, &[&left, &right])
        }
    }

    fn function(&mut self, call: &CallExpr) -> Ty<'a> {
        let name = call.func_name.as_str();
        let macros = [
            "optMap",
            "optFlatMap",
            "sortBy",
            "transformList",
            "transformMap",
            "transformMapEntry",
        ];
        let two_variables = matches!(name, "all" | "exists" | "exists_one" | "existsOne");
        let space = match call.target.as_deref().map(|target| &target.expr) {
            Some(Expr::Ident(space)) if !self.scope.iter().any(|(bound, _)| bound == space) => {
                functions::SPACES.contains(&space.as_str())
            }
            _ => false,
        };
        if macros.contains(&name) || two_variables {
            // These bind names; what they do is seen when they run.
            return Ty::Dyn;
        }
        let target = match &call.target {
            Some(target) if !space => Some(self.ty(target)),
            _ => None,
        };
        let place = self.places.call(name);
        if let Some(bad) = bad_literal(name, &call.args) {
            let place = self.places.find_quoted(bad).unwrap_or(place);
            return self.fail(place, format!("invalid {name} argument"));
        }
        self.mixed = name == "format";
        let args: Vec<Ty<'a>> = call.args.iter().map(|arg| self.ty(arg)).collect();
        self.mixed = false;
        if let Some(message) = too_many_formatted(call) {
            return self.fail(place, message);
        }
        let Some(result) = signatures::result(name) else {
            return self.fail(
                place,
                format!("undeclared reference to '{name}' (in container '')"),
            );
        };
        if space {
            return result;
        }
        if let ("value" | "orValue", Some(Ty::Optional(inner))) = (name, &target) {
            return (**inner).clone();
        }
        if signatures::accepts(name, target.as_ref(), &args) {
            return result;
        }
        let shown: Vec<String> = args.iter().map(ToString::to_string).collect();
        let target = target.map(|target| format!("{target}.")).unwrap_or_default();
        let message = format!(
            "found no matching overload for '{name}' applied to '{target}({})'",
            shown.join(", ")
        );
        self.fail(place, message)
    }
}

/// A literal that its function can never take.
fn bad_literal<'e>(name: &str, args: &'e [IdedExpr]) -> Option<&'e str> {
    let [
        IdedExpr {
            expr: Expr::Literal(LiteralValue::String(text)),
            ..
        },
    ] = args
    else {
        return None;
    };
    let text = text.inner();
    let good = match name {
        "duration" => formats::go_duration_nanos(text).is_some(),
        "timestamp" => text.parse::<jiff::Timestamp>().is_ok(),
        "matches" => pattern::compile(text).is_ok(),
        _ => true,
    };
    (!good).then_some(text)
}

/// What is wrong where a literal format is given more values than it has places.
fn too_many_formatted(call: &CallExpr) -> Option<String> {
    let Expr::Literal(LiteralValue::String(format)) = &call.target.as_ref()?.expr else {
        return None;
    };
    let [
        IdedExpr {
            expr: Expr::List(list),
            ..
        },
    ] = call.args.as_slice()
    else {
        return None;
    };
    let wanted = format.inner().replace("%%", "").matches('%').count();
    let given = list.elements.len();
    (call.func_name == "format" && given > wanted)
        .then(|| format!("too many arguments supplied to string.format (expected {wanted}, got {given})"))
}

/// The macro that a comprehension was written as.
fn macro_name(inner: &ComprehensionExpr) -> &'static str {
    let Expr::Call(step) = &inner.loop_step.expr else {
        return "map";
    };
    match (step.func_name.as_str(), &inner.accu_init.expr) {
        (operators::LOGICAL_AND, _) => "all",
        (operators::LOGICAL_OR, _) => "exists",
        (_, Expr::Literal(_)) => "exists_one",
        (operators::CONDITIONAL, _) => {
            let keeps = step.args.get(1).is_some_and(|yes| match &yes.expr {
                Expr::Call(add) => add.args.get(1).is_some_and(|list| match &list.expr {
                    Expr::List(list) => list
                        .elements
                        .iter()
                        .all(|item| matches!(&item.expr, Expr::Ident(name) if *name == inner.iter_var)),
                    _ => false,
                }),
                _ => false,
            });
            if keeps { "filter" } else { "map" }
        }
        _ => "map",
    }
}

fn literal_place(places: &mut Places<'_>, expr: &IdedExpr) -> Option<usize> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => places.find_quoted(text.inner()),
        Expr::Literal(LiteralValue::Int(value)) => Some(places.next(&value.inner().to_string())),
        _ => None,
    }
}

fn symbol(name: &str) -> Option<&'static str> {
    Some(match name {
        operators::LOGICAL_AND => "&&",
        operators::LOGICAL_OR => "||",
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::LESS => "<",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::GREATER_EQUALS => ">=",
        operators::ADD => "+",
        operators::SUBSTRACT => "-",
        operators::MULTIPLY => "*",
        operators::DIVIDE => "/",
        operators::MODULO => "%",
        operators::IN => "in",
        _ => return None,
    })
}

fn arithmetic<'a>(name: &str, left: &Ty<'a>, right: &Ty<'a>) -> (bool, Ty<'a>) {
    let result = match (left, right) {
        (Ty::Dyn, _) | (_, Ty::Dyn) => Ty::Dyn,
        (Ty::Int, Ty::Int) => Ty::Int,
        (Ty::Uint, Ty::Uint) => Ty::Uint,
        (Ty::Double, Ty::Double) if name != operators::MODULO => Ty::Double,
        (Ty::Text, Ty::Text) if name == operators::ADD => Ty::Text,
        (Ty::Bytes, Ty::Bytes) if name == operators::ADD => Ty::Bytes,
        (Ty::List(a), Ty::List(b)) if name == operators::ADD && a.fits(b) => left.clone(),
        (Ty::Duration, Ty::Duration) if name == operators::ADD || name == operators::SUBSTRACT => {
            Ty::Duration
        }
        (Ty::Time, Ty::Duration) if name == operators::ADD || name == operators::SUBSTRACT => Ty::Time,
        (Ty::Duration, Ty::Time) if name == operators::ADD => Ty::Time,
        (Ty::Time, Ty::Time) if name == operators::SUBSTRACT => Ty::Duration,
        _ => return (false, Ty::Dyn),
    };
    (true, result)
}
