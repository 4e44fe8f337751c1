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
}
