//! Quantities in the form that the API server stores them.
//!
//! A value that we write must read back as we wrote it, or each comparison with the cache would find a difference
//! that is none. The rule is that of resource.Quantity: no fraction, the largest suffix that allows it, the kind of
//! suffix (decimal, binary, exponent) kept.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A thousand-millionth: quantities have no finer part.
const NANO: i128 = 1_000_000_000;

const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, i128); 10] = [
    ("E", NANO * 1_000_000_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("G", NANO * 1_000_000_000),
    ("M", NANO * 1_000_000),
    ("k", NANO * 1000),
    ("", NANO),
    ("m", NANO / 1000),
    ("u", NANO / 1_000_000),
    ("n", 1),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Decimal,
    Exponent,
}

/// The value in thousand-millionths and the kind of suffix, or `None` for what is no quantity or is beyond all use.
fn parse(text: &str) -> Option<(i128, Form)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (factor, form) = if let Some((_, factor)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        (factor.checked_mul(NANO)?, Form::Binary)
    } else if let Some((_, factor)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        (*factor, Form::Decimal)
    } else {
        let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let power = u32::try_from(power.checked_add(9)?).ok()?;
        (10_i128.checked_pow(power)?, Form::Exponent)
    };
    let negative = number.starts_with('-');
    let digits = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    if !whole.is_empty() {
        value = whole.parse::<i128>().ok()?.checked_mul(factor)?;
    }
    if !fraction.is_empty() {
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<i128>().ok()?.checked_mul(factor)?;
        // What is finer than a nano is rounded up.
        value = value.checked_add(part.checked_add(scale - 1)? / scale)?;
    }
    Some((if negative { -value } else { value }, form))
}

fn print(value: i128, form: Form) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    match form {
        Form::Binary if value % NANO == 0 && value.abs() >= 1024 * NANO => {
            let units = value / NANO;
            for (name, factor) in BINARY {
                if units % factor == 0 {
                    return format!("{}{name}", units / factor);
                }
            }
            units.to_string()
        }
        Form::Exponent => {
            for (power, (_, factor)) in [18, 15, 12, 9, 6, 3, 0, -3, -6, -9].into_iter().zip(DECIMAL) {
                if value % factor == 0 {
                    let number = value / factor;
                    return if power == 0 {
                        number.to_string()
                    } else {
                        format!("{number}e{power}")
                    };
                }
            }
            value.to_string()
        }
        Form::Binary | Form::Decimal => {
            for (name, factor) in DECIMAL {
                if value % factor == 0 {
                    return format!("{}{name}", value / factor);
                }
            }
            value.to_string()
        }
    }
}

/// The quantity as the API server would store it; what can't be read stays as it is, for the server to refuse.
pub fn canonical(quantity: &Quantity) -> Quantity {
    match parse(&quantity.0) {
        Some((value, form)) => Quantity(print(value, form)),
        None => quantity.clone(),
    }
}

/// The value in whole units (bytes), rounded up.
pub fn units(quantity: &Quantity) -> Option<i64> {
    let (value, _) = parse(&quantity.0)?;
    i64::try_from(value.checked_add(NANO - 1)?.div_euclid(NANO)).ok()
}

/// Requests and limits as the API server would store them.
pub fn canonical_resources(resources: &ResourceRequirements) -> ResourceRequirements {
    let each = |map: &Option<BTreeMap<String, Quantity>>| {
        map.as_ref().map(|map| {
            map.iter()
                .map(|(name, value)| (name.clone(), canonical(value)))
                .collect()
        })
    };
    ResourceRequirements {
        claims: resources.claims.clone(),
        limits: each(&resources.limits),
        requests: each(&resources.requests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_those_of_the_api_server() {
        for (written, stored) in [
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1000Mi", "1000Mi"),
            ("512", "512"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("2000", "2k"),
            ("1e3", "1e3"),
            ("1000e0", "1e3"),
            ("12e6", "12e6"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-1", "-1"),
            ("+1", "1"),
            ("1.2G", "1200M"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
            ("0.0001", "100u"),
            ("nonsense", "nonsense"),
            ("1Zi", "1Zi"),
            ("", ""),
        ] {
            assert_eq!(canonical(&Quantity(written.to_owned())).0, stored, "{written}");
        }
    }

    #[test]
    fn bytes_are_whole() {
        assert_eq!(units(&Quantity("1Gi".into())), Some(1 << 30));
        assert_eq!(units(&Quantity("1500m".into())), Some(2));
        assert_eq!(units(&Quantity("99999999999999999999E".into())), None);
        assert_eq!(units(&Quantity("x".into())), None);
    }
}
