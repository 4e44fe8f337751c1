//! Which objects of a kind a cache holds.

use kube::core::Selector;

/// Which objects of a kind are watched and cached. Everything, unless narrowed.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub(crate) namespaces: Vec<String>,
    pub(crate) labels: Selector,
    pub(crate) fields: Option<String>,
}

impl Scope {
    /// Every object.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those in these namespaces, with one watch for each. Kinds that live in no namespace ignore it.
    pub fn namespaces<S: Into<String>>(mut self, namespaces: impl IntoIterator<Item = S>) -> Self {
        self.namespaces = namespaces.into_iter().map(Into::into).collect();
        self
    }

    /// Those whose labels match.
    pub fn labels(mut self, selector: Selector) -> Self {
        self.labels = selector;
        self
    }

    /// Those whose fields match, in the server's syntax: `spec.nodeName=a,status.phase!=Failed`.
    ///
    /// A write of ours then shows in the cache only when the watch brings it, because what a field selector
    /// matches is known to the server alone.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// What both hold. Namespaces that `other` names take the place of those here, since a kind may live apart from
    /// the rest; where it names none, those here stay.
    pub(crate) fn narrow(&mut self, other: Self) {
        if !other.namespaces.is_empty() {
            self.namespaces = other.namespaces;
        }
        self.labels.extend(other.labels);
        self.fields = match (self.fields.take(), other.fields) {
            (Some(one), Some(two)) => Some(format!("{one},{two}")),
            (one, two) => one.or(two),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str) -> Selector {
        [(name.to_owned(), "1".to_owned())].into_iter().collect()
    }

    #[test]
    fn narrowing_adds_up_and_keeps_namespaces_that_are_not_named_anew() {
        let mut scope = Scope::all().namespaces(["ns"]).fields("a=1");
        scope.narrow(Scope::all().labels(label("x")));
        scope.narrow(Scope::all().labels(label("y")).fields("b=2"));
        assert_eq!(scope.namespaces, ["ns"]);
        assert_eq!(scope.labels.to_string(), "x=1,y=1");
        assert_eq!(scope.fields.as_deref(), Some("a=1,b=2"));
        scope.narrow(Scope::all().namespaces(["other"]));
        assert_eq!(scope.namespaces, ["other"]);
    }
}
