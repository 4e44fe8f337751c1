//! Label and field selectors, read and matched as the API machinery does.

use super::names;
use crate::field::{FieldError, Path};
use serde_json::json;
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    Exists,
    Missing,
    In,
    NotIn,
    NotEquals,
    Greater,
    Less,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// A label selector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels(Vec<Requirement>);

impl Labels {
    /// Reads `a=b,c in (d,e),!f`; the error is the machinery's text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Parser::new(text).parse().map(Self)
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels, asked by key, are selected.
    pub(crate) fn matches<'a>(&self, labels: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|r| {
            let value = labels(&r.key);
            match r.operator {
                Operator::Exists => value.is_some(),
                Operator::Missing => value.is_none(),
                Operator::In => value.is_some_and(|v| r.values.contains(v)),
                Operator::NotIn | Operator::NotEquals => value.is_none_or(|v| !r.values.contains(v)),
                Operator::Greater | Operator::Less => {
                    let number = value.and_then(|v| v.parse::<i64>().ok());
                    let limit = r.values.first().and_then(|v| v.parse::<i64>().ok());
                    match (number, limit) {
                        (Some(number), Some(limit)) if r.operator == Operator::Greater => number > limit,
                        (Some(number), Some(limit)) => number < limit,
                        _ => false,
                    }
                }
            }
        })
    }
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

fn special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// Whether a token is an identifier where values are read, so that `in` may be one.
fn identifier(token: &str) -> bool {
    token.starts_with(|c| !special(c))
}

