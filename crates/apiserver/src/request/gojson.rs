//! What the real server's JSON decoder says of text that is not JSON.

use std::fmt::Write as _;

/// The first thing wrong with the text, or none where it is JSON.
pub(crate) fn syntax_error(text: &[u8]) -> Option<String> {
    Scanner { text, at: 0 }.run().err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

type Scanned = Result<(), String>;

const END: &str = "unexpected end of JSON input";

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// The refusal of the byte at hand.
    fn bad(&self, context: &str) -> String {
        match self.peek() {
            None => END.to_owned(),
            Some(byte) => format!("invalid character {} {context}", quoted(byte)),
        }
    }

    fn run(&mut self) -> Scanned {
        // What is open: true for an object, false for a list.
        let mut open: Vec<bool> = Vec::new();
        self.space();
        self.value(&mut open)?;
        loop {
            self.space();
            let Some(&object) = open.last() else {
                return match self.peek() {
                    None => Ok(()),
                    Some(_) => Err(self.bad("after top-level value")),
                };
            };
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                    if object {
                        self.key()?;
                    }
                    self.value(&mut open)?;
                }
                Some(b'}') if object => self.close(&mut open),
                Some(b']') if !object => self.close(&mut open),
                _ if object => return Err(self.bad("after object key:value pair")),
                _ => return Err(self.bad("after array element")),
            }
        }
    }

    fn close(&mut self, open: &mut Vec<bool>) {
        open.pop();
        self.at += 1;
    }

    fn key(&mut self) -> Scanned {
        if self.peek() != Some(b'"') {
            return Err(self.bad("looking for beginning of object key string"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.bad("after object key"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Reads a value; of an object or a list that is not empty, up to its first simple value.
    fn value(&mut self, open: &mut Vec<bool>) -> Scanned {
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    open.push(true);
                    if self.peek() == Some(b'}') {
                        self.close(open);
                        return Ok(());
                    }
                    self.key()?;
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    open.push(false);
                    if self.peek() == Some(b']') {
                        self.close(open);
                        return Ok(());
                    }
                }
                Some(b'"') => return self.string(),
                Some(b't') => return self.literal("true"),
                Some(b'f') => return self.literal("false"),
                Some(b'n') => return self.literal("null"),
                Some(b'-' | b'0'..=b'9') => return self.number(),
                _ => return Err(self.bad("looking for beginning of value")),
            }
        }
    }

    fn literal(&mut self, word: &str) -> Scanned {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(self.bad(&context));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Scanned {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                    return Err(self.bad("in \\u hexadecimal character escape"));
                                }
                            }
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        _ => return Err(self.bad("in string escape code")),
                    }
                    self.at += 1;
                }
                Some(byte) if byte >= 0x20 => self.at += 1,
                _ => return Err(self.bad("in string literal")),
            }
        }
    }

    fn digits(&mut self, context: &str) -> Scanned {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.bad(context));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Scanned {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }
}

/// A byte as Go quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x20..=0x7e | 0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        other => {
            let mut text = String::from("'");
            // Writing to a string has no way to fail.
            let _ = if other < 0x80 {
                write!(text, "\\x{other:02x}")
            } else {
                write!(text, "\\u{other:04x}")
            };
            text.push('\'');
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_real_decoder_says() {
        for (text, said) in [
            ("{", END),
            ("", END),
            (
                "nonsense",
                "invalid character 'o' in literal null (expecting 'u')",
            ),
            ("{}trailing", "invalid character 't' after top-level value"),
            ("x: y", "invalid character 'x' looking for beginning of value"),
            (
                "{a:1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 \"b\"}",
                "invalid character '\"' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "[1.x]",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
        ] {
            assert_eq!(syntax_error(text.as_bytes()).as_deref(), Some(said), "{text}");
        }
        assert_eq!(
            syntax_error(&[0x9e]).as_deref(),
            Some("invalid character '\\u009e' looking for beginning of value")
        );
        for good in ["{}", " [1, {\"a\": [true, null, -1.5e3, \"\\u00e4\"]}, []] "] {
            assert_eq!(syntax_error(good.as_bytes()), None);
        }
    }
}
