//! Paths to fields of a schema, as `fieldPath` of rules and selectable fields give them: `.a.b`, `.map['key']`.

use crate::field::Path;
use serde_json::Value;

/// Follows a path through a schema; gives it in the form that errors have, and the schema at its end.
pub(super) fn follow<'a>(path: &str, schema: &'a Value, brackets: bool) -> Result<(Path, &'a Value), String> {
    let mut tokens = tokens(path).into_iter();
    let mut found = Path::root();
    let mut schema = schema;
    while let Some(token) = tokens.next() {
        let (name, bracket) = match token {
            "." => (
                tokens.next().ok_or("unexpected end of JSON path")?.to_owned(),
                false,
            ),
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                (unquote(quoted)?, true)
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let properties = schema.get("properties").filter(|p| p.is_object());
        let additional = schema.get("additionalProperties");
        schema = match (properties, additional) {
            (Some(properties), _) => {
                found = found.child(&name);
                properties.get(&name).ok_or("does not refer to a valid field")?
            }
            (None, Some(additional)) => {
                found = found.key(&name);
                additional
            }
            (None, None) => return Err("does not refer to a valid field".to_owned()),
        };
        if bracket {
            match tokens.next() {
                Some("]") => {}
                Some(other) => return Err(format!("expected ] but got {other}")),
                None => return Err("unexpected end of JSON path".to_owned()),
            }
        }
    }
    Ok((found, schema))
}

/// Splits at dots and brackets, which are tokens of their own, but for those in single quotes.
fn tokens(path: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => quoted_end(rest),
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        tokens.push(&rest[..end]);
        rest = &rest[end..];
    }
    tokens
}

fn quoted_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    (1..bytes.len())
        .find(|at| bytes[*at] == b'\'' && bytes[*at - 1] != b'\\')
        .map_or(text.len(), |at| at + 1)
}

fn unquote(quoted: &str) -> Result<String, String> {
    let inner = quoted
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(c @ ('\'' | '\\')) => out.push(c),
            Some(c) => return Err(format!("invalid string literal: invalid escape char \\{c}")),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn follows_fields_and_keys() {
        let schema = json!({"properties": {"a": {"properties": {"x.y": {"type": "string"}}},
            "m": {"additionalProperties": {"type": "integer"}}}});
        assert_eq!(follow(".a['x.y']", &schema, true).unwrap().0.as_str(), "a.x.y");
        assert_eq!(follow(".m['k']", &schema, true).unwrap().0.as_str(), "m[k]");
        for (path, error) in [
            (".b", "does not refer to a valid field"),
            ("a", "expected [ or . but got: a"),
            (".a[x]", "expected single quoted string but got x"),
            (".a.", "unexpected end of JSON path"),
        ] {
            assert_eq!(follow(path, &schema, true).unwrap_err(), error, "{path}");
        }
        assert_eq!(
            follow(".a['x.y']", &schema, false).unwrap_err(),
            "array notation is not allowed"
        );
    }
}
