//! Schemas: what the fields of a kind are.
//!
//! One node type serves custom resources (structural schemas out of a `CustomResourceDefinition`) and built-in
//! kinds (tables generated from the real server's OpenAPI documents), so that pruning, defaulting, validation,
//! server-side apply and strategic merge patches are each written once.

pub mod cel;
mod correlate;
mod default;
mod embedded;
mod formats;
pub mod gotext;
mod lists;
mod meta;
mod parse;
mod pattern;
mod problem;
mod prune;
mod validate;

pub use default::{apply_defaults, drop_nulls};
pub use embedded::validate_embedded;
pub use formats::{Format, is_recognized_format};
pub use lists::{validate_lists, validate_lists_changed};
pub use meta::object_meta;
pub use parse::SchemaError;
pub use pattern::Pattern;
pub use prune::{prune, prune_value};
pub use validate::{has_blocking, validate, validate_all, validate_rules};

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A map with named fields, or with free keys.
    Object,
    /// A list.
    Array,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

impl Type {
    /// The name in a schema, as `object`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

/// How lists merge (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Items are told apart by these fields (`x-kubernetes-list-map-keys`).
    Map(Vec<Arc<str>>),
}

/// How a list or map merges in a strategic merge patch (`x-kubernetes-patch-strategy`, `…-merge-key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Merged rather than replaced.
    pub merge: bool,
    /// Only the keys that the patch names are kept.
    pub retain_keys: bool,
    /// The field that tells items apart; none for lists of scalars.
    pub merge_key: Option<Arc<str>>,
}

/// A schema that others share. Built-in kinds may contain themselves, so that a node can be read from its table only
/// when it is first looked at.
#[derive(Clone, Default)]
pub struct SchemaRef(Arc<Node>);

#[derive(Default)]
struct Node {
    content: OnceLock<Schema>,
    later: Option<Box<dyn Fn() -> Schema + Send + Sync>>,
}

impl SchemaRef {
    /// A node that is ready.
    pub fn new(schema: Schema) -> Self {
        Self(Arc::new(Node {
            content: OnceLock::from(schema),
            later: None,
        }))
    }

    /// A node whose content is made when it is first looked at.
    pub fn lazy(make: impl Fn() -> Schema + Send + Sync + 'static) -> Self {
        Self(Arc::new(Node {
            content: OnceLock::new(),
            later: Some(Box::new(make)),
        }))
    }
}

impl Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        let node = &self.0;
        node.content
            .get_or_init(|| node.later.as_ref().map_or_else(Schema::anything, |make| make()))
    }
}

impl fmt::Debug for SchemaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.content.get() {
            Some(schema) => schema.fmt(f),
            None => f.write_str("(not read yet)"),
        }
    }
}

/// What the Go type of a built-in definition says beyond its OpenAPI schema.
#[derive(Debug, Default)]
pub struct Definition {
    /// The definition's name in the OpenAPI documents, as `io.k8s.api.apps.v1.Deployment`.
    pub name: &'static str,
    /// Fields whose zero value is written.
    pub keep: Vec<&'static str>,
    /// Fields that are written as null where they have no value.
    pub null: Vec<&'static str>,
    /// Fields whose zero value is left out, though it is their default.
    pub drop: Vec<&'static str>,
}

impl Definition {
    /// The name of the Go type, as `Deployment`.
    pub fn type_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Schema {
    /// The type; none accepts any.
    pub kind: Option<Type>,
    /// Null is a value of its own.
    pub nullable: bool,
    /// An integer or a text (`x-kubernetes-int-or-string`).
    pub int_or_string: bool,
    /// Fields that are not named stay (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// A whole object with apiVersion, kind and metadata (`x-kubernetes-embedded-resource`).
    pub embedded: bool,
    /// The named fields.
    pub properties: BTreeMap<Arc<str>, SchemaRef>,
    /// The values of a map with free keys.
    pub additional: Option<SchemaRef>,
    /// The items of a list.
    pub items: Option<SchemaRef>,
    /// How a list merges.
    pub list: ListType,
    /// A map that is replaced as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic_map: bool,
    /// How strategic merge patches treat it.
    pub patch: PatchStrategy,
    /// What a missing value becomes.
    pub default: Option<Value>,
    /// Fields that must be there.
    pub required: Vec<Arc<str>>,
    /// The format, as `int32` or `date-time`.
    pub format: Option<Arc<str>>,
    /// What values are valid, where more than the type is said.
    pub checks: Option<Box<Checks>>,
    /// For nodes of built-in kinds that are a definition: what its Go type adds.
    pub definition: Option<&'static Definition>,
}

/// The rules for values beyond their type. Filled from a CRD by the `schema` module's parser; built-in kinds have
/// theirs in code.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Checks {
    /// The format, where it is one that is judged for this type.
    pub format: Option<Format>,
    /// The least number allowed.
    pub minimum: Option<f64>,
    /// `minimum` itself is not allowed.
    pub exclusive_minimum: bool,
    /// The greatest number allowed.
    pub maximum: Option<f64>,
    /// `maximum` itself is not allowed.
    pub exclusive_maximum: bool,
    /// Numbers must be a multiple of this.
    pub multiple_of: Option<f64>,
    /// The fewest characters.
    pub min_length: Option<i64>,
    /// The most characters.
    pub max_length: Option<i64>,
    /// What texts must match somewhere.
    pub pattern: Option<Pattern>,
    /// The fewest items.
    pub min_items: Option<i64>,
    /// The most items.
    pub max_items: Option<i64>,
    /// No two items may be equal.
    pub unique_items: bool,
    /// The fewest fields.
    pub min_properties: Option<i64>,
    /// The most fields.
    pub max_properties: Option<i64>,
    /// Fields that are not named are refused (`additionalProperties: false`).
    pub closed: bool,
    /// The values allowed; all where empty.
    pub one_of_values: Vec<Value>,
    /// Must all hold.
    pub all_of: Vec<SchemaRef>,
    /// At least one must hold.
    pub any_of: Vec<SchemaRef>,
    /// Exactly one must hold.
    pub one_of: Vec<SchemaRef>,
    /// Must not hold.
    pub not: Option<SchemaRef>,
    /// Rules in CEL (`x-kubernetes-validations`), in their order.
    pub rules: Vec<Arc<cel::Rule>>,
    /// Whether rules are here or anywhere below.
    pub has_rules: bool,
    /// Why the rules here cannot be run, where their value has no type that CEL knows.
    pub untyped: bool,
}

impl Schema {
    /// A schema that accepts anything and prunes nothing.
    pub fn anything() -> Self {
        Self {
            preserve_unknown: true,
            ..Self::default()
        }
    }

    /// The schema of the named field: its own, the map's, or none where the field is unknown.
    pub fn field(&self, name: &str) -> Option<&SchemaRef> {
        self.properties.get(name).or(self.additional.as_ref())
    }

    /// Whether CEL rules are here or anywhere below.
    pub fn has_rules(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.has_rules)
    }
}
