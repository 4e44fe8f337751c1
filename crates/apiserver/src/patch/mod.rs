//! Patches of JSON objects.

pub(crate) mod json;
pub(crate) mod merge;
pub(crate) mod strategic;
