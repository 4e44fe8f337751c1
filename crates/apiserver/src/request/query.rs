//! Query parameters, converted as the API machinery converts them.

use crate::status::{ApiError, ApiResult};

/// The parameters of a request in their order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the question mark.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = text
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The first value, or nothing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// A parameter that is true unless it says `0` or `false`; none where it is not given.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)
            .map(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A whole number; none where it is not given.
    pub(crate) fn number(&self, key: &str) -> ApiResult<Option<i64>> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            }),
        }
    }
}

/// Undoes percent-encoding, and pluses for spaces.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+')) {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        at += if hex.is_some() { 3 } else { 1 };
        out.push(hex.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_as_the_api_machinery_does() {
        let query = Query::parse(Some(
            "watch=1&a=x%3Dy+z&dryRun=All&dryRun=b&limit=5&bad=five&off=FALSE&bare",
        ));
        assert_eq!(query.flag("watch"), Some(true));
        assert_eq!(query.flag("bare"), Some(true));
        assert_eq!(query.flag("off"), Some(false));
        assert_eq!(query.flag("missing"), None);
        assert_eq!(query.text("a"), "x=y z");
        assert_eq!(query.all("dryRun"), ["All", "b"]);
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(
            query.number("bad").unwrap_err().message,
            "strconv.ParseInt: parsing \"five\": invalid syntax"
        );
        assert_eq!(decode("100%"), "100%");
    }
}
