//! Numbers: comparison across types, arithmetic that fails rather than wraps.

use super::failure::{Failure, Outcome};
use super::value::Val;
use std::cmp::Ordering;

/// The whole number that a double is, if it is one.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
pub(super) fn exact_int(double: f64) -> Option<i64> {
    (double.fract() == 0.0 && double >= i64::MIN as f64 && double < i64::MAX as f64).then_some(double as i64)
}

#[allow(clippy::cast_precision_loss)]
fn int_to_double(value: i64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss)]
fn uint_to_double(value: u64) -> f64 {
    value as f64
}

/// Compares two numbers; none where one of them is not a number, `Some(None)` where they have no order.
#[allow(clippy::option_option)]
pub(super) fn compare(a: &Val<'_>, b: &Val<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        (Val::Uint(a), Val::Uint(b)) => Some(a.cmp(b)),
        (Val::Int(a), Val::Uint(b)) => Some(u64::try_from(*a).map_or(Ordering::Less, |a| a.cmp(b))),
        (Val::Uint(a), Val::Int(b)) => Some(u64::try_from(*b).map_or(Ordering::Greater, |b| a.cmp(&b))),
        (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Val::Double(a), Val::Int(b)) => a.partial_cmp(&int_to_double(*b)),
        (Val::Int(a), Val::Double(b)) => int_to_double(*a).partial_cmp(b),
        (Val::Double(a), Val::Uint(b)) => a.partial_cmp(&uint_to_double(*b)),
        (Val::Uint(a), Val::Double(b)) => uint_to_double(*a).partial_cmp(b),
        _ => return None,
    })
}

/// Orders two values.
pub(super) fn order(a: &Val<'_>, b: &Val<'_>) -> Outcome<Option<Ordering>> {
    if let Some(ordering) = compare(a, b) {
        return Ok(ordering);
    }
    Ok(Some(match (a, b) {
        (Val::Text(a), Val::Text(b)) => a.cmp(b),
        (Val::Bytes(a), Val::Bytes(b)) => a.cmp(b),
        (Val::Bool(a), Val::Bool(b)) => a.cmp(b),
        (Val::Duration(a), Val::Duration(b)) => a.cmp(b),
        (Val::Time(a), Val::Time(b)) => a.cmp(b),
        _ => return Err(Failure::no_overload()),
    }))
}

/// `+`, `-`, `*`, `/` or `%` of two whole numbers or doubles; none where they are of other types.
pub(super) fn arithmetic<'a>(operator: char, a: &Val<'a>, b: &Val<'a>) -> Option<Outcome<Val<'a>>> {
    let zero = |operator: char| {
        Failure::new(if operator == '%' {
            "modulus by zero"
        } else {
            "division by zero"
        })
    };
    Some(match (a, b) {
        (Val::Int(a), Val::Int(b)) => {
            if matches!(operator, '/' | '%') && *b == 0 {
                return Some(Err(zero(operator)));
            }
            let result = match operator {
                '+' => a.checked_add(*b),
                '-' => a.checked_sub(*b),
                '*' => a.checked_mul(*b),
                '/' => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result
                .map(Val::Int)
                .ok_or_else(|| Failure::new("integer overflow"))
        }
        (Val::Uint(a), Val::Uint(b)) => {
            if matches!(operator, '/' | '%') && *b == 0 {
                return Some(Err(zero(operator)));
            }
            let result = match operator {
                '+' => a.checked_add(*b),
                '-' => a.checked_sub(*b),
                '*' => a.checked_mul(*b),
                '/' => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result
                .map(Val::Uint)
                .ok_or_else(|| Failure::new("unsigned integer overflow"))
        }
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(match operator {
            '+' => a + b,
            '-' => a - b,
            '*' => a * b,
            '/' => a / b,
            _ => return Some(Err(Failure::no_overload())),
        })),
        _ => return None,
    })
}
