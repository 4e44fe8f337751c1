//! The formats of texts and numbers that the real server judges. Others are kept in the schema but mean nothing
//! (and earn a warning when a CRD that names them is written).

use super::Type;
use base64::Engine as _;
use regex::Regex;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;

/// A format that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// 32 bits, floating.
    Float,
    /// 64 bits, floating.
    Double,
    /// A hexadecimal object id of BSON.
    BsonObjectId,
    /// A request URI: absolute, or a path that starts with `/`.
    Uri,
    /// A mail address.
    Email,
    /// A host name.
    Hostname,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// An address with a prefix length.
    Cidr,
    /// A hardware address.
    Mac,
    /// A UUID of any version.
    Uuid,
    /// A UUID of this version.
    UuidOf(char),
    /// An ISBN of ten or thirteen digits.
    Isbn,
    /// An ISBN of ten digits.
    Isbn10,
    /// An ISBN of thirteen digits.
    Isbn13,
    /// A credit card number.
    CreditCard,
    /// A social security number.
    Ssn,
    /// A colour as `#FFFFFF`.
    HexColor,
    /// A colour as `rgb(255,255,255)`.
    RgbColor,
    /// Bytes in base64.
    Byte,
    /// Any text.
    Password,
    /// A date as `2006-01-02`.
    Date,
    /// A duration as `1h30m` or `22 ns`.
    Duration,
    /// A time by RFC 3339.
    DateTime,
    /// A name of one label.
    ShortName,
    /// A name of labels with dots between.
    LongName,
}

impl Format {
    /// The format that `name` means for values of this type (none for int-or-string values and untyped ones).
    pub fn of(kind: Option<Type>, name: &str) -> Option<Self> {
        match kind {
            None | Some(Type::String) => Self::of_text(&name.replace('-', "")),
            Some(Type::Integer) => match name {
                "int32" => Some(Self::Int32),
                "int64" => Some(Self::Int64),
                _ => None,
            },
            Some(Type::Number) => match name {
                "float" => Some(Self::Float),
                "double" => Some(Self::Double),
                _ => None,
            },
            Some(_) => None,
        }
    }

    fn of_text(name: &str) -> Option<Self> {
        Some(match name {
            "bsonobjectid" => Self::BsonObjectId,
            "uri" => Self::Uri,
            "email" => Self::Email,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "cidr" => Self::Cidr,
            "mac" => Self::Mac,
            "uuid" => Self::Uuid,
            "uuid3" => Self::UuidOf('3'),
            "uuid4" => Self::UuidOf('4'),
            "uuid5" => Self::UuidOf('5'),
            "isbn" => Self::Isbn,
            "isbn10" => Self::Isbn10,
            "isbn13" => Self::Isbn13,
            "creditcard" => Self::CreditCard,
            "ssn" => Self::Ssn,
            "hexcolor" => Self::HexColor,
            "rgbcolor" => Self::RgbColor,
            "byte" => Self::Byte,
            "password" => Self::Password,
            "date" => Self::Date,
            "duration" => Self::Duration,
            "datetime" => Self::DateTime,
            "k8sshortname" => Self::ShortName,
            "k8slongname" => Self::LongName,
            _ => return None,
        })
    }

    /// Whether `text` is of this format.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Int32 | Self::Int64 | Self::Float | Self::Double | Self::Password => true,
            Self::BsonObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Self::Uri => is_request_uri(text),
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            Self::Ipv4 => ipv4(text).is_some() || (text.contains('.') && text.parse::<Ipv6Addr>().is_ok()),
            Self::Ipv6 => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Mac => is_mac(text),
            Self::Uuid => is_uuid(text, None),
            Self::UuidOf(version) => is_uuid(text, Some(version)),
            Self::Isbn => isbn10(text) || isbn13(text),
            Self::Isbn10 => isbn10(text),
            Self::Isbn13 => isbn13(text),
            Self::CreditCard => is_credit_card(text),
            Self::Ssn => text.len() == 11 && matches(&SSN, SSN_PATTERN, text),
            Self::HexColor => matches(&HEX, HEX_PATTERN, text),
            Self::RgbColor => matches(&RGB, RGB_PATTERN, text),
            Self::Byte => !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
            Self::Date => is_date(text),
            Self::Duration => duration_nanos(text).is_some(),
            Self::DateTime => is_date_time(text),
            Self::ShortName => text.len() <= 63 && is_label(text),
            Self::LongName => text.len() <= 253 && text.split('.').all(is_label),
        }
    }
}

/// Whether a CRD that names this format gets no warning for it.
pub fn is_recognized_format(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => Format::of(None, format).is_some(),
        other => Type::from_name(other).is_some_and(|kind| Format::of(Some(kind), format).is_some()),
    }
}

