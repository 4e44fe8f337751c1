//! Protobuf, as far as `kubectl` insists on it.
//!
//! Of bodies it sends questions about oneself in it whatever the server takes; all others are refused. The envelope is four bytes, `k8s` and a zero, and a `runtime.Unknown` whose
//! first field is the type and whose second is the object.

use serde_json::{Map, Value, json};

/// A field of a message: its number and what it holds, for those that hold bytes.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                varint(&mut message)?;
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                found.push((key >> 3, bytes));
                message = rest;
            }
            _ => return None,
        }
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Fields of messages that are written.
pub(crate) mod message {
    /// Bytes: a message, or a list of scalars.
    pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
        varint(out, u64::from(field) << 3 | 2);
        varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    /// A text.
    pub(crate) fn text(out: &mut Vec<u8>, field: u32, text: &str) {
        bytes(out, field, text.as_bytes());
    }

    fn varint(out: &mut Vec<u8>, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return out.push(low);
            }
            out.push(low | 0x80);
        }
    }
}

/// A message of texts as an object; `names` are those of its fields, from number one on.
fn texts(message: &[u8], names: &[&str]) -> Option<Value> {
    let mut object = Map::new();
    for (number, bytes) in fields(message)? {
        let name = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1))
            .and_then(|index| names.get(index));
        let text = std::str::from_utf8(bytes).ok()?;
        if let Some(name) = name.filter(|_| !text.is_empty()) {
            object.insert((*name).to_owned(), json!(text));
        }
    }
    Some(Value::Object(object))
}

/// Decodes a review of oneself; none for anything else.
pub(crate) fn review(body: &[u8]) -> Option<Value> {
    let mut object = json!({});
    let mut raw: &[u8] = &[];
    for (number, bytes) in fields(body.strip_prefix(b"k8s\0")?)? {
        match number {
            1 => object = texts(bytes, &["apiVersion", "kind"])?,
            2 => raw = bytes,
            _ => {}
        }
    }
    object["metadata"] = json!({});
    match object["kind"].as_str()? {
        "SelfSubjectReview" => {}
        "SelfSubjectAccessReview" => {
            const RESOURCE: [&str; 7] = [
                "namespace",
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "name",
            ];
            let mut spec = json!({});
            let message = fields(raw)?.into_iter().find(|(number, _)| *number == 2)?.1;
            for (number, bytes) in fields(message)? {
                match number {
                    1 => spec["resourceAttributes"] = texts(bytes, &RESOURCE)?,
                    2 => spec["nonResourceAttributes"] = texts(bytes, &["path", "verb"])?,
                    _ => {}
                }
            }
            object["spec"] = spec;
        }
        _ => return None,
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let kind = [field(1, b"authorization.k8s.io/v1"), field(2, kind.as_bytes())].concat();
        [
            b"k8s\0".to_vec(),
            field(1, &kind),
            field(2, raw),
            field(3, b""),
            field(4, b""),
        ]
        .concat()
    }

    #[test]
    fn reads_questions_about_oneself_and_nothing_else() {
        let attributes = [field(1, b"default"), field(2, b"create"), field(5, b"pods")].concat();
        let raw = [field(1, b""), field(2, &field(1, &attributes))].concat();
        assert_eq!(
            review(&envelope("SelfSubjectAccessReview", &raw)),
            Some(json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "metadata": {},
                "spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"}},
            }))
        );
        assert!(review(&envelope("SelfSubjectReview", b"")).is_some());
        assert!(review(&envelope("Secret", b"")).is_none());
        assert!(review(b"k8s\0\x0a\xff").is_none());
    }
}
