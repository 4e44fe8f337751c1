//! Values as expressions see them. What comes from an object stays where it is and is seen through its schema.

use super::failure::{Failure, Outcome};
use super::{names, number, time};
use crate::schema::{ListType, Schema, Type, formats};
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Time(Timestamp),
    /// A type, by its name.
    Kind(&'static str),
    List(Arc<Vec<Val<'a>>>),
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    /// An object or map of JSON with its schema.
    Object(&'a Map<String, Value>, &'a Schema),
    /// A list of JSON with its schema.
    Items(&'a [Value], &'a Schema),
    /// What is preserved without a schema: it can be compared, nothing else.
    Kept(&'a Value),
    Optional(Option<Arc<Val<'a>>>),
    /// A value of Kubernetes' libraries, as a quantity.
    Foreign(kube_cel::cel::Value),
}

/// What expressions see of `metadata`.
fn names_only() -> &'static Schema {
    static META: OnceLock<Schema> = OnceLock::new();
    META.get_or_init(|| {
        let text = || {
            crate::schema::SchemaRef::new(Schema {
                kind: Some(Type::String),
                ..Schema::default()
            })
        };
        Schema {
            kind: Some(Type::Object),
            properties: [("name", text()), ("generateName", text())]
                .map(|(name, node)| (Arc::from(name), node))
                .into(),
            ..Schema::default()
        }
    })
}

/// Whether an object has named fields, rather than free keys.
pub(super) fn has_fields(schema: &Schema) -> bool {
    schema.embedded || !schema.properties.is_empty()
}

/// The schema of a field as expressions see it; `name` is not escaped.
pub(super) fn field_schema<'a>(schema: &'a Schema, name: &str) -> Option<&'a Schema> {
    if schema.embedded && name == "metadata" {
        return Some(names_only());
    }
    if has_fields(schema) {
        return match schema.properties.get(name) {
            Some(below) => Some(below),
            None if schema.embedded && matches!(name, "apiVersion" | "kind") => {
                names_only().properties.get("name").map(|node| &**node)
            }
            None => None,
        };
    }
    schema.additional.as_deref()
}

impl<'a> Val<'a> {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A value of JSON by its schema.
    pub fn from_json(value: &'a Value, schema: &'a Schema) -> Outcome<Self> {
        if value.is_null() {
            return if schema.nullable {
                Ok(Self::Null)
            } else {
                Err(Failure::new(
                    "invalid data, got null for schema with nullable=false",
                ))
            };
        }
        if schema.int_or_string {
            return match value {
                Value::String(text) => Ok(Self::Text(Cow::Borrowed(text))),
                Value::Number(number) if number.is_i64() => Ok(Self::Int(number.as_i64().unwrap_or(0))),
                _ => Err(Failure::new(
                    "invalid data, expected XIntOrString value to be either a string or integer",
                )),
            };
        }
        match (schema.kind, value) {
            (Some(Type::Object), Value::Object(map)) => Ok(Self::Object(map, schema)),
            (Some(Type::Array), Value::Array(items)) => Ok(Self::Items(items, schema)),
            (Some(Type::String), Value::String(text)) => Self::formatted(text, schema),
            (Some(Type::Number), Value::Number(number)) => {
                Ok(Self::Double(number.as_f64().unwrap_or_default()))
            }
            (Some(Type::Integer), Value::Number(number)) if number.is_i64() => {
                Ok(Self::Int(number.as_i64().unwrap_or(0)))
            }
            (Some(Type::Boolean), Value::Bool(value)) => Ok(Self::Bool(*value)),
            (Some(kind), _) => Err(Failure::new(format!("invalid data, expected {}", kind.name()))),
            (None, _) if schema.preserve_unknown => Ok(Self::Kept(value)),
            (None, _) => Err(Failure::new(
                "invalid type, expected object, array, number, integer, boolean or string, or no type with \
                 x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ",
            )),
        }
    }

    fn formatted(text: &'a str, schema: &Schema) -> Outcome<Self> {
        Ok(match schema.format.as_deref() {
            Some("duration") => Self::Duration(
                formats::duration_nanos(text)
                    .ok_or_else(|| Failure::new(format!("Invalid duration {text}")))?,
            ),
            Some("date") => Self::Time(
                time::date(text)
                    .ok_or_else(|| Failure::new(format!("Invalid date formatted string {text}")))?,
            ),
            Some("date-time") => Self::Time(
                time::date_time(text)
                    .ok_or_else(|| Failure::new(format!("Invalid date-time formatted string {text}")))?,
            ),
            Some("byte") => Self::Bytes(
                base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map_err(|error| Failure::new(format!("Invalid byte formatted string {text}: {error}")))?
                    .into(),
            ),
            _ => Self::Text(Cow::Borrowed(text)),
        })
    }

