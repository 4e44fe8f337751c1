//! Why an expression gives no value.

/// The error of an evaluation, in cel-go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub String);

impl Failure {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// An operator or function that has no meaning for these types.
    pub fn no_overload() -> Self {
        Self::new("no such overload")
    }

    pub fn no_key(key: &str) -> Self {
        Self(format!("no such key: {key}"))
    }
}

pub(super) type Outcome<T> = Result<T, Failure>;
