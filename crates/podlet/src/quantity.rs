//! What a `resource.Quantity` says, for sizes and for the environment.

/// A thousand-millionth: quantities have no finer part.
const NANO: i128 = 1_000_000_000;
/// Suffixes and their power of ten.
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
/// Suffixes and their power of two.
const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

/// How many of `unit` a quantity is, rounded up. `None` for what is no quantity or beyond all use.
pub fn in_units(quantity: &str, unit: &str) -> Option<i128> {
    let (value, unit) = (nanos(quantity)?, nanos(unit)?);
    let whole = value.checked_div(unit)?;
    Some(if value % unit > 0 { whole + 1 } else { whole })
}

fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.')));
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let factor = if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        NANO.checked_shl(*power)?
    } else {
        let power = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
            Some((_, power)) => *power,
            None => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
        };
        10_i128.checked_pow(u32::try_from(power.checked_add(9)?).ok()?)?
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.parse::<i128>().ok()?.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_units() {
        let cases = [
            ("1500m", "1", 2),
            ("1500m", "1m", 1500),
            ("100M", "1Mi", 96),
            ("1.5Gi", "1", 1_610_612_736),
            ("2e3", "1k", 2),
            ("0", "1", 0),
            ("64Mi", "1Ki", 65536),
        ];
        for (quantity, unit, expected) in cases {
            assert_eq!(in_units(quantity, unit), Some(expected), "{quantity} in {unit}");
        }
        for wrong in ["", "x", "1Q", "1..2", "-", "9999999999999999999999999999999999E"] {
            assert_eq!(in_units(wrong, "1"), None, "{wrong}");
        }
        assert_eq!(in_units("1", "0"), None);
    }
}
