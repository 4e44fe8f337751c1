//! Metadata: what every object has, its rules, and selectors over it.

pub(crate) mod names;
pub(crate) mod rules;
pub(crate) mod selectors;