    /// The name of its type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Kind(_) => "type",
            Self::List(_) | Self::Items(..) => "list",
            Self::Map(_) | Self::Object(..) => "map",
            Self::Kept(_) => "unknown",
            Self::Optional(_) => "optional_type",
            Self::Foreign(_) => "object",
        }
    }

    /// The value of a field or key, if it is there. `escaped` names are as an expression writes them.
    pub fn field(&self, name: &str, escaped: bool) -> Outcome<Option<Self>> {
        match self {
            Self::Object(map, schema) => {
                let name = if escaped && has_fields(schema) {
                    names::unescape(name)
                } else {
                    Cow::Borrowed(name)
                };
                match (map.get(&*name), field_schema(schema, &name)) {
                    (Some(value), Some(below)) => Self::from_json(value, below).map(Some),
                    _ => Ok(None),
                }
            }
            Self::Map(entries) => Ok(entries
                .iter()
                .find(|(key, _)| matches!(key, Self::Text(text) if text == name))
                .map(|(_, value)| value.clone())),
            _ => Err(Failure::no_key(name)),
        }
    }

    /// The item at an index or the value of a key, if it is there.
    pub fn at(&self, index: &Self) -> Outcome<Option<Self>> {
        match (self, index) {
            (Self::Object(..), Self::Text(key)) => self.field(key, true),
            (Self::Object(..), _) => Err(Failure::no_overload()),
            (Self::Map(entries), key) => Ok(entries
                .iter()
                .find(|(there, _)| there.equals(key))
                .map(|(_, value)| value.clone())),
            (list, index) => {
                let index = match index {
                    Self::Int(index) => usize::try_from(*index).ok(),
                    Self::Uint(index) => usize::try_from(*index).ok(),
                    Self::Double(double) => number::exact_int(*double).and_then(|i| usize::try_from(i).ok()),
                    _ => return Err(Failure::no_overload()),
                };
                list.item(index)
            }
        }
    }

    fn item(&self, index: Option<usize>) -> Outcome<Option<Self>> {
        match self {
            Self::List(items) => Ok(index.and_then(|index| items.get(index)).cloned()),
            Self::Items(items, schema) => match (index.and_then(|index| items.get(index)), &schema.items) {
                (Some(item), Some(below)) => Self::from_json(item, below).map(Some),
                _ => Ok(None),
            },
            _ => Err(Failure::no_overload()),
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<Outcome<Vec<Self>>> {
        match self {
            Self::List(items) => Some(Ok(items.to_vec())),
            Self::Items(items, schema) => Some(match &schema.items {
                Some(below) => items.iter().map(|item| Self::from_json(item, below)).collect(),
                None => Ok(Vec::new()),
            }),
            _ => None,
        }
    }

    /// The keys of a map with their values, where they can be seen.
    pub fn entries(&self) -> Option<Vec<(Self, Outcome<Self>)>> {
        match self {
            Self::Map(entries) => Some(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Ok(value.clone())))
                    .collect(),
            ),
            Self::Object(map, schema) => Some(
                map.iter()
                    .filter_map(|(name, value)| {
                        let below = field_schema(schema, name)?;
                        let key = if has_fields(schema) {
                            Cow::Owned(names::escape(name)?)
                        } else {
                            Cow::Borrowed(name.as_str())
                        };
                        Some((Self::Text(key), Self::from_json(value, below)))
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    /// How many characters, bytes, items or keys.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Text(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len(),
            Self::Items(items, _) => items.len(),
            Self::Map(entries) => entries.len(),
            Self::Object(map, _) => map.len(),
            _ => return None,
        })
    }

    /// Whether two values are the same; numbers of all types are compared as such, lists by their list type.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Kind(a), Self::Kind(b)) => a == b,
            (Self::Kept(a), Self::Kept(b)) => a == b,
            (Self::Foreign(a), Self::Foreign(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (None, None) => true,
                _ => false,
            },
            _ => match number::compare(self, other) {
                Some(ordering) => ordering.is_some_and(std::cmp::Ordering::is_eq),
                None => self.same_items(other) || self.same_entries(other),
            },
        }
    }

    fn same_items(&self, other: &Self) -> bool {
        let (Some(Ok(items)), Some(Ok(others))) = (self.items(), other.items()) else {
            return false;
        };
        if items.len() != others.len() {
            return false;
        }
        match self {
            Self::Items(_, schema) if schema.list == ListType::Set => others
                .iter()
                .all(|other| items.iter().any(|item| item.equals(other))),
            Self::Items(_, schema) => match &schema.list {
                ListType::Map(keys) => others.iter().all(|other| {
                    items
                        .iter()
                        .find(|item| same_keys(keys, item, other))
                        .is_some_and(|item| item.equals(other))
                }),
                _ => items.iter().zip(&others).all(|(item, other)| item.equals(other)),
            },
            _ => items.iter().zip(&others).all(|(item, other)| item.equals(other)),
        }
    }

    fn same_entries(&self, other: &Self) -> bool {
        let (Some(entries), Some(others)) = (self.entries(), other.entries()) else {
            return false;
        };
        entries.len() == others.len()
            && entries.iter().all(|(key, value)| {
                others.iter().any(|(other_key, other)| {
                    key.equals(other_key)
                        && matches!((value, other), (Ok(value), Ok(other)) if value.equals(other))
                })
            })
    }
}

fn same_keys(keys: &[Arc<str>], item: &Val<'_>, other: &Val<'_>) -> bool {
    keys.iter()
        .all(|key| match (item.field(key, false), other.field(key, false)) {
            (Ok(Some(a)), Ok(Some(b))) => a.equals(&b),
            (Ok(None), Ok(None)) => true,
            _ => false,
        })
}
