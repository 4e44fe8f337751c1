//! The function libraries of Kubernetes, which the `kube-cel` crate has. Arguments are handed over as its values; a
//! panic in it is an error of the expression.

use super::failure::{Failure, Outcome};
use super::time;
use super::value::Val;
use crate::schema::gotext;
use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr};
use kube_cel::cel::objects::{Key, Map, OptionalValue};
use kube_cel::cel::{Context, Value};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

static LIBRARIES: LazyLock<Context<'static>> = LazyLock::new(|| Context::default().with_all());
const TARGET: &str = "target";

/// Calls a function of the libraries. `space` is the name before it, as `sets` in `sets.contains`.
pub(super) fn call<'a>(
    function: &str,
    space: Option<&str>,
    target: Option<&Val<'a>>,
    args: &[Val<'a>],
) -> Outcome<Val<'a>> {
    let mut context = LIBRARIES.new_inner_scope();
    let ident = |name: &str| IdedExpr {
        id: 0,
        expr: Expr::Ident(name.to_owned()),
    };
    let mut names = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let name = format!("arg{index}");
        context.add_variable_from_value(name.as_str(), to_foreign(arg)?);
        names.push(ident(&name));
    }
    let target = match (space, target) {
        (Some(space), _) => Some(Box::new(ident(space))),
        (None, Some(target)) => {
            context.add_variable_from_value(TARGET, to_foreign(target)?);
            Some(Box::new(ident(TARGET)))
        }
        (None, None) => None,
    };
    let expression = IdedExpr {
        id: 0,
        expr: Expr::Call(CallExpr {
            func_name: function.to_owned(),
            target,
            args: names,
        }),
    };
    match catch_unwind(AssertUnwindSafe(|| Value::resolve(&expression, &context))) {
        Ok(Ok(value)) => from_foreign(value),
        Ok(Err(kube_cel::cel::ExecutionError::UndeclaredReference(_))) => Err(Failure::no_overload()),
        Ok(Err(kube_cel::cel::ExecutionError::FunctionError { message, .. })) => {
            Err(Failure(in_real_words(function, message, args)))
        }
        Ok(Err(error)) => Err(Failure(error.to_string())),
        Err(_) => Err(Failure::new(format!("failed to run function {function}"))),
    }
}

/// The message of a failed function, as the real server has it.
fn in_real_words(function: &str, message: String, args: &[Val<'_>]) -> String {
    let first = match args.first() {
        Some(Val::Text(text)) => text.to_string(),
        _ => String::new(),
    };
    if let Some((before, _)) = message.split_once(" out of range for string")
        && let Some(index) = before.rsplit(' ').next()
    {
        return format!("index out of range: {index}");
    }
    match function {
        "min" | "max" if message.contains("empty list") => format!("{function} called on empty list"),
        "quantity" if first.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            "unable to parse quantity's suffix".to_owned()
        }
        "quantity" => "quantities must match the regular expression \
                       '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            .to_owned(),
        "ip" => format!(
            "IP Address {0} parse error during conversion from string: ParseAddr({0}): unable to parse IP",
            gotext::quote(&first)
        ),
        _ => message,
    }
}

fn to_foreign(value: &Val<'_>) -> Outcome<Value> {
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Int(value) => Value::Int(*value),
        Val::Uint(value) => Value::UInt(*value),
        Val::Double(value) => Value::Float(*value),
        Val::Text(text) => Value::String(Arc::new(text.to_string())),
        Val::Bytes(bytes) => Value::Bytes(Arc::new(bytes.to_vec())),
        Val::Foreign(value) => value.clone(),
        Val::Duration(nanos) => parsed("duration", &time::seconds_text(*nanos))?,
        Val::Time(at) => parsed("timestamp", &at.to_string())?,
        Val::Optional(None) => Value::Opaque(Arc::new(OptionalValue::none())),
        Val::Optional(Some(value)) => Value::Opaque(Arc::new(OptionalValue::of(to_foreign(value)?))),
        Val::Kind(_) | Val::Kept(_) => return Err(Failure::no_overload()),
        Val::List(_) | Val::Items(..) => {
            let items = value.items().unwrap_or_else(|| Ok(Vec::new()))?;
            let items: Outcome<Vec<Value>> = items.iter().map(to_foreign).collect();
            Value::List(Arc::new(items?))
        }
        Val::Map(_) | Val::Object(..) => {
            let mut map = HashMap::new();
            for (key, value) in value.entries().unwrap_or_default() {
                let key: Key = match key {
                    Val::Text(text) => text.to_string().into(),
                    Val::Int(value) => value.into(),
                    Val::Uint(value) => value.into(),
                    Val::Bool(value) => value.into(),
                    _ => return Err(Failure::no_overload()),
                };
                map.insert(key, to_foreign(&value?)?);
            }
            Value::Map(Map { map: Arc::new(map) })
        }
    })
}

/// Durations and times are made by the crate's own functions: their types are not ours to name.
fn parsed(function: &str, text: &str) -> Outcome<Value> {
    let mut context = LIBRARIES.new_inner_scope();
    context.add_variable_from_value(TARGET, text.to_owned());
    let expression = IdedExpr {
        id: 0,
        expr: Expr::Call(CallExpr {
            func_name: function.to_owned(),
            target: None,
            args: vec![IdedExpr {
                id: 0,
                expr: Expr::Ident(TARGET.to_owned()),
            }],
        }),
    };
    Value::resolve(&expression, &context).map_err(|error| Failure(error.to_string()))
}

fn from_foreign<'a>(value: Value) -> Outcome<Val<'a>> {
    Ok(match value {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(value),
        Value::Int(value) => Val::Int(value),
        Value::UInt(value) => Val::Uint(value),
        Value::Float(value) => Val::Double(value),
        Value::String(text) => Val::text(text.as_str()),
        Value::Bytes(bytes) => Val::Bytes(bytes.as_slice().into()),
        Value::Duration(duration) => Val::Duration(
            duration
                .num_nanoseconds()
                .ok_or_else(|| Failure::new("duration overflow"))?,
        ),
        Value::Timestamp(at) => {
            let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
            let at = jiff::Timestamp::new(at.timestamp(), nanos);
            Val::Time(at.map_err(|_| Failure::new("timestamp overflow"))?)
        }
        Value::List(items) => {
            let items: Outcome<Vec<Val<'a>>> = items.iter().cloned().map(from_foreign).collect();
            Val::list(items?)
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                let key = match key {
                    Key::Int(value) => Val::Int(*value),
                    Key::Uint(value) => Val::Uint(*value),
                    Key::Bool(value) => Val::Bool(*value),
                    Key::String(text) => Val::text(text.as_str()),
                };
                entries.push((key, from_foreign(value.clone())?));
            }
            Val::Map(Arc::new(entries))
        }
        Value::Opaque(opaque) => match opaque.downcast_ref::<OptionalValue>() {
            Some(optional) => match optional.value() {
                Some(value) => Val::some(from_foreign(value.clone())?),
                None => Val::Optional(None),
            },
            None => Val::Foreign(Value::Opaque(opaque)),
        },
        Value::Function(..) => return Err(Failure::no_overload()),
    })
}
