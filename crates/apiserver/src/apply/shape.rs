//! How a value merges, as its schema says.
//!
//! The rules are those that the real server derives from `OpenAPI` documents: a map merges field by field unless it
//! is atomic, a list is atomic unless it is a set or a map, a scalar is a leaf. A node without a type takes the
//! shape of its value. Where unknown fields are preserved, what is below merges as maps of maps, with atomic lists.

use super::element::{Element, Key};
use crate::schema::{ListType, Schema, SchemaRef, Type, object_meta};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// A place in a schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'s> {
    /// A node of the schema.
    Node {
        schema: &'s Schema,
        /// Something above preserves unknown fields.
        preserve: bool,
        /// The node has `apiVersion`, `kind` and `metadata` that its schema does not tell.
        object: bool,
    },
    /// Of no known type: maps merge, lists and scalars are leaves.
    Deduced,
    /// Of no known type and a leaf as a whole.
    Untyped,
    /// A text that the schema does not tell (`apiVersion`, `kind`).
    Text,
}

/// What scalars a leaf takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Numeric,
    Text,
    Boolean,
    Any,
}

/// A place's rules for one of the three shapes a value may have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'s> {
    Scalar(Scalar),
    List(List<'s>),
    Map(Map<'s>),
}

/// How a list merges.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'s> {
    pub(super) kind: ListKind<'s>,
    pub(super) items: Place<'s>,
}

/// How items are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum ListKind<'s> {
    Atomic,
    Set,
    Keyed(&'s [Arc<str>]),
}

/// How a map merges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'s> {
    place: Place<'s>,
    pub(super) atomic: bool,
}

/// Which shapes a place and a value leave open; two values of one place merge when these are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Scalar,
    List,
    Map,
    /// The value (none, or null) leaves all of them open.
    Open,
}

impl<'s> Place<'s> {
    /// The place of a whole object. `custom` says that the schema does not tell the object's metadata.
    pub(super) fn root(schema: &'s Schema, custom: bool) -> Self {
        Self::Node {
            schema,
            preserve: false,
            object: custom,
        }
    }

    fn node(schema: &'s SchemaRef, preserve: bool) -> Self {
        Self::Node {
            schema,
            preserve,
            object: schema.embedded,
        }
    }

    /// The one type of the place, or none where a value may have any.
    fn kind(self) -> Option<Type> {
        match self {
            Self::Node { schema, .. } => schema.kind,
            Self::Deduced | Self::Untyped => None,
            Self::Text => Some(Type::String),
        }
    }

    /// Which shapes `value` leaves open here.
    pub(super) fn class(self, value: Option<&Value>) -> Class {
        match self.kind() {
            Some(Type::Object) => Class::Map,
            Some(Type::Array) => Class::List,
            Some(_) => Class::Scalar,
            None => match value {
                None | Some(Value::Null) => Class::Open,
                Some(Value::Array(_)) => Class::List,
                Some(Value::Object(_)) => Class::Map,
                Some(_) => Class::Scalar,
            },
        }
    }

    /// The rules for a class. An open one is taken as a map.
    pub(super) fn shape(self, class: Class) -> Shape<'s> {
        match class {
            Class::Scalar => Shape::Scalar(self.scalar()),
            Class::List => Shape::List(self.list()),
            Class::Map | Class::Open => Shape::Map(self.map()),
        }
    }

    /// The rules for a value.
    pub(super) fn shape_of(self, value: &Value) -> Shape<'s> {
        self.shape(self.class(Some(value)))
    }

    fn scalar(self) -> Scalar {
        match self {
            Self::Deduced | Self::Untyped => Scalar::Any,
            Self::Text => Scalar::Text,
            Self::Node { schema, .. } => match schema.kind {
                _ if schema.int_or_string => Scalar::Any,
                Some(Type::Integer | Type::Number) => Scalar::Numeric,
                Some(Type::Boolean) => Scalar::Boolean,
                Some(Type::String)
                    if schema
                        .format
                        .as_deref()
                        .is_none_or(|f| f.is_empty() || f == "byte") =>
                {
                    Scalar::Text
                }
                _ => Scalar::Any,
            },
        }
    }

    fn list(self) -> List<'s> {
        let Self::Node { schema, preserve, .. } = self else {
            return List {
                kind: ListKind::Atomic,
                items: Place::Untyped,
            };
        };
        let kind = match &schema.list {
            ListType::Atomic => ListKind::Atomic,
            ListType::Set => ListKind::Set,
            ListType::Map(keys) => ListKind::Keyed(keys),
        };
        let items = match &schema.items {
            Some(items) => Place::node(items, preserve || schema.preserve_unknown),
            None => Place::Untyped,
        };
        List { kind, items }
    }

    fn map(self) -> Map<'s> {
        let atomic = match self {
            Self::Node { schema, .. } => schema.atomic_map,
            Self::Untyped => true,
            Self::Deduced | Self::Text => false,
        };
        Map { place: self, atomic }
    }
}

impl<'s> Map<'s> {
    /// The place of a named field and whether the schema names it; none where it is unknown and not allowed.
    pub(super) fn field(&self, name: &str) -> Option<(Place<'s>, bool)> {
        let Place::Node {
            schema,
            preserve,
            object,
        } = self.place
        else {
            return Some((self.place, false));
        };
        if object {
            match name {
                "metadata" => return Some((Place::root(object_meta(), false), true)),
                "apiVersion" | "kind" => return Some((Place::Text, true)),
                _ => {}
            }
        }
        let preserve = preserve || schema.preserve_unknown;
        if let Some(property) = schema.properties.get(name) {
            return Some((Place::node(property, preserve), true));
        }
        if let Some(additional) = &schema.additional {
            return Some((Place::node(additional, preserve), false));
        }
        if schema.atomic_map && schema.kind.is_none() {
            return Some((Place::Untyped, false));
        }
        (preserve || (schema.properties.is_empty() && !object)).then_some((Place::Deduced, false))
    }

    /// Whether nothing is known of the map's fields.
    pub(super) fn is_deduced(&self) -> bool {
        match self.place {
            Place::Node { schema, object, .. } => {
                schema.properties.is_empty()
                    && schema.additional.is_none()
                    && !object
                    && !(schema.atomic_map && schema.kind.is_none())
            }
            Place::Deduced => true,
            Place::Untyped | Place::Text => false,
        }
    }
}

impl List<'_> {
    /// The step to an item of this list, or why it has none. Atomic lists have no steps.
    pub(super) fn element<'a>(&self, item: &'a Value) -> Result<Element<'a>, String>
    where
        Self: 'a,
    {
        match self.kind {
            ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
            ListKind::Set => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".to_owned())
                }
                scalar => Ok(Element::Value(Cow::Borrowed(scalar))),
            },
            ListKind::Keyed(keys) => self.key(keys, item).map(Element::Key),
        }
    }

    fn key<'a>(&self, names: &'a [Arc<str>], item: &'a Value) -> Result<Key<'a>, String>
    where
        Self: 'a,
    {
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut key: Key<'a> = Vec::with_capacity(names.len());
        for name in names {
            if let Some(value) = fields.get(&**name) {
                key.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            } else if let Some(default) = self.default_of(name) {
                key.push((Cow::Borrowed(name), Cow::Owned(default.clone())));
            }
        }
        if key.is_empty() {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                names.join(" ")
            ));
        }
        if key.len() > 1 {
            key.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Ok(key)
    }

    fn default_of(&self, name: &str) -> Option<&Value> {
        match self.items {
            Place::Node { schema, .. } => schema.properties.get(name)?.default.as_ref(),
            _ => None,
        }
    }
}
