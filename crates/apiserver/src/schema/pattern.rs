//! Regular expressions as Go's `regexp` reads them. Its syntax and that of the `regex` crate differ in small things
//! (ASCII classes, brackets inside classes, literal braces), which are translated; both match in linear time.

use super::gotext;
use regex::Regex;
use std::fmt::Write as _;
use std::sync::Arc;

/// A compiled pattern with its source.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: Arc<str>,
    compiled: Result<Regex, String>,
}

impl Pattern {
    /// Compiles `source`. One that cannot be compiled is kept with its error, as the real server keeps it.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            compiled: compile(source),
        }
    }

    /// The pattern as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Why it cannot be compiled, in the words of Go's `regexp`.
    pub fn error(&self) -> Option<&str> {
        self.compiled.as_ref().err().map(String::as_str)
    }

    /// Whether it matches somewhere in `text`.
    ///
    /// # Errors
    /// The error of compilation.
    pub fn is_match(&self, text: &str) -> Result<bool, &str> {
        match &self.compiled {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(error) => Err(error),
        }
    }
}

/// Compiles a pattern in Go's syntax.
///
/// # Errors
/// The error in the words of Go's `regexp`.
pub fn compile(source: &str) -> Result<Regex, String> {
    let translated = translate(source)?;
    Regex::new(&translated).map_err(|error| explain(source, &error))
}

fn parse_error(what: &str, part: &str) -> String {
    format!("error parsing regexp: {what}: `{part}`")
}

/// Go's words for the errors that occur in practice; others keep the crate's own.
fn explain(source: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let what = last.strip_prefix("error: ").unwrap_or(last);
    match what {
        "unclosed character class" => {
            let from = source.find('[').unwrap_or(0);
            parse_error("missing closing ]", &source[from..])
        }
        "unclosed group" => parse_error("missing closing )", source),
        "unopened group" => parse_error("unexpected )", source),
        "repetition operator missing expression" => {
            let operator = source.chars().find(|c| "*+?{".contains(*c)).unwrap_or('*');
            parse_error("missing argument to repetition operator", &operator.to_string())
        }
        "incomplete escape sequence, reached end of pattern prematurely" => {
            "error parsing regexp: trailing backslash at end of expression: ``".to_owned()
        }
        _ => format!("error parsing regexp: {what}: {}", gotext::quote(source)),
    }
}

