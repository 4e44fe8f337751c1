//! JSONPath in kubectl's dialect, as printer columns and selectable fields use it: `.a.b`, `['a']`, `[0]`, `[-1]`,
//! `[1:3]`, `[0,2]`, `[*]`, `.*`, `..a`, `[?(@.type=="Ready")]`, `\.` for a dot within a name.

use serde_json::Value;
use std::cmp::Ordering;

/// A path that was parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

/// Why a path could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A bracket, brace or quote that is not closed.
    #[error("unterminated {0}")]
    Unterminated(&'static str),
    /// What stands between brackets is neither an index, a name nor a filter.
    #[error("invalid array index {0}")]
    Index(String),
    /// A filter that cannot be read.
    #[error("unrecognized filter {0}")]
    Filter(String),
    /// A character where none belongs.
    #[error("unrecognized character in action: {0:?}")]
    Character(char),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    /// Start, end and step of a range; a single index has its end right after.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Union(Vec<Step>),
    Filter(Box<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    operator: Option<(Operator, Operand)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

impl JsonPath {
    /// Parses a path, with or without the braces around it.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(source: &str) -> Result<Self, PathError> {
        let source = source.trim();
        let source = match source.strip_prefix('{') {
            Some(inner) => inner.strip_suffix('}').ok_or(PathError::Unterminated("action"))?,
            None => source,
        };
        let mut steps = Vec::new();
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '$' | '@' if steps.is_empty() => &rest[1..],
                '.' if rest.starts_with("..") => {
                    steps.push(Step::Recursive);
                    // A name follows without a dot of its own.
                    if rest[2..].starts_with('[') || rest.len() == 2 {
                        &rest[2..]
                    } else {
                        &rest[1..]
                    }
                }
                '.' => field(&rest[1..], &mut steps),
                '[' => bracket(rest, &mut steps)?,
                c if steps.is_empty() && (c.is_alphanumeric() || c == '_') => field(rest, &mut steps),
                c => return Err(PathError::Character(c)),
            };
        }
        Ok(Self(steps))
    }

    /// The values that the path leads to, in order; none where something on the way is missing.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
            }
            found = next;
        }
        found
    }
}

/// Reads a name up to the next delimiter; a backslash keeps the character after it.
fn field<'a>(rest: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let mut name = String::new();
    let mut chars = rest.char_indices();
    let mut end = rest.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                if let Some((_, escaped)) = chars.next() {
                    name.push(escaped);
                }
            }
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    if name == "*" {
        steps.push(Step::Wildcard);
    } else if !name.is_empty() {
        steps.push(Step::Field(name));
    }
    &rest[end..]
}

/// Reads `[…]`.
fn bracket<'a>(rest: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, PathError> {
    let end = closing(rest).ok_or(PathError::Unterminated("array"))?;
    let inner = rest[1..end].trim();
    if let Some(filter) = inner.strip_prefix("?(") {
        let filter = filter
            .strip_suffix(')')
            .ok_or(PathError::Unterminated("filter"))?;
        steps.push(Step::Filter(Box::new(parse_filter(filter)?)));
    } else {
        let mut parts = split(inner)
            .into_iter()
            .map(|part| element(part.trim()))
            .collect::<Result<Vec<_>, _>>()?;
        match parts.len() {
            1 => steps.append(&mut parts),
            _ => steps.push(Step::Union(parts)),
        }
    }
    Ok(&rest[end + 1..])
}

/// Where the bracket that `text` starts with closes, brackets and quotes within aside.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Splits at commas outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ',') => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    Some(out)
}

fn element(text: &str) -> Result<Step, PathError> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(name) = unquoted(text) {
        return Ok(Step::Field(name));
    }
    let number = |text: &str| -> Result<Option<i64>, PathError> {
        match text.trim() {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| PathError::Index(text.to_owned())),
        }
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [index] => number(index)?
            .map(Step::Index)
            .ok_or_else(|| PathError::Index(text.to_owned())),
        [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
        [from, to, by] => Ok(Step::Slice(number(from)?, number(to)?, number(by)?.unwrap_or(1))),
        _ => Err(PathError::Index(text.to_owned())),
    }
}

fn parse_filter(text: &str) -> Result<Filter, PathError> {
    for (sign, operator) in [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessEqual),
        (">=", Operator::GreaterEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ] {
        if let Some((left, right)) = text.split_once(sign) {
            return Ok(Filter {
                left: operand(left.trim())?,
                operator: Some((operator, operand(right.trim())?)),
            });
        }
    }
    Ok(Filter {
        left: operand(text.trim())?,
        operator: None,
    })
}

