//! Schemas: what the fields of a kind are.
//!
//! One node type serves custom resources (structural schemas out of a `CustomResourceDefinition`) and built-in
//! kinds (tables generated from the real server's OpenAPI documents), so that pruning, defaulting, validation,
//! server-side apply and strategic merge patches are each written once.

use serde_json::Value;
use std::collections::BTreeMap;
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

/// A schema that others share; nodes of built-in kinds may contain themselves.
#[derive(Clone, Debug, Default)]
pub struct SchemaRef(Arc<OnceLock<Schema>>);

impl SchemaRef {
    /// A node that is ready.
    pub fn new(schema: Schema) -> Self {
        Self(Arc::new(OnceLock::from(schema)))
    }

    /// A node to be given its content later by [`SchemaRef::fill`]; until then it accepts anything.
    pub fn unfilled() -> Self {
        Self::default()
    }

    /// Gives an unfilled node its content; the first one given stays.
    pub fn fill(&self, schema: Schema) {
        // A second filling would be the same definition read twice, and is dropped.
        let _ = self.0.set(schema);
    }
}

impl Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        static ANYTHING: OnceLock<Schema> = OnceLock::new();
        self.0
            .get()
            .unwrap_or_else(|| ANYTHING.get_or_init(Schema::anything))
    }
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
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
}

/// The rules for values beyond their type. Filled from a CRD by the `schema` module's parser.
#[derive(Clone, Debug, Default)]
pub struct Checks {}

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
}