impl Parser {
    fn new(text: &str) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        let mut joined = false;
        for c in text.chars() {
            if c.is_whitespace() {
                joined = false;
            } else if let Some(last) = tokens.last_mut().filter(|_| joined) {
                let pair = format!("{last}{c}");
                if matches!(pair.as_str(), "!=" | "==") || (!special(c) && identifier(last)) {
                    *last = pair;
                } else {
                    tokens.push(c.to_string());
                }
            } else {
                tokens.push(c.to_string());
                joined = true;
            }
        }
        Self { tokens, at: 0 }
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut found = Vec::new();
        loop {
            let token = self.peek();
            if token.is_empty() {
                return Ok(found);
            }
            if !identifier(token) && token != "!" {
                return Err(format!(
                    "found '{token}', expected: !, identifier, or 'end of string'"
                ));
            }
            let requirement = self
                .requirement()
                .map_err(|error| format!("unable to parse requirement: {error}"))?;
            found.push(requirement);
            match self.next().as_str() {
                "" => return Ok(found),
                "," => {
                    let token = self.peek();
                    if !identifier(token) && token != "!" {
                        return Err(format!("found '{token}', expected: identifier after ','"));
                    }
                }
                token => return Err(format!("found '{token}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let missing = token == "!";
        if missing {
            token = self.next();
        }
        if !identifier(&token) {
            return Err(format!("found '{token}', expected: identifier"));
        }
        let key = token;
        bad(&Path::default(), &key, &names::qualified(&key))?;
        let ends = matches!(self.peek(), "" | ",");
        if missing || ends {
            let operator = if missing {
                Operator::Missing
            } else {
                Operator::Exists
            };
            return Ok(Requirement {
                key,
                operator,
                values: BTreeSet::new(),
            });
        }
        let token = self.next();
        let operator = match token.as_str() {
            "in" | "=" | "==" => Operator::In,
            "notin" => Operator::NotIn,
            "!=" => Operator::NotEquals,
            ">" => Operator::Greater,
            "<" => Operator::Less,
            _ => {
                return Err(format!("found '{token}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        let values = if matches!(token.as_str(), "in" | "notin") {
            self.values()?
        } else {
            BTreeSet::from([self.exact()?])
        };
        let path = Path::new("values");
        for (index, value) in values.iter().enumerate() {
            if matches!(operator, Operator::Greater | Operator::Less) && value.parse::<i64>().is_err() {
                return Err(FieldError::invalid(
                    &path.index(index),
                    &json!(value),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                )
                .to_string());
            }
            bad(&path.index(index).key(&key), value, &names::label_value(value))?;
        }
        Ok(Requirement {
            key,
            operator,
            values,
        })
    }

    fn exact(&mut self) -> Result<String, String> {
        if matches!(self.peek(), "" | ",") {
            return Ok(String::new());
        }
        let token = self.next();
        if identifier(&token) {
            Ok(token)
        } else {
            Err(format!("found '{token}', expected: identifier"))
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let token = self.next();
        if token != "(" {
            return Err(format!("found '{token}' expected: '('"));
        }
        let first = self.peek().to_owned();
        if first == ")" {
            self.next();
            return Ok(BTreeSet::from([String::new()]));
        }
        if !identifier(&first) && first != "," {
            return Err(format!("found '{first}', expected: ',', ')' or identifier"));
        }
        let mut values = BTreeSet::new();
        loop {
            let token = self.next();
            if identifier(&token) {
                values.insert(token);
                match self.peek() {
                    "," => {}
                    ")" => break,
                    other => return Err(format!("found '{other}', expected: ',' or ')'")),
                }
            } else if token == "," {
                if values.is_empty() {
                    values.insert(String::new());
                }
                if matches!(self.peek(), ")" | ",") {
                    values.insert(String::new());
                }
                if self.peek() == ")" {
                    break;
                }
            } else {
                return Err(format!("found '{token}', expected: ',', or identifier"));
            }
        }
        self.next();
        Ok(values)
    }
}

fn bad(path: &Path, value: &str, said: &[String]) -> Result<(), String> {
    if said.is_empty() {
        Ok(())
    } else {
        Err(FieldError::invalid(path, &json!(value), said.join("; ")).to_string())
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldTerm {
    pub(crate) field: String,
    pub(crate) equal: bool,
    pub(crate) value: String,
}

/// A field selector: terms that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<FieldTerm>);

impl Fields {
    /// Reads `a=b,c!=d`; a backslash escapes a comma, an equals sign and itself.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split_unescaped(text).into_iter().filter(|part| !part.is_empty()) {
            let not_understood = || format!("invalid selector: '{text}'; can't understand '{part}'");
            let (field, equal, value) = split_term(part).ok_or_else(not_understood)?;
            let value = unescape(value).ok_or_else(|| format!("invalid field selector: {value}"))?;
            terms.push(FieldTerm {
                field: field.to_owned(),
                equal,
                value,
            });
        }
        Ok(Self(terms))
    }

    /// The value that a field must have, where one term says so.
    pub(crate) fn exact(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|term| term.equal && term.field == field)
            .map(|term| term.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(&text[start..at]);
            start = at + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        Some((field, false, value))
    } else if let Some(value) = rest.strip_prefix("==") {
        Some((field, true, value))
    } else {
        rest.strip_prefix('=').map(|value| (field, true, value))
    }
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        Labels::parse(selector)
            .unwrap()
            .matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn labels_match_in_all_forms() {
        let labels = [("a", "1"), ("example.com/b", "x"), ("in", "in")];
        for yes in [
            "",
            "a",
            "a=1",
            "a == 1",
            "a!=2",
            "a in (1, 2)",
            "a notin (3)",
            "!c",
            "c!=1",
            "a>0",
            "a<2",
            "example.com/b=x,a",
            "in in (in)",
            "c notin ()",
        ] {
            assert!(matches(yes, &labels), "{yes}");
        }
        for no in [
            "c",
            "a=2",
            "a!=1",
            "a in (2,,)",
            "a notin (1)",
            "!a",
            "a>1",
            "a=",
            "c>1",
        ] {
            assert!(!matches(no, &labels), "{no}");
        }
    }

    #[test]
    fn bad_label_selectors_are_refused_in_the_machinerys_words() {
        let error = |text| Labels::parse(text).unwrap_err();
        assert_eq!(error("a,"), "found '', expected: identifier after ','");
        assert_eq!(
            error(",a"),
            "found ',', expected: !, identifier, or 'end of string'"
        );
        assert_eq!(
            error("a in 1"),
            "unable to parse requirement: found '1' expected: '('"
        );
        assert_eq!(
            error("a b"),
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
        );
        assert!(
            error("-a").starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part")
        );
        assert!(
            error("a=%").starts_with(
                "unable to parse requirement: values[0][a]: Invalid value: \"%\": a valid label"
            )
        );
    }

    #[test]
    fn fields_are_read_with_escapes() {
        let fields = Fields::parse("metadata.name=a\\,b,status.phase!=Running,x==y").unwrap();
        assert_eq!(fields.exact("metadata.name"), Some("a,b"));
        assert!(!fields.0[1].equal);
        assert_eq!(fields.exact("x"), Some("y"));
        assert_eq!(
            Fields::parse("a").unwrap_err(),
            "invalid selector: 'a'; can't understand 'a'"
        );
        assert_eq!(Fields::parse("").unwrap(), Fields::default());
    }
}
