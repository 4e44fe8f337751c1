//! Conversions between types: `int()`, `string()`, `duration()` and so on.

use super::failure::{Failure, Outcome};
use super::value::Val;
use super::{foreign, time};
use crate::schema::{formats, gotext};
use base64::Engine as _;

pub(super) fn is_conversion(name: &str) -> bool {
    matches!(
        name,
        "int" | "uint" | "double" | "string" | "bool" | "bytes" | "duration" | "timestamp"
    )
}

/// Converts a value to the type of this name.
pub(super) fn convert<'a>(name: &str, value: &Val<'a>) -> Outcome<Val<'a>> {
    let impossible = || {
        let to = match name {
            "duration" => "google.protobuf.Duration",
            "timestamp" => "google.protobuf.Timestamp",
            name => name,
        };
        Err(Failure::new(format!(
            "type conversion error from '{}' to '{to}'",
            value.kind()
        )))
    };
    match (name, value) {
        ("int", Val::Int(_))
        | ("uint", Val::Uint(_))
        | ("double", Val::Double(_))
        | ("string", Val::Text(_))
        | ("bool", Val::Bool(_))
        | ("bytes", Val::Bytes(_))
        | ("duration", Val::Duration(_))
        | ("timestamp", Val::Time(_)) => Ok(value.clone()),
        ("int", _) => to_int(value).unwrap_or_else(impossible),
        ("uint", _) => to_uint(value).unwrap_or_else(impossible),
        ("double", _) => to_double(value).map_or_else(impossible, |double| Ok(Val::Double(double))),
        ("string", _) => to_text(value).unwrap_or_else(impossible),
        ("bool", Val::Text(text)) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            _ => impossible(),
        },
        ("bytes", Val::Text(text)) => Ok(Val::Bytes(text.as_bytes().into())),
        ("duration", Val::Text(text)) => formats::go_duration_nanos(text)
            .map(Val::Duration)
            .map_or_else(impossible, Ok),
        ("timestamp", Val::Text(text)) => text.parse().map(Val::Time).or_else(|_| impossible()),
        ("timestamp", Val::Int(seconds)) => jiff::Timestamp::from_second(*seconds)
            .map(Val::Time)
            .map_err(|_| Failure::new("timestamp overflow")),
        _ => Err(Failure::no_overload()),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn to_int<'a>(value: &Val<'_>) -> Option<Outcome<Val<'a>>> {
    let overflow = || Err(Failure::new("integer overflow"));
    Some(match value {
        Val::Uint(value) => i64::try_from(*value).map_or_else(|_| overflow(), |value| Ok(Val::Int(value))),
        Val::Double(value) if *value > i64::MIN as f64 && *value < i64::MAX as f64 => {
            Ok(Val::Int(*value as i64))
        }
        Val::Double(_) => overflow(),
        Val::Text(text) => Ok(Val::Int(text.parse().ok()?)),
        Val::Duration(nanos) => Ok(Val::Int(*nanos)),
        Val::Time(time) => Ok(Val::Int(time.as_second())),
        _ => return None,
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]
fn to_uint<'a>(value: &Val<'_>) -> Option<Outcome<Val<'a>>> {
    let overflow = || Err(Failure::new("unsigned integer overflow"));
    Some(match value {
        Val::Int(value) => u64::try_from(*value).map_or_else(|_| overflow(), |value| Ok(Val::Uint(value))),
        Val::Double(value) if *value >= 0.0 && *value < u64::MAX as f64 => Ok(Val::Uint(*value as u64)),
        Val::Double(_) => overflow(),
        Val::Text(text) => Ok(Val::Uint(text.parse().ok()?)),
        _ => return None,
    })
}

#[allow(clippy::cast_precision_loss)]
fn to_double(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Int(value) => Some(*value as f64),
        Val::Uint(value) => Some(*value as f64),
        Val::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn to_text<'a>(value: &Val<'a>) -> Option<Outcome<Val<'a>>> {
    Some(Ok(Val::text(match value {
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Bool(value) => value.to_string(),
        Val::Double(value) => gotext::float(*value),
        Val::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let shown = base64::engine::general_purpose::STANDARD.encode(bytes);
                return Some(Err(Failure(format!(
                    "invalid UTF-8 in bytes, cannot convert to string: {shown}"
                ))));
            }
        },
        Val::Duration(nanos) => time::seconds_text(*nanos),
        Val::Time(time) => time.to_string(),
        Val::Foreign(_) => return Some(foreign::call("string", None, None, std::slice::from_ref(value))),
        _ => return None,
    })))
}
