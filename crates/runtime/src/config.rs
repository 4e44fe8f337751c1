//! Settings from flags and the environment.
//!
//! Each module declares its own flags beside what they set; this one holds what has no other place, and the types
//! that they share.

use std::time::Duration;

/// Reads a duration such as `15s`, `1m30s` or `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError(text.to_owned());
    let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| invalid())?;
    Duration::try_from(duration).map_err(|_| invalid())
}

/// A text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("failed to read the duration {0:?}: write a number and a unit, as in 15s, 1m30s or 500ms")]
pub struct DurationError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, milliseconds) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("0s", 0),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in ["", "15", "-1s", "soon", "1 year", "5xs"] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("failed to read the duration {text:?}")),
                "{error}"
            );
        }
    }
}
