//! Protobuf, as far as `kubectl` insists on it.
//!
//! Of bodies it sends questions about oneself and requests for tokens in it whatever the server takes; all others are
//! refused. The envelope is four bytes, `k8s` and a zero, and a `runtime.Unknown` whose first field is the type and
//! whose second is the object.

use serde_json::{Map, Value, json};

/// The fields of a message that hold bytes, with their numbers.
fn fields(message: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    Some(all_fields(message)?.0)
}

/// Fields with their numbers: those that hold bytes, and those that hold a number.
type Fields<'a> = (Vec<(u64, &'a [u8])>, Vec<(u64, u64)>);

fn all_fields(mut message: &[u8]) -> Option<Fields<'_>> {
    let mut found = Vec::new();
    let mut numbers = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => numbers.push((key >> 3, varint(&mut message)?)),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                found.push((key >> 3, bytes));
                message = rest;
            }
            _ => return None,
        }
    }
    Some((found, numbers))
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

/// The part of a message that is its `spec`.
fn spec(message: &[u8]) -> Option<&[u8]> {
    let found = fields(message)?.into_iter().find(|(number, _)| *number == 2);
    Some(found.map(|(_, bytes)| bytes).unwrap_or_default())
}

/// The spec of a request for a token.
fn token_spec(message: &[u8]) -> Option<Value> {
    let mut spec = json!({});
    let mut audiences = Vec::new();
    let (fields, numbers) = all_fields(message)?;
    for (number, bytes) in fields {
        match number {
            1 => audiences.push(std::str::from_utf8(bytes).ok()?),
            3 => spec["boundObjectRef"] = texts(bytes, &["kind", "apiVersion", "name", "uid"])?,
            _ => {}
        }
    }
    spec["audiences"] = json!(audiences);
    if let Some((_, seconds)) = numbers.iter().find(|(number, _)| *number == 4) {
        spec["expirationSeconds"] = json!(seconds.cast_signed());
    }
    Some(spec)
}

/// Decodes a question about oneself or for a token; none for anything else.
pub(crate) fn question(body: &[u8]) -> Option<Value> {
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
        "SelfSubjectRulesReview" => object["spec"] = texts(spec(raw)?, &["namespace"])?,
        "TokenRequest" => object["spec"] = token_spec(spec(raw)?)?,
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
            let mut asked = json!({});
            for (number, bytes) in fields(spec(raw)?)? {
                match number {
                    1 => asked["resourceAttributes"] = texts(bytes, &RESOURCE)?,
                    2 => asked["nonResourceAttributes"] = texts(bytes, &["path", "verb"])?,
                    _ => {}
                }
            }
            object["spec"] = asked;
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
    fn reads_questions_and_nothing_else() {
        let attributes = [field(1, b"default"), field(2, b"create"), field(5, b"pods")].concat();
        let raw = [field(1, b""), field(2, &field(1, &attributes))].concat();
        assert_eq!(
            question(&envelope("SelfSubjectAccessReview", &raw)),
            Some(json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "metadata": {},
                "spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"}},
            }))
        );
        let bound = [field(1, b"Pod"), field(2, b"v1"), field(3, b"p")].concat();
        let spec = [
            field(1, b"a"),
            field(1, b"b"),
            field(3, &bound),
            vec![4 << 3, 0xd8, 4],
        ]
        .concat();
        assert_eq!(
            question(&envelope("TokenRequest", &field(2, &spec))).map(|mut asked| asked["spec"].take()),
            Some(json!({
                "audiences": ["a", "b"],
                "expirationSeconds": 600,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"},
            }))
        );
        assert_eq!(
            question(&envelope("SelfSubjectRulesReview", &field(2, &field(1, b"ns"))))
                .map(|mut asked| asked["spec"].take()),
            Some(json!({"namespace": "ns"}))
        );
        assert!(question(&envelope("SelfSubjectReview", b"")).is_some());
        assert!(question(&envelope("Secret", b"")).is_none());
        assert!(question(b"k8s\0\x0a\xff").is_none());
    }
}
