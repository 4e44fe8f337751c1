//! Types of expressions, as the checker infers them from schemas.

use super::names;
use super::value::{field_schema, has_fields};
use crate::schema::{Schema, Type};
use std::fmt;

/// The type of an expression. What the checker does not know is `Dyn`, which fits everywhere.
#[derive(Clone, Debug)]
pub(super) enum Ty<'a> {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Duration,
    Time,
    /// A type as a value.
    Kind,
    List(Box<Ty<'a>>),
    /// Of keys and values.
    Map(Box<Ty<'a>>, Box<Ty<'a>>),
    /// An object with named fields, and the name of its type.
    Object(&'a Schema, String),
    Optional(Box<Ty<'a>>),
}

impl<'a> Ty<'a> {
    /// The type of values of a schema; none where expressions cannot see them.
    pub fn of(schema: &'a Schema, name: &str) -> Option<Self> {
        if schema.int_or_string {
            return Some(Self::Dyn);
        }
        Some(match schema.kind? {
            Type::Boolean => Self::Bool,
            Type::Integer => Self::Int,
            Type::Number => Self::Double,
            Type::String => match schema.format.as_deref() {
                Some("byte") => Self::Bytes,
                Some("duration") => Self::Duration,
                Some("date" | "date-time") => Self::Time,
                _ => Self::Text,
            },
            Type::Array => {
                let items = schema.items.as_deref()?;
                Self::List(Box::new(Self::of(items, &format!("{name}.@idx"))?))
            }
            Type::Object if has_fields(schema) => Self::Object(schema, name.to_owned()),
            Type::Object => match &schema.additional {
                Some(below) if below.kind.is_some() || below.int_or_string => {
                    let values = Self::of(below, &format!("{name}.@elem"))?;
                    Self::Map(Box::new(Self::Text), Box::new(values))
                }
                Some(_) => return None,
                None => Self::Object(schema, name.to_owned()),
            },
        })
    }

    /// The type of a field; none where there is no such field.
    pub fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(schema, path) => {
                let field = names::unescape(name);
                Self::of(field_schema(schema, &field)?, &format!("{path}.{field}"))
            }
            Self::Map(_, values) => Some((**values).clone()),
            _ => Some(Self::Dyn),
        }
    }

    /// Whether values of both can be compared and put in one list.
    pub fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::Null, other) | (other, Self::Null) => !other.is_scalar(),
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a.fits(b),
            (Self::Map(key, value), Self::Map(other_key, other)) => key.fits(other_key) && value.fits(other),
            (Self::Object(_, a), Self::Object(_, b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(
            self,
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Text | Self::Bytes
        )
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Dyn | Self::Int | Self::Uint | Self::Double)
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }
}

impl fmt::Display for Ty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Time => "google.protobuf.Timestamp",
            Self::Kind => "type",
            Self::List(items) => return write!(f, "list({items})"),
            Self::Map(keys, values) => return write!(f, "map({keys}, {values})"),
            Self::Object(_, name) => name,
            Self::Optional(inner) => return write!(f, "optional_type({inner})"),
        })
    }
}
