//! YAML answers.

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The column after which a text is carried on in the next line.
const WIDTH: usize = 80;

/// A value as a YAML document.
pub(crate) fn write(value: &Value) -> String {
    let mut out = Writer {
        text: String::new(),
        start: 0,
    };
    match value {
        Value::Object(map) if !map.is_empty() => out.map(map, 0),
        Value::Array(items) if !items.is_empty() => out.list(items, 0),
        other => out.scalar(other, 0),
    }
    out.text
}

struct Writer {
    text: String,
    /// Where the line at hand starts.
    start: usize,
}

impl Writer {
    fn end_line(&mut self) {
        self.text.push('\n');
        self.start = self.text.len();
    }

    fn indent(&mut self, by: usize) {
        self.text.extend(std::iter::repeat_n(' ', by));
    }

    /// A map; its first key stands where the writer is, as after the dash of a list.
    fn map(&mut self, map: &Map<String, Value>, indent: usize) {
        for (place, (key, value)) in map.iter().enumerate() {
            if place > 0 {
                self.indent(indent);
            }
            match style(key) {
                Style::Plain if !key.is_empty() => self.text.push_str(key),
                Style::Plain | Style::Single => self.single(key, None),
                Style::Double | Style::Literal => self.double(key, None),
            }
            self.text.push(':');
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    self.end_line();
                    self.indent(indent + 2);
                    self.map(inner, indent + 2);
                }
                // Lists in maps are not indented.
                Value::Array(items) if !items.is_empty() => {
                    self.end_line();
                    self.indent(indent);
                    self.list(items, indent);
                }
                other => {
                    self.text.push(' ');
                    self.scalar(other, indent + 2);
                }
            }
        }
    }

    fn list(&mut self, items: &[Value], indent: usize) {
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.indent(indent);
            }
            self.text.push_str("- ");
            match item {
                Value::Object(map) if !map.is_empty() => self.map(map, indent + 2),
                Value::Array(items) if !items.is_empty() => self.list(items, indent + 2),
                other => self.scalar(other, indent + 2),
            }
        }
    }

    /// What ends its line; `indent` is that of lines that carry it on.
    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(text) => match style(text) {
                Style::Plain => self.folded(text, indent),
                Style::Single => self.single(text, Some(indent)),
                Style::Double => self.double(text, Some(indent)),
                Style::Literal => return self.literal(text, indent),
            },
            // Empty ones; numbers, booleans and null are written as in JSON.
            other => {
                let _ = write!(self.text, "{other}");
            }
        }
        self.end_line();
    }

    /// Whether a line that is long enough may end in place of the space between these two.
    fn breaks(&self, before: Option<char>, after: Option<char>) -> bool {
        before.is_some_and(|c| c != ' ')
            && after.is_some_and(|c| c != ' ')
            && self.text[self.start..].chars().count() > WIDTH
    }

    /// Writes what needs no escapes but that of single quotes in single quotes.
    fn folded(&mut self, text: &str, indent: usize) {
        let mut before = None;
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c == ' ' && self.breaks(before, rest.clone().next()) {
                self.end_line();
                self.indent(indent);
            } else {
                self.text.push(c);
            }
            before = Some(c);
        }
    }

    fn single(&mut self, text: &str, indent: Option<usize>) {
        self.text.push('\'');
        let escaped = text.replace('\'', "''");
        match indent {
            Some(indent) => self.folded(&escaped, indent),
            None => self.text.push_str(&escaped),
        }
        self.text.push('\'');
    }

    fn double(&mut self, text: &str, indent: Option<usize>) {
        self.text.push('"');
        let mut before = None;
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match (c, indent) {
                (' ', Some(indent)) if self.breaks(before, rest.clone().next()) => {
                    self.end_line();
                    self.indent(indent);
                }
                ('"' | '\\', _) => {
                    self.text.push('\\');
                    self.text.push(c);
                }
                _ if is_printable(c) => self.text.push(c),
                _ => self.escape(c),
            }
            before = Some(c);
        }
        self.text.push('"');
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(self.text, "\\x{code:02X}"),
                    0x100..=0xffff => write!(self.text, "\\u{code:04X}"),
                    _ => write!(self.text, "\\U{code:08X}"),
                };
                return;
            }
        };
        self.text.push('\\');
        self.text.push(short);
    }

    /// A text of lines, kept as they are.
    fn literal(&mut self, text: &str, indent: usize) {
        self.text.push('|');
        if text.starts_with([' ', '\n']) {
            self.text.push('2');
        }
        match text.strip_suffix('\n') {
            None => self.text.push('-'),
            Some(body) if body.is_empty() || body.ends_with('\n') => self.text.push('+'),
            Some(_) => {}
        }
        self.end_line();
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.indent(indent);
                self.text.push_str(line);
            }
            self.end_line();
        }
    }
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

fn style(text: &str) -> Style {
    let lines = text.contains('\n');
    let special = !text.chars().all(|c| c == '\n' || is_printable(c)) || text.contains(" \n");
    if special || lines && text.ends_with(' ') {
        return Style::Double;
    }
    if lines {
        return Style::Literal;
    }
    if means_something(text) {
        return Style::Double;
    }
    if is_plain(text) {
        Style::Plain
    } else {
        Style::Single
    }
}

/// Whether no indicator makes the text more than a text.
fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next().unwrap_or_default();
    let blank_next = chars.next().is_none_or(|c| c == ' ');
    let indicates = match first {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
            true
        }
        '?' | ':' | '-' => blank_next,
        _ => false,
    };
    !indicates
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !text.starts_with(' ')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
}

