//! Custom resources: what a `CustomResourceDefinition` must be like, and what is served because of it.
//!
//! All of it is pure; the server stores, the functions here say what and whether.

mod conditions;
mod conversion;
mod definition;
mod deprecation;
pub mod jsonpath;
pub mod openapi;
mod paths;
mod resources;
mod strategy;
pub mod table;
mod typed;
mod validation;

pub use conditions::{
    FINALIZER, begin_deletion, deletion_in_progress, finish_deletion, is_established, next_status,
};
pub use conversion::convert;
pub use definition::CrdStrategy;
pub use deprecation::deprecation;
pub use resources::resources_of;
pub use strategy::{CustomStrategy, selectable_values};
pub use typed::typed;
