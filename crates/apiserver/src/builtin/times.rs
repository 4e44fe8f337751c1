//! Times as Go reads and writes them, with Go's words for what is wrong.

use crate::schema::gotext::quote;
use jiff::Timestamp;

/// The layout of `metav1.Time`.
const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
/// The layout of `metav1.MicroTime`.
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The text as the real server writes it: in UTC, in whole seconds.
pub(crate) fn seconds(text: &str) -> Result<String, String> {
    read(text, SECONDS, false).map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The text as the real server writes it: in UTC, with six places.
pub(crate) fn micros(text: &str) -> Result<String, String> {
    read(text, MICROS, true).map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// Walks along the layout, so that the first part that does not fit is named.
fn read(text: &str, layout: &str, micros: bool) -> Result<Timestamp, String> {
    let wrong = |rest: &str, part: &str| {
        Err(format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(text),
            quote(layout),
            quote(rest),
            quote(part)
        ))
    };
    let mut rest = text;
    for part in ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"] {
        let fits = if part.as_bytes()[0].is_ascii_digit() {
            rest.len() >= part.len() && rest.bytes().take(part.len()).all(|b| b.is_ascii_digit())
        } else {
            rest.starts_with(part)
        };
        if !fits {
            return wrong(rest, part);
        }
        rest = &rest[part.len()..];
    }
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |tail| tail.bytes().take_while(u8::is_ascii_digit).count());
    if micros {
        if digits < 6 {
            return wrong(rest, ".000000");
        }
        rest = &rest[7..];
    } else if digits > 0 {
        rest = &rest[digits + 1..];
    }
    let zone = rest.as_bytes();
    let offset = zone.len() == 6
        && matches!(zone[0], b'+' | b'-')
        && zone[3] == b':'
        && [1, 2, 4, 5].iter().all(|at| zone[*at].is_ascii_digit());
    if rest != "Z" && !offset {
        if let Some(extra) = rest.strip_prefix('Z') {
            return Err(format!(
                "parsing time {}: extra text: {}",
                quote(text),
                quote(extra)
            ));
        }
        return wrong(rest, "Z07:00");
    }
    text.parse().map_err(|_| {
        format!(
            "parsing time {}: {} out of range",
            quote(text),
            out_of_range(text)
        )
    })
}

/// Which part of a time in the right form has no such value.
fn out_of_range(text: &str) -> &'static str {
    let part = |at: std::ops::Range<usize>| {
        text.get(at)
            .and_then(|t| t.parse::<u32>().ok())
            .unwrap_or_default()
    };
    if !(1..=12).contains(&part(5..7)) {
        "month"
    } else if part(11..13) > 23 {
        "hour"
    } else if part(14..16) > 59 {
        "minute"
    } else if part(17..19) > 59 {
        "second"
    } else {
        "day"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        assert_eq!(
            seconds("2026-01-02T05:04:05.9+02:00"),
            Ok("2026-01-02T03:04:05Z".to_owned())
        );
        assert_eq!(
            micros("2026-01-02T03:04:05.120000Z"),
            Ok("2026-01-02T03:04:05.120000Z".to_owned())
        );
    }

    #[test]
    fn names_what_does_not_fit() {
        assert_eq!(
            seconds("a"),
            Err(r#"parsing time "a" as "2006-01-02T15:04:05Z07:00": cannot parse "a" as "2006""#.to_owned())
        );
        assert_eq!(
            micros("2026-01-02T03:04:05Z"),
            Err(r#"parsing time "2026-01-02T03:04:05Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#.to_owned())
        );
        assert_eq!(
            micros("2026-01-02T03:04:05.1234567+02:00"),
            Err(r#"parsing time "2026-01-02T03:04:05.1234567+02:00" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "7+02:00" as "Z07:00""#.to_owned())
        );
        assert_eq!(
            seconds("2026-13-02T03:04:05Z"),
            Err(r#"parsing time "2026-13-02T03:04:05Z": month out of range"#.to_owned())
        );
    }
}
