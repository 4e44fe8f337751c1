//! The lines of a journal: a checksum, what was done to which object, and what it is now.
//!
//! Text, so that a reader needs nothing but `less`:
//!
//! ```text
//! 2144df1c put 17 apps/deployments default/web {"apiVersion":"apps/v1",…}
//! f3dbd4fe del 18 /configmaps default/web
//! ```
//!
//! Neither groups, plurals nor keys have spaces in them, and JSON as it is stored has no line break.

use std::io::Write;

/// A write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Its resource version.
    pub(crate) version: u64,
    /// Group and plural under which the object is stored.
    pub(crate) kind: (&'a str, &'a str),
    /// `namespace/name`, or `name`.
    pub(crate) key: &'a str,
    /// The object; none where it is gone.
    pub(crate) json: Option<&'a [u8]>,
}

/// Characters of the checksum and the space after it.
const CHECKSUM: usize = 9;

impl<'a> Record<'a> {
    /// The line, with its end.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        let start = line.len();
        line.extend_from_slice(b"-------- ");
        let (group, plural) = self.kind;
        let verb = if self.json.is_some() { "put" } else { "del" };
        // Writing into memory has no way to fail.
        let _ = write!(line, "{verb} {} {group}/{plural} {}", self.version, self.key);
        if let Some(json) = self.json {
            line.push(b' ');
            line.extend_from_slice(json);
        }
        let checksum = crc32fast::hash(&line[start + CHECKSUM..]);
        let _ = write!(&mut line[start..start + CHECKSUM], "{checksum:08x} ");
        line.push(b'\n');
    }

    /// What a line without its end says; none where it is not as it was written.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        let (checksum, said) = line.split_at_checked(CHECKSUM)?;
        if checksum != format!("{:08x} ", crc32fast::hash(said)).as_bytes() {
            return None;
        }
        let mut words = said.splitn(5, |byte| *byte == b' ');
        let mut word = || words.next();
        let verb = word()?;
        let version = std::str::from_utf8(word()?).ok()?.parse().ok()?;
        let kind = std::str::from_utf8(word()?).ok()?.split_once('/')?;
        let key = std::str::from_utf8(word()?).ok()?;
        let json = match (verb, word()) {
            (b"put", Some(json)) => Some(json),
            (b"del", None) => None,
            _ => return None,
        };
        Some(Self {
            version,
            kind,
            key,
            json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> [Record<'static>; 2] {
        let put = Record {
            version: 17,
            kind: ("", "configmaps"),
            key: "default/web",
            json: Some(br#"{"data":{"a":"b c  d"}}"#),
        };
        let del = Record {
            version: 18,
            kind: ("apps", "deployments"),
            key: "web",
            json: None,
        };
        [put, del]
    }

    #[test]
    fn a_line_says_what_was_written() {
        for record in records() {
            let mut line = Vec::new();
            record.write(&mut line);
            assert_eq!(line.pop(), Some(b'\n'));
            assert!(!line.contains(&b'\n'));
            assert_eq!(Record::read(&line), Some(record));
        }
    }

    #[test]
    fn a_line_that_was_touched_says_nothing() {
        for record in records() {
            let mut line = Vec::new();
            record.write(&mut line);
            line.pop();
            for at in 0..line.len() {
                let mut touched = line.clone();
                touched[at] ^= 1;
                assert_eq!(Record::read(&touched), None, "byte {at}");
                assert_eq!(Record::read(&line[..at]), None, "cut at {at}");
            }
        }
    }
}
