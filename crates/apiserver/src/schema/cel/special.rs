//! What looks like a call but binds names or is a type: macros that the parser does not expand, names of types.

use super::eval::Machine;
use super::failure::{Failure, Outcome};
use super::value::Val;
use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr, SelectExpr};
use std::sync::Arc;

/// The type that an identifier names.
pub(super) fn type_named(name: &str) -> Option<&'static str> {
    [
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "optional_type",
    ]
    .into_iter()
    .find(|known| *known == name)
}

/// The type that a qualified name means.
pub(super) fn qualified_type(select: &SelectExpr) -> Option<&'static str> {
    let Expr::Select(middle) = &select.operand.expr else {
        return None;
    };
    let Expr::Ident(first) = &middle.operand.expr else {
        return None;
    };
    match (first.as_str(), middle.field.as_str(), select.field.as_str()) {
        ("google", "protobuf", "Duration") => Some("google.protobuf.Duration"),
        ("google", "protobuf", "Timestamp") => Some("google.protobuf.Timestamp"),
        _ => None,
    }
}

/// What a comprehension over a value goes through: items of a list, keys of a map.
pub(super) fn iterated<'a>(range: &Val<'a>) -> Outcome<Vec<Outcome<Val<'a>>>> {
    if let Some(items) = range.items() {
        return Ok(items?.into_iter().map(Ok).collect());
    }
    match range.entries() {
        Some(entries) => Ok(entries.into_iter().map(|(key, _)| Ok(key)).collect()),
        None => Err(Failure::no_overload()),
    }
}

/// The pairs that a comprehension of two variables goes through: index and item, key and value.
fn pairs<'a>(range: &Val<'a>) -> Outcome<Vec<(Val<'a>, Outcome<Val<'a>>)>> {
    if let Some(items) = range.items() {
        return Ok((0..).map(Val::Int).zip(items?.into_iter().map(Ok)).collect());
    }
    range.entries().ok_or_else(Failure::no_overload)
}

fn name(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

/// Evaluates a macro; none where the call is not one.
pub(super) fn call<'p, 'a>(machine: &mut Machine<'p, 'a>, call: &'p CallExpr) -> Option<Outcome<Val<'a>>> {
    let target = call.target.as_deref()?;
    match (call.func_name.as_str(), call.args.as_slice()) {
        ("optMap" | "optFlatMap", [variable, body]) => {
            let variable = name(variable)?;
            Some(match machine.eval(target) {
                Ok(Val::Optional(None)) => Ok(Val::Optional(None)),
                Ok(Val::Optional(Some(value))) => {
                    let result = machine.with(variable, Ok((*value).clone()), body);
                    if call.func_name == "optMap" {
                        result.map(Val::some)
                    } else {
                        result
                    }
                }
                Ok(_) => Err(Failure::no_overload()),
                Err(error) => Err(error),
            })
        }
        ("sortBy", [variable, key]) => {
            let variable = name(variable)?;
            Some(sorted(machine, target, variable, key))
        }
        ("all" | "exists" | "exists_one" | "existsOne", [first, second, body]) => {
            let names = (name(first)?, name(second)?);
            Some(quantified(machine, call, target, names, body))
        }
        ("transformList" | "transformMap" | "transformMapEntry", [first, second, rest @ ..])
            if matches!(rest.len(), 1 | 2) =>
        {
            let names = (name(first)?, name(second)?);
            Some(transformed(machine, call, target, names, rest))
        }
        _ => None,
    }
}

fn sorted<'p, 'a>(
    machine: &mut Machine<'p, 'a>,
    target: &'p IdedExpr,
    variable: &'p str,
    key: &'p IdedExpr,
) -> Outcome<Val<'a>> {
    let items = machine.eval(target)?.items().ok_or_else(Failure::no_overload)??;
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        keyed.push((machine.with(variable, Ok(item.clone()), key)?, item));
    }
    let mut failure = None;
    keyed.sort_by(|(a, _), (b, _)| match super::number::order(a, b) {
        Ok(ordering) => ordering.unwrap_or(std::cmp::Ordering::Equal),
        Err(error) => {
            failure = Some(error);
            std::cmp::Ordering::Equal
        }
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(Val::list(keyed.into_iter().map(|(_, item)| item).collect())),
    }
}

fn each<'p, 'a>(
    machine: &mut Machine<'p, 'a>,
    names: (&'p str, &'p str),
    pair: (Val<'a>, Outcome<Val<'a>>),
    body: &'p IdedExpr,
) -> Outcome<Val<'a>> {
    machine.scope.push((names.0, Ok(pair.0)));
    let result = machine.with(names.1, pair.1, body);
    machine.scope.pop();
    result
}

fn quantified<'p, 'a>(
    machine: &mut Machine<'p, 'a>,
    call: &'p CallExpr,
    target: &'p IdedExpr,
    names: (&'p str, &'p str),
    body: &'p IdedExpr,
) -> Outcome<Val<'a>> {
    let all = call.func_name == "all";
    let one = call.func_name.starts_with("exists") && call.func_name != "exists";
    let mut count = 0;
    let mut failure = None;
    let range = machine.eval(target)?;
    for pair in pairs(&range)? {
        match each(machine, names, pair, body) {
            Ok(Val::Bool(holds)) if one => count += usize::from(holds),
            Ok(Val::Bool(holds)) if holds != all => return Ok(Val::Bool(holds)),
            Ok(Val::Bool(_)) => {}
            Ok(_) => failure = Some(Failure::no_overload()),
            Err(error) if one => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error),
        None if one => Ok(Val::Bool(count == 1)),
        None => Ok(Val::Bool(all)),
    }
}

fn transformed<'p, 'a>(
    machine: &mut Machine<'p, 'a>,
    call: &'p CallExpr,
    target: &'p IdedExpr,
    names: (&'p str, &'p str),
    rest: &'p [IdedExpr],
) -> Outcome<Val<'a>> {
    let (filter, body) = match rest {
        [filter, body] => (Some(filter), body),
        [body] => (None, body),
        _ => return Err(Failure::no_overload()),
    };
    let range = machine.eval(target)?;
    let mut items = Vec::new();
    let mut entries = Vec::new();
    for (key, value) in pairs(&range)? {
        if let Some(filter) = filter {
            match each(machine, names, (key.clone(), value.clone()), filter)? {
                Val::Bool(true) => {}
                Val::Bool(false) => continue,
                _ => return Err(Failure::no_overload()),
            }
        }
        let result = each(machine, names, (key.clone(), value), body)?;
        match call.func_name.as_str() {
            "transformList" => items.push(result),
            "transformMap" => entries.push((key, result)),
            _ => match result.entries() {
                Some(new) => {
                    for (key, value) in new {
                        entries.push((key, value?));
                    }
                }
                None => return Err(Failure::no_overload()),
            },
        }
    }
    Ok(if call.func_name == "transformList" {
        Val::list(items)
    } else {
        Val::Map(Arc::new(entries))
    })
}
