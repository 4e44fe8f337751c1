//! Quantities (`resource.Quantity`), brought to the one form in which the real server writes each: the largest
//! suffix that leaves a whole number.

/// Decimal suffixes by their power of a thousand, from nano on.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Binary suffixes by their power of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

const WRONG_FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const WRONG_SUFFIX: &str = "unable to parse quantity's suffix";

#[derive(Clone, Copy, PartialEq)]
enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// A quantity in billionths, with the form in which it was written.
#[derive(Clone, Copy)]
pub(crate) struct Quantity {
    /// The value times 10⁹, rounded away from zero.
    pub(crate) nanos: i128,
    format: Format,
}

impl Quantity {
    /// Reads a quantity. The error is the real server's text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let end = digits
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(digits.len());
        let (number, suffix) = digits.split_at(end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(WRONG_FORMAT);
        }
        // Letters, then a sign, then digits; what follows is wrong whatever it is.
        let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if !rest.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WRONG_FORMAT);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let (factor, power, format) = scale(suffix).ok_or(WRONG_SUFFIX)?;
        let nanos = nanos(whole, fraction, factor, power).ok_or("quantity is too large")?;
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }

    /// Whether it is a whole number.
    pub(crate) fn is_whole(self) -> bool {
        self.nanos % 1_000_000_000 == 0
    }

    /// The one text for it.
    pub(crate) fn canonical(self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let whole = self.nanos / 1_000_000_000;
        if self.format == Format::BinarySi && self.is_whole() && whole.abs() >= 1024 {
            let (mut value, mut at) = (whole, 0);
            while value % 1024 == 0 && at + 1 < BINARY.len() {
                value /= 1024;
                at += 1;
            }
            return format!("{value}{}", BINARY[at]);
        }
        let (mut value, mut at) = (self.nanos, 0);
        while value % 1000 == 0 && at + 1 < DECIMAL.len() {
            value /= 1000;
            at += 1;
        }
        if self.format == Format::DecimalExponent && at != 3 {
            let power = (i64::try_from(at).unwrap_or_default() - 3) * 3;
            return format!("{value}e{power}");
        }
        format!("{value}{}", DECIMAL[at])
    }
}

/// What a suffix multiplies by: a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32, Format)> {
    if let Some(at) = BINARY.iter().skip(1).position(|s| *s == suffix) {
        return Some((1024_i128.pow(u32::try_from(at).ok()? + 1), 0, Format::BinarySi));
    }
    if let Some(at) = DECIMAL.iter().position(|s| *s == suffix) {
        return Some((1, (i32::try_from(at).ok()? - 3) * 3, Format::DecimalSi));
    }
    let power = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((1, power, Format::DecimalExponent))
}

fn nanos(whole: &str, fraction: &str, factor: i128, power: i32) -> Option<i128> {
    let fraction = fraction.trim_end_matches('0');
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    value = value.checked_mul(factor)?;
    let shift = 9 + power - i32::try_from(fraction.len()).ok()?;
    if shift >= 0 {
        return value.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?);
    }
    let Some(divisor) = 10_i128.checked_pow(shift.unsigned_abs()) else {
        return Some(i128::from(value > 0));
    };
    Some(value / divisor + i128::from(value % divisor != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_canonical_form() {
        for (given, canonical) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("-1k", "-1k"),
            ("0.0000000001", "1n"),
            ("128974848", "128974848"),
            ("129M", "129M"),
        ] {
            assert_eq!(
                Quantity::parse(given).map(Quantity::canonical),
                Ok(canonical.to_owned()),
                "{given}"
            );
        }
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(Quantity::parse("x").map(Quantity::canonical), Err(WRONG_FORMAT));
        assert_eq!(Quantity::parse("").map(Quantity::canonical), Err(WRONG_FORMAT));
        assert_eq!(Quantity::parse("1KK").map(Quantity::canonical), Err(WRONG_SUFFIX));
    }
}