fn operand(text: &str) -> Result<Operand, PathError> {
    if let Some(text) = unquoted(text) {
        return Ok(Operand::Literal(Value::String(text)));
    }
    if text.starts_with(['@', '.', '$']) {
        return JsonPath::parse(text).map(Operand::Path);
    }
    serde_json::from_str(text)
        .map(Operand::Literal)
        .map_err(|_| PathError::Filter(text.to_owned()))
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, next: &mut Vec<&'a Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => next.extend(map.get(name)),
            (Self::Wildcard, Value::Object(map)) => next.extend(map.values()),
            (Self::Wildcard, Value::Array(items)) => next.extend(items),
            (Self::Recursive, _) => {
                next.push(value);
                let below: Box<dyn Iterator<Item = &Value>> = match value {
                    Value::Object(map) => Box::new(map.values()),
                    Value::Array(items) => Box::new(items.iter()),
                    _ => return,
                };
                for value in below {
                    self.follow(value, next);
                }
            }
            (Self::Index(index), Value::Array(items)) => {
                let index = if *index < 0 {
                    *index + length(items)
                } else {
                    *index
                };
                next.extend(usize::try_from(index).ok().and_then(|index| items.get(index)));
            }
            (Self::Slice(from, to, by), Value::Array(items)) => {
                let size = length(items);
                let bound = |bound: Option<i64>, default: i64| match bound {
                    Some(bound) if bound < 0 => (bound + size).max(0),
                    Some(bound) => bound.min(size),
                    None => default,
                };
                let (from, to) = (bound(*from, 0), bound(*to, size));
                let picked = items
                    .iter()
                    .take(usize::try_from(to).unwrap_or(0))
                    .skip(usize::try_from(from).unwrap_or(0))
                    .step_by(usize::try_from(*by).unwrap_or(1).max(1));
                next.extend(picked);
            }
            (Self::Union(steps), _) => steps.iter().for_each(|step| step.follow(value, next)),
            (Self::Filter(filter), Value::Array(items)) => {
                next.extend(items.iter().filter(|item| filter.holds(item)));
            }
            _ => {}
        }
    }
}

fn length(items: &[Value]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let left = self.left.value(item);
        let Some((operator, right)) = &self.operator else {
            return left.is_some();
        };
        let (Some(left), Some(right)) = (left, right.value(item)) else {
            return false;
        };
        let ordering = compare(left, right);
        match operator {
            Operator::Equal => ordering == Some(Ordering::Equal),
            Operator::NotEqual => ordering != Some(Ordering::Equal),
            Operator::Less => ordering == Some(Ordering::Less),
            Operator::LessEqual => ordering.is_some_and(Ordering::is_le),
            Operator::Greater => ordering == Some(Ordering::Greater),
            Operator::GreaterEqual => ordering.is_some_and(Ordering::is_ge),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Path(path) => path.find(item).into_iter().next(),
        }
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn follows_kubectls_dialect() {
        let value = json!({"a": {"b": [1, 2, 3], "x.y": "z", "s": "t"}, "c": [
            {"type": "Ready", "status": "True", "n": 1}, {"type": "Other", "status": "False", "n": 2}]});
        for (path, found) in [
            (".a.b[0]", json!([1])),
            ("{.a.b[-1]}", json!([3])),
            (".a.b[1:]", json!([2, 3])),
            (".a.b[0:2]", json!([1, 2])),
            (".a.b[0,2]", json!([1, 3])),
            (".a.b[*]", json!([1, 2, 3])),
            (r".a.x\.y", json!(["z"])),
            (".a['x.y']", json!(["z"])),
            (r#".c[?(@.type=="Ready")].status"#, json!(["True"])),
            (".c[?(@.type=='Other')].status", json!(["False"])),
            (".c[?(@.n>1)].type", json!(["Other"])),
            (".c[?(@.missing)].type", json!([])),
            (".c[*].type", json!(["Ready", "Other"])),
            ("..status", json!(["True", "False"])),
            (".missing.x", json!([])),
            ("$.a.s", json!(["t"])),
        ] {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(json!(parsed.find(&value)), found, "{path}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for path in [".a[", ".a[x]", ".a[?(@.b==)]", "{.a"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