static SSN: OnceLock<Option<Regex>> = OnceLock::new();
static HEX: OnceLock<Option<Regex>> = OnceLock::new();
static RGB: OnceLock<Option<Regex>> = OnceLock::new();
static CARD: OnceLock<Option<Regex>> = OnceLock::new();
static HOST: OnceLock<Option<Regex>> = OnceLock::new();
static TIME: OnceLock<Option<Regex>> = OnceLock::new();
static UNITS: OnceLock<Option<Regex>> = OnceLock::new();
const SSN_PATTERN: &str = r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$";
const HEX_PATTERN: &str = "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
const RGB_PATTERN: &str = r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*\)$";
const CARD_PATTERN: &str = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
const HOST_PATTERN: &str = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
const TIME_PATTERN: &str = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";
const UNITS_PATTERN: &str = r"([0-9]+)\s*([A-Za-zµ]+)";

fn compiled(cell: &'static OnceLock<Option<Regex>>, pattern: &str) -> Option<&'static Regex> {
    cell.get_or_init(|| Regex::new(pattern).ok()).as_ref()
}

fn matches(cell: &'static OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    compiled(cell, pattern).is_some_and(|regex| regex.is_match(text))
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner)
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
}

fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let bad_escape = text.match_indices('%').any(|(at, _)| {
        !text[at + 1..]
            .bytes()
            .take(2)
            .eq(text[at + 1..].bytes().take(2).filter(u8::is_ascii_hexdigit))
            || text.len() < at + 3
    });
    if bad_escape {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut letters = scheme.bytes();
    if !letters.next().is_some_and(|b| b.is_ascii_alphabetic())
        || !letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    {
        return false;
    }
    // With a scheme and no slash the rest is opaque and taken as it is; an authority must be well formed.
    let Some(rest) = rest.strip_prefix("//") else {
        return true;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = match host.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((_, port)) => port.strip_prefix(':').unwrap_or(port),
            None => return false,
        },
        None => host.rsplit_once(':').map_or("", |(_, port)| port),
    };
    port.bytes().all(|b| b.is_ascii_digit()) && !host.bytes().any(|b| b" \"<>\\^`{|}".contains(&b))
}

fn is_email(text: &str) -> bool {
    // `Name <address>` or the address alone, as RFC 5322 has them.
    let address = match (text.rfind('<'), text.trim_end().strip_suffix('>')) {
        (Some(from), Some(inner)) => &inner[from + 1..],
        (None, None) => text.trim(),
        _ => return false,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let atom = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || local.split('.').all(atom)) && (literal || domain.split('.').all(atom))
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 255 && text.split('.').all(|part| part.len() <= 63) && matches(&HOST, HOST_PATTERN, text)
}

