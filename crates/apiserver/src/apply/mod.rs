//! Server-side apply, and who manages which fields.
//!
//! Every write leaves its trace in `metadata.managedFields`: an apply owns the fields that its configuration names,
//! any other write owns what it changed. An apply that would change a field of another manager is refused unless
//! forced, and a field that an applier no longer names goes when nobody else owns it.
//!
//! All of it is pure: objects in, an object out. What fields are and how they merge comes from the schema; sets of
//! fields borrow their names from the objects and stored entries at hand, so that an apply to a small object costs
//! microseconds.

mod compare;
mod conflict;
mod element;
mod engine;
mod field_set;
mod fieldsv1;
mod last_applied;
mod managed;
mod merge;
mod prune;
mod reconcile;
mod remove;
mod reset;
mod scale;
mod set;
mod shape;
mod typed;
mod update;
mod validate;
mod zero;

#[cfg(test)]
mod tests;

pub use engine::apply;
pub use reset::{ResetFields, reset_fields};
pub use scale::{ReplicasPath, ScaleWrite, to_parent, to_scale};
pub(crate) use typed::go_text;
pub use update::{keep_times, track_update};
pub use validate::{validate_field_manager, validate_managed_fields};

use crate::schema::{Schema, SchemaRef};
use jiff::Timestamp;
use shape::Place;

/// What is written, how and when.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The schema of the kind in the version of the request.
    pub schema: &'a Schema,
    /// The version of the request, as `apps/v1`.
    pub api_version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The subresource that is written; empty for the object itself.
    pub subresource: &'a str,
    /// Whether the kind is a custom resource, whose schema does not tell its metadata.
    pub custom: bool,
    /// Fields that this request can't set; see [`reset_fields`].
    pub reset: ResetFields,
    /// The other versions of the kind.
    pub versions: &'a dyn Versions,
    /// The time that entries of this write get.
    pub now: Timestamp,
}

/// The versions in which a kind is served.
pub trait Versions {
    /// The schema in this version (as `apps/v1`), or none where the kind is not served in it: entries of such a
    /// version are dropped.
    fn schema(&self, api_version: &str) -> Option<SchemaRef>;
}

/// The versions of a kind that has one.
pub struct OneVersion;

impl Versions for OneVersion {
    fn schema(&self, _: &str) -> Option<SchemaRef> {
        None
    }
}

impl Target<'_> {
    fn place(&self) -> Place<'_> {
        Place::root(self.schema, self.custom)
    }
}
