//! Formats of names, and what is wrong with those that do not fit. Each function gives the real server's texts,
//! none where the name is good.

const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// Whether all of `text` is made of `inner`, and starts and ends with `edge`.
fn framed(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn lower_or_dash(byte: u8) -> bool {
    lower(byte) || byte == b'-'
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn label_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// A DNS subdomain (RFC 1123), as most names are.
pub(crate) fn subdomain(name: &str) -> Vec<String> {
    let mut said = Vec::new();
    if name.len() > 253 {
        said.push(too_long(253));
    }
    if !name.split('.').all(|part| framed(part, lower, lower_or_dash)) {
        said.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
        ));
    }
    said
}

/// A DNS label (RFC 1123), as names of namespaces are.
pub(crate) fn label_1123(name: &str) -> Vec<String> {
    let mut said = Vec::new();
    if name.len() > 63 {
        said.push(too_long(63));
    }
    if !framed(name, lower, lower_or_dash) {
        if subdomain(name).is_empty() {
            // It has the form of a subdomain, and what it has too much is dots.
            said.push("must not contain dots".to_owned());
        } else {
            said.push("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".to_owned());
        }
    }
    said
}

/// A DNS label (RFC 1035), as names of services were.
pub(crate) fn label_1035(name: &str) -> Vec<String> {
    let mut said = Vec::new();
    if name.len() > 63 {
        said.push(too_long(63));
    }
    if !framed(name, lower, lower_or_dash) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        said.push("a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".to_owned());
    }
    said
}

/// A part of a URL's path, as names of RBAC objects are.
pub(crate) fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|bad| name.contains(**bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

const KEY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A label's key, an annotation's key in lower case, a finalizer: a name with an optional prefix.
pub(crate) fn qualified(name: &str) -> Vec<String> {
    let mut said = Vec::new();
    let parts: Vec<&str> = name.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                said.push("prefix part must be non-empty".to_owned());
            } else {
                said.extend(subdomain(prefix).iter().map(|text| format!("prefix part {text}")));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {KEY} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        said.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        said.push(format!("name part {}", too_long(63)));
    }
    if !framed(name, alphanumeric, label_inner) {
        said.push(format!("name part {KEY}"));
    }
    said
}

/// A finalizer of a built-in kind, which has a prefix unless it is one that Kubernetes itself sets.
pub(crate) fn builtin_finalizer(name: &str) -> Vec<String> {
    if name.contains('/') || matches!(name, "kubernetes" | "foregroundDeletion" | "orphan") {
        return Vec::new();
    }
    vec!["name is neither a standard finalizer name nor is it fully qualified".to_owned()]
}

/// A label's value.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut said = Vec::new();
    if value.len() > 63 {
        said.push(too_long(63));
    }
    if !value.is_empty() && !framed(value, alphanumeric, label_inner) {
        said.push("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".to_owned());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_good_names_from_bad() {
        for good in ["a", "a-b.c1", "0"] {
            assert!(subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", "A", "a..b", "-a", "a.", "a_b", "ä"] {
            assert_eq!(subdomain(bad).len(), 1, "{bad}");
        }
        assert_eq!(subdomain(&"a".repeat(254)), ["must be no more than 253 bytes"]);
        assert_eq!(label_1123("a.b"), ["must not contain dots"]);
        assert!(label_1035("1a")[0].starts_with("a DNS-1035 label"));
        assert!(path_segment("system:x").is_empty());
        assert_eq!(
            path_segment("a/b%"),
            ["may not contain '/'", "may not contain '%'"]
        );
        assert!(qualified("example.com/My_Name.x").is_empty());
        assert_eq!(qualified("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified("a/").len(), 2);
        assert_eq!(qualified("a/b/c").len(), 1);
        assert!(label_value("").is_empty());
        assert_eq!(label_value("a b").len(), 1);
    }
}
