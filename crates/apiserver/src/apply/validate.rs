//! Rules for what clients send about managers.

use crate::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::Value;

const LONGEST_MANAGER: usize = 128;
const LONGEST_SUBRESOURCE: usize = 256;

/// Judges the name of a manager (the `fieldManager` parameter): at most 128 bytes, all characters printable.
pub fn validate_field_manager(manager: &str, path: &Path, errors: &mut FieldErrors) {
    if manager.len() > LONGEST_MANAGER {
        errors.push(too_long(path, LONGEST_MANAGER));
    }
    for (position, character) in manager.char_indices() {
        if !is_printable(character) {
            errors.push(FieldError::invalid(
                path,
                &Value::String(manager.to_owned()),
                format!(
                    "invalid character U+{:04X} (at position {position})",
                    u32::from(character)
                ),
            ));
        }
    }
}

/// Judges `metadata.managedFields`, at `path`, of an object that is to be stored.
pub fn validate_managed_fields(managed_fields: &Value, path: &Path, errors: &mut FieldErrors) {
    for (position, entry) in managed_fields.as_array().into_iter().flatten().enumerate() {
        let path = path.index(position);
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = text("operation");
        if operation != "Apply" && operation != "Update" {
            errors.push(FieldError::invalid(
                &path.child("operation"),
                &operation.into(),
                "must be `Apply` or `Update`",
            ));
        }
        let fields_type = text("fieldsType");
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.push(FieldError::invalid(
                &path.child("fieldsType"),
                &fields_type.into(),
                "must be `FieldsV1`",
            ));
        }
        validate_field_manager(text("manager"), &path.child("manager"), errors);
        if text("subresource").len() > LONGEST_SUBRESOURCE {
            errors.push(too_long(&path.child("subresource"), LONGEST_SUBRESOURCE));
        }
    }
}

fn too_long(path: &Path, most: usize) -> FieldError {
    FieldError::new(
        Kind::TooLong,
        path,
        &Value::Null,
        format!("may not be more than {most} bytes"),
    )
}

/// A graphic character, or the plain space.
fn is_printable(character: char) -> bool {
    !character.is_control() && (character == ' ' || !character.is_whitespace()) && !is_format(character)
}

/// Invisible characters that are neither control characters nor white space.
fn is_format(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
        | '\u{e0000}'..='\u{e007f}' | '\u{f0000}'..='\u{10ffff}')
}
