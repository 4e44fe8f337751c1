//! Defaults in a schema must be valid by it and have no unknown fields.

use crate::field::{FieldError, FieldErrors, Path};
use crate::schema::{self, Schema};

pub(super) fn validate(schema: &Schema, path: &Path, errors: &mut FieldErrors) {
    if let Some(default) = &schema.default {
        let path = path.child("default");
        let mut pruned = default.clone();
        if !schema::prune_value(schema, &mut pruned).is_empty() {
            errors.push(FieldError::invalid(
                &path,
                default,
                "must not have unknown fields",
            ));
        }
        let mut found = FieldErrors::new();
        schema::validate_embedded(schema, default, &path, schema.embedded, &mut found);
        if found.is_empty() {
            schema::validate(schema, default, None, &path, &mut found);
        }
        if found.is_empty() && schema.has_rules() {
            schema::cel::validate(schema, default, Some(default), &path, &mut found);
            if found.is_empty() {
                schema::cel::validate(schema, default, None, &path, &mut found);
            }
        }
        errors.append(&mut found);
    }
    if let Some(items) = &schema.items {
        validate(items, &path.child("items"), errors);
    }
    for (name, below) in &schema.properties {
        validate(below, &path.child("properties").key(name), errors);
    }
}
