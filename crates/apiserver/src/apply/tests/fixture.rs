//! A kind with every sort of field, and a server of one object of it.

use crate::apply::{ResetFields, Target, Versions, apply, track_update};
use crate::schema::{ListType, Schema, SchemaRef, Type};
use crate::status::ApiResult;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn of(kind: Type) -> Schema {
    Schema {
        kind: Some(kind),
        ..Schema::default()
    }
}

pub(super) fn map<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    Schema {
        properties: fields
            .into_iter()
            .map(|(name, schema)| (Arc::from(name), SchemaRef::new(schema)))
            .collect(),
        ..of(Type::Object)
    }
}

fn list(items: Schema, list: ListType) -> Schema {
    Schema {
        items: Some(SchemaRef::new(items)),
        list,
        ..of(Type::Array)
    }
}

/// `replicas`, `paused`, `labels` (a map), `selector` (atomic), `args` (atomic), `zones` (a set), `ports` (a map of
/// `port` and `protocol`, which is TCP by default), `any` (unknown fields are kept).
pub(super) fn schema(atomic_ports: bool) -> Schema {
    let text = || of(Type::String);
    let port = map([
        ("port", of(Type::Integer)),
        (
            "protocol",
            Schema {
                default: Some(json!("TCP")),
                ..text()
            },
        ),
        ("name", text()),
    ]);
    let ports = if atomic_ports {
        list(port, ListType::Atomic)
    } else {
        list(port, ListType::Map(vec!["port".into(), "protocol".into()]))
    };
    let texts = || Schema {
        additional: Some(SchemaRef::new(of(Type::String))),
        ..of(Type::Object)
    };
    map([
        (
            "spec",
            map([
                ("replicas", of(Type::Integer)),
                ("paused", of(Type::Boolean)),
                ("labels", texts()),
                (
                    "selector",
                    Schema {
                        atomic_map: true,
                        ..texts()
                    },
                ),
                ("args", list(text(), ListType::Atomic)),
                ("zones", list(text(), ListType::Set)),
                ("ports", ports),
                (
                    "any",
                    Schema {
                        preserve_unknown: true,
                        ..of(Type::Object)
                    },
                ),
            ]),
        ),
        ("status", map([("ready", of(Type::Integer)), ("phase", text())])),
    ])
}

struct Served(Vec<(&'static str, SchemaRef)>);

impl Versions for Served {
    fn schema(&self, api_version: &str) -> Option<SchemaRef> {
        let found = self.0.iter().find(|(version, _)| *version == api_version);
        found.map(|(_, schema)| schema.clone())
    }
}

/// One object, written to in turn. Its time is the number of the write.
pub(super) struct Server {
    served: Served,
    pub(super) version: &'static str,
    pub(super) subresource: &'static str,
    pub(super) live: Option<Value>,
    writes: i64,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            served: Served(vec![
                ("g/v1", SchemaRef::new(schema(false))),
                ("g/v2", SchemaRef::new(schema(false))),
            ]),
            version: "g/v1",
            subresource: "",
            live: None,
            writes: 0,
        }
    }

    /// Serves these versions only.
    pub(super) fn serve(&mut self, served: Vec<(&'static str, Schema)>) {
        let served = served
            .into_iter()
            .map(|(version, schema)| (version, SchemaRef::new(schema)));
        self.served = Served(served.collect());
    }

    fn with_target<T>(&mut self, run: impl FnOnce(&Target<'_>, Option<&Value>) -> T) -> T {
        let now = jiff::Timestamp::from_second(self.writes).unwrap();
        self.writes += 1;
        let reset: ResetFields = if self.subresource == "status" {
            &[&["metadata"], &["spec"]]
        } else {
            &[&["status"]]
        };
        let schema = self.served.schema(self.version).unwrap();
        let target = Target {
            schema: &schema,
            api_version: self.version,
            kind: "K",
            subresource: self.subresource,
            custom: true,
            reset,
            versions: &self.served,
            now,
        };
        let mut live = self.live.clone();
        if let Some(live) = &mut live {
            live["apiVersion"] = self.version.into();
        }
        run(&target, live.as_ref())
    }

    pub(super) fn object(&self, rest: &Value) -> Value {
        let mut object =
            json!({"apiVersion": self.version, "kind": "K", "metadata": {"name": "o", "namespace": "ns"}});
        for (name, value) in rest.as_object().unwrap() {
            match (name.as_str(), value) {
                ("metadata", Value::Object(given)) => {
                    object["metadata"].as_object_mut().unwrap().extend(given.clone());
                }
                _ => object[name] = value.clone(),
            }
        }
        object
    }

    /// Applies; keeps what results.
    pub(super) fn apply(&mut self, manager: &str, rest: impl Into<Value>, force: bool) -> ApiResult<Value> {
        let config = self.object(&rest.into());
        let result = self.with_target(|target, live| apply(target, live, &config, manager, force));
        if let Ok(object) = &result {
            self.live = Some(object.clone());
        }
        result
    }

    /// Writes the object without regard for managed fields, as a PUT that leaves them out.
    pub(super) fn put(&mut self, manager: &str, rest: impl Into<Value>) -> Value {
        let mut object = self.object(&rest.into());
        self.with_target(|target, live| track_update(target, live, &mut object, manager));
        self.live = Some(object.clone());
        object
    }

    /// The entries as `MANAGER OPERATION SECOND: FIELDS`.
    pub(super) fn entries(&self) -> Vec<String> {
        entries(self.live.as_ref().unwrap())
    }
}

pub(super) fn entries(object: &Value) -> Vec<String> {
    let listed = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    listed
        .iter()
        .map(|entry| {
            let second = entry["time"].as_str().map_or("-".to_owned(), |time| {
                let time: jiff::Timestamp = time.parse().unwrap();
                time.as_second().to_string()
            });
            let subresource = entry
                .get("subresource")
                .map_or(String::new(), |s| format!("/{}", s.as_str().unwrap()));
            format!(
                "{}{subresource} {} {second}: {}",
                entry["manager"].as_str().unwrap(),
                entry["operation"].as_str().unwrap(),
                entry["fieldsV1"]
            )
        })
        .collect()
}
