//! Where in its text a part of an expression stands. The parser keeps no places, but parts are met in the order of
//! the text, so that the n-th use of an operator is its n-th place.

use std::collections::HashMap;

/// The places of the tokens of an expression.
pub(super) struct Places<'s> {
    source: &'s str,
    tokens: HashMap<&'s str, Vec<usize>>,
    met: HashMap<String, usize>,
}

const OPERATORS: [&str; 18] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", "[", "(", "{",
];

impl<'s> Places<'s> {
    pub fn new(source: &'s str) -> Self {
        let mut places = Self {
            source,
            tokens: HashMap::new(),
            met: HashMap::new(),
        };
        places.read();
        places
    }

    fn read(&mut self) {
        let mut at = 0;
        while let Some(first) = self.source[at..].chars().next() {
            let rest = &self.source[at..];
            let length = if first == '"' || first == '\'' {
                quoted(rest)
            } else if first.is_alphabetic() || first == '_' {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                end.unwrap_or(rest.len())
            } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
                operator.len()
            } else {
                first.len_utf8()
            };
            let token = &rest[..length];
            self.tokens.entry(token).or_default().push(at);
            at += length;
        }
    }

    /// The next place of a token that was not met before, else its last one.
    pub fn next(&mut self, token: &str) -> usize {
        let places = self.tokens.get(token).map(Vec::as_slice).unwrap_or_default();
        let met = self.met.entry(token.to_owned()).or_default();
        let place = places.get(*met).or(places.last()).copied().unwrap_or(0);
        *met += 1;
        place
    }

    /// The place of the dot before the next use of a field.
    pub fn dot(&mut self, field: &str) -> usize {
        let name = self.next(field);
        self.source[..name].rfind('.').unwrap_or(name)
    }

    /// The place of the parenthesis after the next use of a function.
    pub fn call(&mut self, function: &str) -> usize {
        let name = self.next(function);
        self.source[name..].find('(').map_or(name, |paren| name + paren)
    }

    /// The place of a text in quotes.
    pub fn find_quoted(&mut self, text: &str) -> Option<usize> {
        let quoted = [format!("\"{text}\""), format!("'{text}'")];
        let there = quoted
            .iter()
            .find(|quoted| self.tokens.contains_key(quoted.as_str()))?;
        Some(self.next(there))
    }

    /// Line and column, from one.
    pub fn position(&self, place: usize) -> (isize, isize) {
        let before = &self.source[..place.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (
            isize::try_from(line).unwrap_or(1),
            isize::try_from(column).unwrap_or(1),
        )
    }
}

fn quoted(text: &str) -> usize {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if Some(c) == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
