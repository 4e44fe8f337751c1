//! The strategy of `CustomResourceDefinition`s: the rules are the [`crd`](crate::crd) module's, the encoding that of
//! every built-in kind.

use super::codec;
use crate::crd::CrdStrategy;
use crate::field::FieldErrors;
use crate::resource::{Strategy, Surroundings};
use crate::schema::SchemaRef;
use serde_json::Value;

pub(super) struct Definitions {
    pub(super) schema: SchemaRef,
}

impl Strategy for Definitions {
    fn default(&self, object: &mut Value) {
        CrdStrategy.default(object);
        codec::encode(&self.schema, object);
    }

    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        CrdStrategy.prepare_create(object, around);
        codec::encode(&self.schema, object);
    }

    fn validate_create(&self, object: &Value, around: &dyn Surroundings) -> FieldErrors {
        CrdStrategy.validate_create(object, around)
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, subresource: &str, around: &dyn Surroundings) {
        CrdStrategy.prepare_update(object, old, subresource, around);
        codec::encode(&self.schema, object);
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        subresource: &str,
        around: &dyn Surroundings,
    ) -> FieldErrors {
        CrdStrategy.validate_update(object, old, subresource, around)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
        CrdStrategy.warnings(object, old, subresource)
    }

    fn has_generation(&self) -> bool {
        CrdStrategy.has_generation()
    }

    fn allows_unconditional_update(&self) -> bool {
        CrdStrategy.allows_unconditional_update()
    }
}