/// Rewrites Go's syntax to the crate's.
fn translate(source: &str) -> Result<String, String> {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len() + 16);
    let mut at = 0;
    let mut class_start = None;
    while at < chars.len() {
        let c = chars[at];
        let rest = &chars[at..];
        match (c, class_start) {
            ('\\', _) => at += escape(rest, class_start.is_some(), &mut out)?,
            ('[', None) => {
                out.push('[');
                at += 1;
                class_start = Some(at);
                if chars.get(at) == Some(&'^') {
                    out.push('^');
                    at += 1;
                    class_start = Some(at);
                }
                // A bracket that closes at once is a literal one.
                if chars.get(at) == Some(&']') {
                    out.push_str("\\]");
                    at += 1;
                }
            }
            ('[', Some(_)) if rest.get(1) == Some(&':') => {
                out.push('[');
                at += 1;
                while at < chars.len() && chars[at] != ']' {
                    out.push(chars[at]);
                    at += 1;
                }
                out.push(']');
                at += 1;
            }
            (']', Some(_)) => {
                class_start = None;
                out.push(']');
                at += 1;
            }
            ('[' | '&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
                at += 1;
            }
            ('-', Some(start)) => {
                // The crate reads `--` as a difference of classes.
                if at == start || rest.get(1) == Some(&']') || rest.get(1) == Some(&'-') {
                    out.push('\\');
                }
                out.push('-');
                at += 1;
            }
            ('(', None) => {
                let ahead: String = rest.iter().take(4).collect();
                if ["(?=", "(?!", "(?<=", "(?<!"]
                    .iter()
                    .any(|p| ahead.starts_with(p))
                {
                    let shown: String = rest.iter().take(3).collect();
                    return Err(parse_error("invalid or unsupported Perl syntax", &shown));
                }
                out.push('(');
                at += 1;
            }
            ('{', None) if !is_repeat(rest) => {
                out.push_str("\\{");
                at += 1;
            }
            ('}', None) if !out_ends_in_repeat(&out) => {
                out.push_str("\\}");
                at += 1;
            }
            _ => {
                out.push(c);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Writes what the escape at the start of `rest` means; returns how many characters it took.
fn escape(rest: &[char], in_class: bool, out: &mut String) -> Result<usize, String> {
    let Some(&next) = rest.get(1) else {
        return Err("error parsing regexp: trailing backslash at end of expression: ``".to_owned());
    };
    let class = |inner: &str, negated: bool| match (in_class, negated) {
        (true, false) => inner.to_owned(),
        (_, true) => format!("[^{inner}]"),
        (false, false) => format!("[{inner}]"),
    };
    match next {
        'd' | 'D' => out.push_str(&class("0-9", next == 'D')),
        'w' | 'W' => out.push_str(&class("0-9A-Za-z_", next == 'W')),
        's' | 'S' => out.push_str(&class("\\t\\n\\x0C\\r ", next == 'S')),
        'b' | 'B' if !in_class => {
            let _ = write!(out, "(?-u:\\{next})");
        }
        'Q' if !in_class => {
            let mut taken = 2;
            while taken < rest.len() {
                if rest[taken] == '\\' && rest.get(taken + 1) == Some(&'E') {
                    return Ok(taken + 2);
                }
                out.push_str(&regex::escape(&rest[taken].to_string()));
                taken += 1;
            }
            return Ok(taken);
        }
        'p' | 'P' | 'x' if rest.get(2) == Some(&'{') => {
            let named: String = rest.iter().skip(2).take_while(|c| **c != '}').collect();
            let _ = write!(out, "\\{next}{named}}}");
            return Ok((3 + named.chars().count()).min(rest.len()));
        }
        'A' | 'z' | 'p' | 'P' | 'x' | 'a' | 'f' | 't' | 'n' | 'r' | 'v' => {
            out.push('\\');
            out.push(next);
        }
        c if c.is_ascii_alphanumeric() => {
            return Err(parse_error("invalid escape sequence", &format!("\\{c}")));
        }
        c => {
            if c.is_ascii_punctuation() && c != '<' && c != '>' {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Ok(2)
}

/// Whether `rest` starts with a repetition such as `{2}` or `{2,}` or `{2,3}`; Go takes other braces literally.
fn is_repeat(rest: &[char]) -> bool {
    let mut at = 1;
    let digits = |at: &mut usize| {
        let from = *at;
        while rest.get(*at).is_some_and(char::is_ascii_digit) {
            *at += 1;
        }
        *at > from
    };
    if !digits(&mut at) {
        return false;
    }
    if rest.get(at) == Some(&',') {
        at += 1;
        digits(&mut at);
    }
    rest.get(at) == Some(&'}')
}

fn out_ends_in_repeat(out: &str) -> bool {
    let body = out.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
    body.ends_with('{') && !body.ends_with("\\{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_gos_syntax() {
        for (pattern, matching, not_matching) in [
            (r"^\d+$", "12", "٣"),
            (r"^[\w-]+$", "a-b_1", "é"),
            (r"^[a-z[]$", "[", "]"),
            (r"^[]a]$", "]", "b"),
            (r"^\{[0-9]{2}\}$", "{12}", "{1}"),
            (r"^a{,3}$", "a{,3}", "aa"),
            (r"^\/x$", "/x", "x"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", "-b"),
            (r"^(?i)abc$", "ABC", "abd"),
            (r"^[a&&b]$", "&", "c"),
            (r"^\p{Lu}$", "A", "a"),
            (r"^[!-~]+$", "a~", " "),
            (r"^[[:alpha:]_]+$", "a_", "1"),
            (r"^\S+$", "ab", "a b"),
            (r"^[^\s]+$", "ab", "a b"),
        ] {
            let compiled = Pattern::new(pattern);
            assert_eq!(compiled.is_match(matching), Ok(true), "{pattern}");
            assert_eq!(compiled.is_match(not_matching), Ok(false), "{pattern}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (pattern, error) in [
            ("[a-", "error parsing regexp: missing closing ]: `[a-`"),
            ("(a", "error parsing regexp: missing closing ): `(a`"),
            ("a)", "error parsing regexp: unexpected ): `a)`"),
            (
                "*a",
                "error parsing regexp: missing argument to repetition operator: `*`",
            ),
            (
                "(?=a)",
                "error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
            ),
            (
                "(?<!a)",
                "error parsing regexp: invalid or unsupported Perl syntax: `(?<`",
            ),
            (r"\y", r"error parsing regexp: invalid escape sequence: `\y`"),
        ] {
            assert_eq!(Pattern::new(pattern).error(), Some(error), "{pattern}");
        }
    }
}