/// Whether a reader of YAML 1.1 would take the bare text for something else.
fn means_something(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "yes", "true", "on", "n", "no", "false", "off", "null"];
    const POINTS: [&str; 2] = ["inf", "nan"];
    let cased = |word: &str| {
        let lower = text.to_ascii_lowercase();
        let capital =
            word.get(..1).unwrap_or_default().to_ascii_uppercase() + word.get(1..).unwrap_or_default();
        lower == word && (text == word || text == word.to_ascii_uppercase() || text == capital)
    };
    match text.chars().next() {
        None => true,
        Some('~' | '<') => matches!(text, "~" | "<<"),
        Some('.' | '+' | '-' | '0'..='9') => {
            let unsigned = text.trim_start_matches(['+', '-']);
            let point = unsigned
                .strip_prefix('.')
                .is_some_and(|word| POINTS.contains(&&*word.to_ascii_lowercase()));
            point || is_number(text) || is_date(text)
        }
        Some(_) => WORDS.iter().any(|word| cased(word)),
    }
}

/// Integers of all bases, floats, and numbers to the base of sixty.
fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    if unsigned.is_empty() {
        return false;
    }
    let digits = |text: &str, base: u32| !text.is_empty() && text.chars().all(|c| c.is_digit(base));
    let based = unsigned.get(2..).is_some_and(|rest| {
        let base = match unsigned.get(..2) {
            Some("0x" | "0X") => 16,
            Some("0o" | "0O") => 8,
            Some("0b" | "0B") => 2,
            _ => return false,
        };
        digits(rest, base)
    });
    let mut sixty = unsigned.split(':');
    let whole = sixty.next().is_some_and(|first| digits(first, 10));
    let (parts, last) = match unsigned.rsplit_once(':') {
        Some((parts, last)) => (parts, last.split('.').next().unwrap_or_default()),
        None => ("", ""),
    };
    let small = |part: &str| digits(part, 10) && part.parse::<u32>().is_ok_and(|n| n < 60);
    let by_sixty = whole && small(last) && parts.split(':').skip(1).all(small);
    let float = unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit())
        && unsigned
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && unsigned.parse::<f64>().is_ok();
    based || by_sixty || float
}

/// Dates, with or without a time.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, longest: usize| {
        part.is_some_and(|part| {
            !part.is_empty() && part.len() <= longest && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    if !(digits(parts.next(), 4) && text.find('-') == Some(4) && digits(parts.next(), 2)) {
        return false;
    }
    let rest = parts.next().unwrap_or_default();
    let day = rest.bytes().take_while(u8::is_ascii_digit).count();
    let time = rest.get(day..).unwrap_or_default();
    (1..=2).contains(&day)
        && (time.is_empty()
            || time.starts_with(['T', 't', ' '])
                && time.contains(':')
                && time
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || b"Tt :.Z+-".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn writes_collections() {
        let value = json!({
            "a": {"b": [1, {"c": "d", "e": []}, [true, null]]},
            "f": {},
            "g": 1.5,
            ".": {"f:data": {".": {}}},
        });
        assert_eq!(
            write(&value),
            ".:\n  f:data:\n    .: {}\na:\n  b:\n  - 1\n  - c: d\n    e: []\n  - - true\n    - null\nf: {}\ng: 1.5\n"
        );
        assert_eq!(write(&json!([])), "[]\n");
    }

    #[test]
    fn quotes_what_would_be_something_else() {
        for (text, written) in [
            ("", "\"\""),
            ("yes", "\"yes\""),
            ("yEs", "yEs"),
            ("y", "\"y\""),
            ("null", "\"null\""),
            ("0x1F", "\"0x1F\""),
            ("1_000", "\"1_000\""),
            ("1e3", "\"1e3\""),
            ("12:30", "\"12:30\""),
            ("12:90", "12:90"),
            ("10.0.0.1", "10.0.0.1"),
            ("v1", "v1"),
            ("2026-01-02T03:04:05Z", "\"2026-01-02T03:04:05Z\""),
            ("2026-01-02-x", "2026-01-02-x"),
            ("-.inf", "\"-.inf\""),
            (".", "."),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("a #b", "'a #b'"),
            ("it's", "it's"),
            ("'quoted'", "'''quoted'''"),
            ("{}", "'{}'"),
            (" a", "' a'"),
            ("a\tb", "\"a\\tb\""),
            ("a\u{1}", "\"a\\x01\""),
            ("ä", "ä"),
            ("\u{1f600}", "\"\\U0001F600\""),
        ] {
            assert_eq!(write(&json!(text)), format!("{written}\n"), "{text}");
        }
    }

    #[test]
    fn writes_texts_of_lines() {
        assert_eq!(write(&json!({"a": "b\nc\n"})), "a: |\n  b\n  c\n");
        assert_eq!(write(&json!({"a": "b\n\nc"})), "a: |-\n  b\n\n  c\n");
        assert_eq!(write(&json!({"a": ["b\n\n"]})), "a:\n- |+\n  b\n\n");
        assert_eq!(write(&json!({"a": " b\nc\n"})), "a: |2\n   b\n  c\n");
        assert_eq!(write(&json!({"a": "b \nc"})), "a: \"b \\nc\"\n");
        let long = format!("{} {}", "x".repeat(85), "y");
        assert_eq!(
            write(&json!({"a": long})),
            format!("a: {}\n  y\n", "x".repeat(85))
        );
    }

    #[test]
    fn is_read_again_as_it_was() {
        let value = json!({
            "texts": ["", "a\n", "\n\n", " a\nb", "a\n b\n\n", "'", "\"", "\\", "a: b", "yes", "1", "\u{85}", "\r\n", "x ".repeat(99)],
            "more": {"": 1, "a b": [[], {}], "? x": -3, "01": null},
        });
        let read = super::super::read(write(&value).as_bytes()).unwrap();
        assert_eq!(read.value, value, "{}", write(&value));
    }
}
