//! Times and durations: reading, writing, and their parts.

use super::failure::{Failure, Outcome};
use super::value::Val;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// Midnight of a date as `2006-01-02`.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    let date: jiff::civil::Date = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// A time by RFC 3339, or one without a zone, which is UTC.
pub(super) fn date_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let local: jiff::civil::DateTime = text.parse().ok()?;
        local.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

/// A duration as CEL writes it: seconds with a fraction.
pub(super) fn seconds_text(nanos: i64) -> String {
    let whole = nanos / 1_000_000_000;
    let rest = (nanos % 1_000_000_000).unsigned_abs();
    if rest == 0 {
        return format!("{whole}s");
    }
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

/// A time moved by a duration.
pub(super) fn moved(time: Timestamp, nanos: i64) -> Outcome<Timestamp> {
    time.checked_add(SignedDuration::from_nanos(nanos))
        .map_err(|_| Failure::new("timestamp overflow"))
}

/// The nanoseconds from one time to another.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Outcome<i64> {
    i64::try_from(to.duration_since(from).as_nanos()).map_err(|_| Failure::new("duration overflow"))
}

/// A part of a time or a duration, as `getHours`; none where the function is another.
pub(super) fn part<'a>(function: &str, value: &Val<'a>, zone: Option<&str>) -> Option<Outcome<Val<'a>>> {
    let known = [
        "getFullYear",
        "getMonth",
        "getDayOfYear",
        "getDayOfMonth",
        "getDate",
        "getDayOfWeek",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ];
    if !known.contains(&function) {
        return None;
    }
    Some(match value {
        Val::Time(time) => in_zone(*time, zone).map(|zoned| Val::Int(of_time(function, &zoned))),
        Val::Duration(nanos) => match function {
            "getHours" => Ok(Val::Int(nanos / 3_600_000_000_000)),
            "getMinutes" => Ok(Val::Int(nanos / 60_000_000_000)),
            "getSeconds" => Ok(Val::Int(nanos / 1_000_000_000)),
            "getMilliseconds" => Ok(Val::Int(nanos / 1_000_000 % 1000)),
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    })
}

fn in_zone(time: Timestamp, zone: Option<&str>) -> Outcome<Zoned> {
    let zone = match zone {
        None | Some("UTC") => TimeZone::UTC,
        Some(name) if name.starts_with(['+', '-']) || name.contains(':') => offset(name)?,
        Some(name) => TimeZone::get(name).map_err(|_| Failure::new(format!("unknown time zone {name}")))?,
    };
    Ok(time.to_zoned(zone))
}

fn offset(name: &str) -> Outcome<TimeZone> {
    let bad = || Failure::new(format!("unknown time zone {name}"));
    let (negative, rest) = match name.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, name.strip_prefix('+').unwrap_or(name)),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(bad)?;
    let hours: i32 = hours.parse().map_err(|_| bad())?;
    let minutes: i32 = minutes.parse().map_err(|_| bad())?;
    let seconds = hours * 3600 + minutes * 60;
    jiff::tz::Offset::from_seconds(if negative { -seconds } else { seconds })
        .map(TimeZone::fixed)
        .map_err(|_| bad())
}

fn of_time(function: &str, time: &Zoned) -> i64 {
    match function {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        _ => i64::from(time.millisecond()),
    }
}
