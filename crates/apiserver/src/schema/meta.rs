//! The schema of `metadata`, which every kind has. Field names, list types and merge keys are those of
//! `metav1.ObjectMeta`.

use super::{ListType, PatchStrategy, Schema, SchemaRef, Type};
use std::sync::{Arc, OnceLock};

fn scalar(kind: Type) -> SchemaRef {
    SchemaRef::new(Schema {
        kind: Some(kind),
        ..Schema::default()
    })
}

fn formatted(kind: Type, format: &str) -> SchemaRef {
    SchemaRef::new(Schema {
        kind: Some(kind),
        format: Some(format.into()),
        ..Schema::default()
    })
}

fn object<const N: usize>(fields: [(&str, SchemaRef); N]) -> Schema {
    Schema {
        kind: Some(Type::Object),
        properties: fields
            .into_iter()
            .map(|(name, node)| (Arc::from(name), node))
            .collect(),
        ..Schema::default()
    }
}

fn texts() -> SchemaRef {
    SchemaRef::new(Schema {
        kind: Some(Type::Object),
        additional: Some(scalar(Type::String)),
        ..Schema::default()
    })
}

fn list(items: SchemaRef, list: ListType, merge_key: Option<&str>, merge: bool) -> SchemaRef {
    SchemaRef::new(Schema {
        kind: Some(Type::Array),
        items: Some(items),
        list,
        patch: PatchStrategy {
            merge,
            merge_key: merge_key.map(Arc::from),
            ..PatchStrategy::default()
        },
        ..Schema::default()
    })
}

fn owner_reference() -> SchemaRef {
    SchemaRef::new(Schema {
        atomic_map: true,
        required: ["apiVersion", "kind", "name", "uid"].map(Arc::from).to_vec(),
        ..object([
            ("apiVersion", scalar(Type::String)),
            ("blockOwnerDeletion", scalar(Type::Boolean)),
            ("controller", scalar(Type::Boolean)),
            ("kind", scalar(Type::String)),
            ("name", scalar(Type::String)),
            ("uid", scalar(Type::String)),
        ])
    })
}

fn managed_fields_entry() -> SchemaRef {
    SchemaRef::new(object([
        ("apiVersion", scalar(Type::String)),
        ("fieldsType", scalar(Type::String)),
        (
            "fieldsV1",
            SchemaRef::new(Schema {
                kind: Some(Type::Object),
                preserve_unknown: true,
                ..Schema::default()
            }),
        ),
        ("manager", scalar(Type::String)),
        ("operation", scalar(Type::String)),
        ("subresource", scalar(Type::String)),
        ("time", formatted(Type::String, "date-time")),
    ]))
}

/// The schema of `metadata`.
pub fn object_meta() -> &'static SchemaRef {
    static META: OnceLock<SchemaRef> = OnceLock::new();
    META.get_or_init(|| {
        SchemaRef::new(object([
            ("annotations", texts()),
            ("creationTimestamp", formatted(Type::String, "date-time")),
            ("deletionGracePeriodSeconds", formatted(Type::Integer, "int64")),
            ("deletionTimestamp", formatted(Type::String, "date-time")),
            (
                "finalizers",
                list(scalar(Type::String), ListType::Set, None, true),
            ),
            ("generateName", scalar(Type::String)),
            ("generation", formatted(Type::Integer, "int64")),
            ("labels", texts()),
            (
                "managedFields",
                list(managed_fields_entry(), ListType::Atomic, None, false),
            ),
            ("name", scalar(Type::String)),
            ("namespace", scalar(Type::String)),
            (
                "ownerReferences",
                list(
                    owner_reference(),
                    ListType::Map(vec![Arc::from("uid")]),
                    Some("uid"),
                    true,
                ),
            ),
            ("resourceVersion", scalar(Type::String)),
            ("selfLink", scalar(Type::String)),
            ("uid", scalar(Type::String)),
        ]))
    })
}