/// An IPv4 address; leading zeros are let through, as the real server does.
fn ipv4(text: &str) -> Option<[u8; 4]> {
    let mut parts = text.split('.');
    let mut out = [0; 4];
    for slot in &mut out {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let bits = if ipv4(address).is_some() {
        32
    } else if matches!(address.parse(), Ok(IpAddr::V6(_))) {
        128
    } else {
        return false;
    };
    !length.is_empty()
        && length.len() <= 3
        && length.bytes().all(|b| b.is_ascii_digit())
        && length.parse::<u8>().is_ok_and(|length| length <= bits)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts
                .iter()
                .all(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    // Dashes may be left out one by one, but stand nowhere else.
    let mut rest = text;
    let mut digits = String::with_capacity(32);
    for (group, width) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let (Some(part), Some(left)) = (rest.get(..width), rest.get(width..)) else {
            return false;
        };
        digits.push_str(part);
        rest = left;
    }
    if !rest.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    let bytes = digits.as_bytes();
    match version {
        None => true,
        Some('3') => bytes[12] == b'3',
        Some(version) => bytes[12] == version as u8 && b"89abAB".contains(&bytes[16]),
    }
}

fn isbn_digits(text: &str) -> Vec<char> {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    if digits.len() != 10 {
        return false;
    }
    let mut sum = 0;
    for (place, digit) in (1..).zip(&digits) {
        match digit.to_digit(10) {
            Some(value) => sum += place * value,
            None if *digit == 'X' && place == 10 => sum += 100,
            None => return false,
        }
    }
    sum % 11 == 0
}

fn isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    if digits.len() != 13 {
        return false;
    }
    let mut sum = 0;
    for (place, digit) in digits.iter().enumerate() {
        let Some(value) = digit.to_digit(10) else {
            return false;
        };
        sum += value * if place % 2 == 0 { 1 } else { 3 };
    }
    sum % 10 == 0
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !matches(&CARD, CARD_PATTERN, &digits) {
        return false;
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0') * if place % 2 == 1 { 2 } else { 1 };
            if value >= 10 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-' && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((date, time)) = lower.split_once('t') else {
        return false;
    };
    let time = time.split('t').next().unwrap_or_default();
    let Some(found) = compiled(&TIME, TIME_PATTERN).and_then(|regex| regex.captures(time)) else {
        return false;
    };
    is_date(date) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// The nanoseconds of a duration such as `1h30m`, or of a looser form such as `22 ns` or `3 days`.
pub(super) fn duration_nanos(text: &str) -> Option<i64> {
    if let Some(nanos) = go_duration_nanos(text) {
        return Some(nanos);
    }
    let mut total: i64 = 0;
    let mut found = false;
    for part in compiled(&UNITS, UNITS_PATTERN)?.captures_iter(text) {
        let count: i64 = part[1].parse().ok()?;
        let unit = part[2].to_lowercase();
        for (names, nanos) in [
            (&["ns", "nano"][..], 1),
            (&["us", "µs", "micro"], 1_000),
            (&["ms", "milli"], 1_000_000),
            (&["s", "sec"], 1_000_000_000),
            (&["m", "min"], 60_000_000_000),
            (&["h", "hr", "hour"], 3_600_000_000_000),
            (&["d", "day"], 86_400_000_000_000),
            (&["w", "wk", "week"], 604_800_000_000_000_i64),
        ] {
            let last = names.len() - 1;
            if names
                .iter()
                .enumerate()
                .any(|(at, name)| unit == *name || (at == last && unit.starts_with(name)))
            {
                found = true;
                total = total.wrapping_add(count.wrapping_mul(nanos));
            }
        }
    }
    found.then_some(total)
}

/// The nanoseconds of a duration in Go's form: numbers with the units h, m, s, ms, us (µs) and ns, none between.
pub(super) fn go_duration_nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(nanos)?)?;
        let mut scale = nanos;
        for digit in fraction.bytes() {
            scale /= 10;
            total += i128::from(digit - b'0') * scale;
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_texts_as_the_real_server() {
        for (name, good, bad) in [
            (
                "uri",
                &["https://a.b/c?d", "/a", "urn:x"][..],
                &["a.b/c", "", "http://[::1"][..],
            ),
            ("email", &["a@b", "A <a.b@c.d>"], &["a", "@b", "a b@c"]),
            (
                "hostname",
                &["a", "a.example.com", "1a.bc"],
                &["-a", "a..b", "a_b"],
            ),
            ("ipv4", &["1.2.3.4", "01.2.3.4"], &["1.2.3", "::1", "1.2.3.256"]),
            ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "fe80::1%eth0"]),
            (
                "cidr",
                &["10.0.0.0/8", "::/0"],
                &["10.0.0.0/33", "10.0.0.0", "x/8"],
            ),
            (
                "mac",
                &["01:23:45:67:89:ab", "0123.4567.89ab"],
                &["01:23", "zz:23:45:67:89:ab"],
            ),
            (
                "uuid",
                &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
                &["6ba7b810", "x"],
            ),
            (
                "uuid4",
                &["f47ac10b-58cc-4372-a567-0e02b2c3d479"],
                &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
            ),
            ("isbn", &["0321751043", "978-0321751041"], &["0321751042"]),
            ("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112"]),
            ("ssn", &["111-11-1111"], &["111111111"]),
            ("hexcolor", &["#FFFFFF", "abc"], &["#ff"]),
            ("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2,256)"]),
            ("byte", &["YWJj", "YQ=="], &["a", ""]),
            ("date", &["2024-02-29"], &["2023-02-29", "2024-2-9"]),
            ("duration", &["1h30m", "22 ns", "-1.5s", "3 days"], &["x", "1"]),
            (
                "date-time",
                &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
                &["2014-12-15", "2014-12-15T24:00:00Z"],
            ),
            ("k8s-short-name", &["a-b"], &["A", "a.b"]),
            ("k8s-long-name", &["a.b-c"], &["a..b"]),
        ] {
            let format = Format::of(Some(Type::String), name);
            assert!(format.is_some(), "{name}");
            for text in good {
                assert!(format.is_some_and(|f| f.accepts(text)), "{name} {text}");
            }
            for text in bad {
                assert!(!format.is_some_and(|f| f.accepts(text)), "{name} {text}");
            }
        }
    }

    #[test]
    fn knows_which_formats_belong_to_which_type() {
        assert!(is_recognized_format("integer", "int32"));
        assert!(!is_recognized_format("string", "int32"));
        assert!(!is_recognized_format("object", "date"));
        assert!(is_recognized_format("", "datetime"));
    }
}
