//! The functions there are, and what they give and take, where that is simple to say.

use super::types::Ty;

/// What a function gives; none for a function that is not known.
#[allow(clippy::too_many_lines)]
pub(super) fn result<'a>(name: &str) -> Option<Ty<'a>> {
    Some(match name {
        "contains"
        | "startsWith"
        | "endsWith"
        | "matches"
        | "exists_one"
        | "isSorted"
        | "hasValue"
        | "isURL"
        | "isIP"
        | "isIPv4"
        | "isIPv6"
        | "isCIDR"
        | "isCIDRv4"
        | "isCIDRv6"
        | "isCanonical"
        | "isLoopback"
        | "isUnspecified"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "containsIP"
        | "containsCIDR"
        | "isSemver"
        | "isGreaterThan"
        | "isLessThan"
        | "isQuantity"
        | "isInteger"
        | "bool"
        | "equivalent"
        | "intersects" => Ty::Bool,
        "size" | "int" | "compareTo" | "family" | "prefixLength" | "major" | "minor" | "patch"
        | "asInteger" | "getFullYear" | "getMonth" | "getDayOfYear" | "getDayOfMonth" | "getDate"
        | "getDayOfWeek" | "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds" => Ty::Int,
        "uint" => Ty::Uint,
        "double" | "asApproximateFloat" => Ty::Double,
        "string" | "charAt" | "lowerAscii" | "upperAscii" | "trim" | "join" | "quote" | "find"
        | "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath" => Ty::Text,
        "bytes" => Ty::Bytes,
        "duration" => Ty::Duration,
        "timestamp" => Ty::Time,
        "type" => Ty::Kind,
        "split" | "findAll" => Ty::List(Box::new(Ty::Text)),
        "dyn"
        | "indexOf"
        | "lastIndexOf"
        | "replace"
        | "substring"
        | "reverse"
        | "sum"
        | "min"
        | "max"
        | "slice"
        | "sort"
        | "sortBy"
        | "flatten"
        | "distinct"
        | "first"
        | "last"
        | "range"
        | "url"
        | "getQuery"
        | "ip"
        | "cidr"
        | "masked"
        | "semver"
        | "format"
        | "quantity"
        | "sign"
        | "add"
        | "sub"
        | "named"
        | "validate"
        | "dns1123Label"
        | "dns1123Subdomain"
        | "dns1035Label"
        | "dns1123LabelPrefix"
        | "dns1123SubdomainPrefix"
        | "dns1035LabelPrefix"
        | "qualifiedName"
        | "labelValue"
        | "uri"
        | "uuid"
        | "byte"
        | "date"
        | "datetime"
        | "none"
        | "of"
        | "ofNonZeroValue"
        | "value"
        | "or"
        | "orValue"
        | "optMap"
        | "optFlatMap"
        | "transformList"
        | "transformMap"
        | "transformMapEntry"
        | "all"
        | "exists"
        | "existsOne" => Ty::Dyn,
        _ => return None,
    })
}

/// Whether a function that everyone uses can be called so; unknown where the rules are more than simple.
pub(super) fn accepts(name: &str, target: Option<&Ty<'_>>, args: &[Ty<'_>]) -> bool {
    let text = |ty: &Ty<'_>| matches!(ty, Ty::Text | Ty::Dyn);
    match (name, target, args) {
        ("reverse", Some(target), []) => matches!(target, Ty::Dyn | Ty::List(_)),
        ("startsWith" | "endsWith" | "matches", Some(target), [arg]) => text(target) && text(arg),
        ("size", Some(value), []) | ("size", None, [value]) => matches!(
            value,
            Ty::Dyn | Ty::Text | Ty::Bytes | Ty::List(_) | Ty::Map(..) | Ty::Object(..)
        ),
        ("lowerAscii" | "upperAscii" | "trim", Some(target), []) => text(target),
        ("split", Some(target), [separator, ..]) => text(target) && text(separator),
        ("join", Some(target), _) => matches!(target, Ty::Dyn | Ty::List(_)),
        (
            "duration" | "timestamp" | "quantity" | "url" | "semver",
            None,
            [Ty::Bool | Ty::List(_) | Ty::Map(..)],
        ) => false,
        ("quantity" | "url" | "isURL" | "isQuantity" | "isSemver", None, [arg]) => text(arg),
        _ => true,
    }
}
