//! The schema of `metadata`, which custom resources and embedded objects do not tell themselves.

use crate::schema::{ListType, Schema, SchemaRef, Type};
use std::sync::{Arc, LazyLock};

/// The schema of `ObjectMeta`.
pub(super) fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(build);
    &SCHEMA
}

fn build() -> Schema {
    map([
        ("annotations", texts()),
        ("creationTimestamp", time()),
        ("deletionGracePeriodSeconds", of(Type::Integer)),
        ("deletionTimestamp", time()),
        ("finalizers", finalizers()),
        ("generateName", of(Type::String)),
        ("generation", of(Type::Integer)),
        ("labels", texts()),
        ("managedFields", list(managed_fields_entry(), ListType::Atomic)),
        ("name", of(Type::String)),
        ("namespace", of(Type::String)),
        (
            "ownerReferences",
            list(owner_reference(), ListType::Map(vec!["uid".into()])),
        ),
        ("resourceVersion", of(Type::String)),
        ("selfLink", of(Type::String)),
        ("uid", of(Type::String)),
    ])
}

fn owner_reference() -> Schema {
    Schema {
        atomic_map: true,
        ..map([
            ("apiVersion", of(Type::String)),
            ("blockOwnerDeletion", of(Type::Boolean)),
            ("controller", of(Type::Boolean)),
            ("kind", of(Type::String)),
            ("name", of(Type::String)),
            ("uid", of(Type::String)),
        ])
    }
}

fn managed_fields_entry() -> Schema {
    map([
        ("apiVersion", of(Type::String)),
        ("fieldsType", of(Type::String)),
        ("fieldsV1", of(Type::Object)),
        ("manager", of(Type::String)),
        ("operation", of(Type::String)),
        ("subresource", of(Type::String)),
        ("time", time()),
    ])
}

fn finalizers() -> Schema {
    list(of(Type::String), ListType::Set)
}

fn texts() -> Schema {
    Schema {
        additional: Some(SchemaRef::new(of(Type::String))),
        ..of(Type::Object)
    }
}

fn time() -> Schema {
    Schema {
        format: Some(Arc::from("date-time")),
        ..of(Type::String)
    }
}

fn list(items: Schema, list: ListType) -> Schema {
    Schema {
        items: Some(SchemaRef::new(items)),
        list,
        ..of(Type::Array)
    }
}

fn map<const N: usize>(properties: [(&str, Schema); N]) -> Schema {
    Schema {
        properties: properties
            .into_iter()
            .map(|(name, schema)| (Arc::from(name), SchemaRef::new(schema)))
            .collect(),
        ..of(Type::Object)
    }
}

fn of(kind: Type) -> Schema {
    Schema {
        kind: Some(kind),
        ..Schema::default()
    }
}
