//! The path of a request taken apart.

use super::query::decode;

/// What the path of a resource request names. Empty parts are not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// Whether there is more after the subresource.
    pub(crate) rest: bool,
    /// The deprecated `/watch/` prefix.
    pub(crate) watch: bool,
}

impl ResourcePath {
    /// Reads `/api/V/…` and `/apis/G/V/…`; none for paths that name no resource.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        if parts.iter().any(String::is_empty) {
            return None;
        }
        parts.reverse();
        let mut next = move || parts.pop();
        let mut found = Self::default();
        match next()?.as_str() {
            "api" => {}
            "apis" => found.group = next()?,
            _ => return None,
        }
        found.version = next()?;
        let mut first = next()?;
        if first == "watch" {
            found.watch = true;
            first = next()?;
        }
        if first != "namespaces" {
            found.resource = first;
            found.name = next().unwrap_or_default();
            found.subresource = next().unwrap_or_default();
        } else if let Some(namespace) = next() {
            match next() {
                // A namespace itself, or one of its own subresources.
                None => {
                    found.resource = first;
                    found.name = namespace;
                }
                Some(subresource) if matches!(subresource.as_str(), "status" | "finalize") => {
                    found.resource = first;
                    found.name = namespace;
                    found.subresource = subresource;
                }
                Some(resource) => {
                    found.namespace = namespace;
                    found.resource = resource;
                    found.name = next().unwrap_or_default();
                    found.subresource = next().unwrap_or_default();
                }
            }
        } else {
            found.resource = first;
        }
        // What comes after a subresource belongs to it, as a path that is proxied.
        found.rest = next().is_some();
        Some(found)
    }

    /// The object's key on its shelf, or the prefix of the keys of a collection.
    pub(crate) fn key(&self) -> String {
        key(&self.namespace, &self.name)
    }
}

/// The key of an object, or the prefix of the keys of a namespace or (both empty) of all.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        ResourcePath::parse(path).map_or_else(String::new, |p| {
            format!(
                "{}|{}|{}|{}|{}|{}",
                p.group, p.version, p.namespace, p.resource, p.name, p.subresource
            )
        })
    }

    #[test]
    fn tells_namespaces_from_what_is_in_them() {
        assert_eq!(read("/api/v1/pods"), "|v1||pods||");
        assert_eq!(read("/api/v1/namespaces"), "|v1||namespaces||");
        assert_eq!(read("/api/v1/namespaces/a"), "|v1||namespaces|a|");
        assert_eq!(
            read("/api/v1/namespaces/a/finalize"),
            "|v1||namespaces|a|finalize"
        );
        assert_eq!(read("/api/v1/namespaces/a/pods"), "|v1|a|pods||");
        assert_eq!(
            read("/apis/apps/v1/namespaces/a/deployments/b/status"),
            "apps|v1|a|deployments|b|status"
        );
        assert_eq!(read("/apis/g/v1/things/x%3Ay/scale"), "g|v1||things|x:y|scale");
        assert_eq!(read("/apis/apps/v1"), "");
        assert_eq!(read("/apis/apps/v1//x"), "");
        assert_eq!(read("/healthz"), "");
        assert!(ResourcePath::parse("/api/v1/watch/pods").is_some_and(|p| p.watch));
    }
}
