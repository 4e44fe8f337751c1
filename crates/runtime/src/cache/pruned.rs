//! What the cache keeps of an object: compact JSON without what no reader needs.
//!
//! A typed object takes several times the heap of its JSON, most of it for managedFields. So objects are kept as
//! bytes and decoded when they are read, which takes microseconds. The bytes are made while the server's answer is
//! being parsed: nothing is held twice. That also means that an object of a shape that its type does not expect
//! never breaks a list or a watch: it is stored like any other, and only reading it fails.

use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::object::Object;

/// The annotation in which client-side `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of kind `K` on its way into the cache.
///
/// Its JSON lacks `apiVersion` and `kind`, which the kind implies and which lists leave out anyway, managedFields,
/// and the last-applied annotation.
pub(crate) struct Pruned<K> {
    /// Name, namespace, uid, resourceVersion, and whether it is being deleted; nothing else is filled in.
    pub meta: ObjectMeta,
    /// True where `deletionTimestamp` is set, no finalizer is left, and no grace period runs: an answer to a write
    /// that looks like this describes an object that is already gone.
    pub gone: bool,
    /// The JSON.
    pub json: Box<[u8]>,
    /// The JSON of managedFields; empty where there are none.
    pub managed: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Pruned<K> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            gone: self.gone,
            json: self.json.clone(),
            managed: self.managed.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Pruned<K> {
    // Never the content, which may be a Secret's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pruned")
            .field("name", &self.meta.name)
            .field("namespace", &self.meta.namespace)
            .field("bytes", &self.json.len())
            .finish_non_exhaustive()
    }
}

impl<K: Object> kube::Resource for Pruned<K> {
    type DynamicType = ();
    // The kind's own scope is not known here to the type system; one that allows both is.
    type Scope = DynamicResourceScope;

    fn kind(dt: &()) -> std::borrow::Cow<'_, str> {
        K::kind(dt)
    }
    fn group(dt: &()) -> std::borrow::Cow<'_, str> {
        K::group(dt)
    }
    fn version(dt: &()) -> std::borrow::Cow<'_, str> {
        K::version(dt)
    }
    fn plural(dt: &()) -> std::borrow::Cow<'_, str> {
        K::plural(dt)
    }
    fn metadata_api() -> bool {
        K::metadata_api()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

impl<'de, K> Deserialize<'de> for Pruned<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pruning = Pruning::default();
        deserializer.deserialize_map(Top(&mut pruning))?;
        let Pruning {
            out,
            meta,
            lifetime,
            managed,
        } = pruning;
        let gone = lifetime.deleting && !lifetime.finalizers && !lifetime.grace;
        Ok(Self {
            meta,
            gone,
            json: out.into_boxed_slice(),
            managed: managed.into_boxed_slice(),
            kind: PhantomData,
        })
    }
}

#[derive(Default)]
struct Pruning {
    out: Vec<u8>,
    meta: ObjectMeta,
    lifetime: Lifetime,
    managed: Vec<u8>,
}

#[derive(Default)]
struct Lifetime {
    deleting: bool,
    finalizers: bool,
    grace: bool,
}

/// The object itself.
struct Top<'a>(&'a mut Pruning);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Fields::open(&mut self.0.out);
        while let Some(key) = map.next_key::<Name>()? {
            match key.0.as_str() {
                "apiVersion" | "kind" => {
                    map.next_value::<IgnoredAny>()?;
                }
                "metadata" => {
                    fields.key(&mut self.0.out, "metadata")?;
                    map.next_value_seed(Meta(self.0))?;
                }
                other => {
                    fields.key(&mut self.0.out, other)?;
                    map.next_value_seed(Copy(&mut self.0.out))?;
                }
            }
        }
        self.0.out.push(b'}');
        Ok(())
    }
}

/// `metadata`.
struct Meta<'a>(&'a mut Pruning);

impl<'de> DeserializeSeed<'de> for Meta<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Meta<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("object metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Pruning {
            out,
            meta,
            lifetime,
            managed,
        } = self.0;
        let mut fields = Fields::open(out);
        while let Some(key) = map.next_key::<Name>()? {
            let slot = match key.0.as_str() {
                "managedFields" => {
                    map.next_value_seed(Copy(managed))?;
                    continue;
                }
                "selfLink" => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                "name" => Some(&mut meta.name),
                "namespace" => Some(&mut meta.namespace),
                "uid" => Some(&mut meta.uid),
                "resourceVersion" => Some(&mut meta.resource_version),
                _ => None,
            };
            fields.key(out, &key.0)?;
            if let Some(slot) = slot {
                let value = map.next_value::<Option<String>>()?;
                write(out, &value)?;
                *slot = value.filter(|value| !value.is_empty());
                continue;
            }
            let start = out.len();
            if key.0 == "annotations" {
                map.next_value_seed(Annotations(out))?;
                continue;
            }
            map.next_value_seed(Copy(out))?;
            let value = out.get(start..).unwrap_or_default();
            match key.0.as_str() {
                "deletionTimestamp" => lifetime.deleting = value != b"null",
                "finalizers" => lifetime.finalizers = !matches!(value, b"null" | b"[]"),
                "deletionGracePeriodSeconds" => lifetime.grace = !matches!(value, b"null" | b"0"),
                _ => {}
            }
        }
        out.push(b'}');
        Ok(())
    }
}

/// `metadata.annotations`.
struct Annotations<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Annotations<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Annotations<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Fields::open(self.0);
        while let Some(key) = map.next_key::<Name>()? {
            if key.0 == LAST_APPLIED {
                map.next_value::<IgnoredAny>()?;
            } else {
                fields.key(self.0, &key.0)?;
                map.next_value_seed(Copy(self.0))?;
            }
        }
        self.0.push(b'}');
        Ok(())
    }
}

/// Any value, copied as it is.
struct Copy<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        write(self.0, &value)
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        write(self.0, &value)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        write(self.0, &value)
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        write(self.0, &value)
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        write(self.0, value)
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }
    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let first = self.0.len();
        loop {
            let mark = self.0.len();
            if mark > first {
                self.0.push(b',');
            }
            if seq.next_element_seed(Copy(self.0))?.is_none() {
                self.0.truncate(mark);
                break;
            }
        }
        self.0.push(b']');
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Fields::open(self.0);
        while let Some(key) = map.next_key::<Name>()? {
            fields.key(self.0, &key.0)?;
            map.next_value_seed(Copy(self.0))?;
        }
        self.0.push(b'}');
        Ok(())
    }
}

/// The members of an object being written.
struct Fields {
    first: bool,
}

impl Fields {
    fn open(out: &mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { first: true }
    }

    fn key<E: serde::de::Error>(&mut self, out: &mut Vec<u8>, key: &str) -> Result<(), E> {
        if !std::mem::replace(&mut self.first, false) {
            out.push(b',');
        }
        write(out, key)?;
        out.push(b':');
        Ok(())
    }
}

/// The name of a member. Borrowed where the input allows it would save an allocation, but a name with an escape
/// in it cannot be borrowed, and serde offers no "either" that does not allocate for a buffered input.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

fn write<T: serde::Serialize + ?Sized, E: serde::de::Error>(out: &mut Vec<u8>, value: &T) -> Result<(), E> {
    serde_json::to_writer(out, value).map_err(E::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use kube::core::WatchEvent;

    fn pruned(json: &str) -> Pruned<ConfigMap> {
        serde_json::from_str(json).unwrap()
    }

    fn text<K>(pruned: &Pruned<K>) -> &str {
        std::str::from_utf8(&pruned.json).unwrap()
    }

    #[test]
    fn drops_what_no_reader_needs_and_keeps_the_rest() {
        let object = pruned(
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"b","uid":"u",
                "resourceVersion":"7","managedFields":[{"manager":"x"}],"labels":{"l":"1"},
                "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","keep":"\"q\""}},
                "data":{"k":"ü\n"},"x":[1,-2,1.5,true,null,[],{}]}"#,
        );
        assert_eq!(
            text(&object),
            r#"{"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"7","labels":{"l":"1"},"#
                .to_owned()
                + r#""annotations":{"keep":"\"q\""}},"data":{"k":"ü\n"},"x":[1,-2,1.5,true,null,[],{}]}"#
        );
        assert_eq!(object.meta.resource_version.as_deref(), Some("7"));
        assert_eq!(object.meta.uid.as_deref(), Some("u"));
        serde_json::from_slice::<ConfigMap>(&object.json).unwrap();
    }

    #[test]
    fn an_object_of_an_unexpected_shape_does_not_break_the_stream() {
        let line = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"},"spec":"no"}}"#;
        let WatchEvent::Added(object) = serde_json::from_str::<WatchEvent<Pruned<Pod>>>(line).unwrap() else {
            panic!("not an addition")
        };
        assert_eq!(object.meta.name.as_deref(), Some("a"));
        serde_json::from_slice::<Pod>(&object.json).unwrap_err();
    }

    #[test]
    fn an_event_whose_type_comes_last_is_read_too() {
        let line = r#"{"object":{"metadata":{"name":"a","labels":null},"data":{"k":"v"}},"type":"DELETED"}"#;
        let WatchEvent::Deleted(object) =
            serde_json::from_str::<WatchEvent<Pruned<ConfigMap>>>(line).unwrap()
        else {
            panic!("not a deletion")
        };
        assert_eq!(
            text(&object),
            r#"{"metadata":{"name":"a","labels":null},"data":{"k":"v"}}"#
        );
    }

    #[test]
    fn an_object_being_deleted_is_gone_once_nothing_holds_it() {
        let gone = |fields: &str| pruned(&format!(r#"{{"metadata":{{"name":"a"{fields}}}}}"#)).gone;
        assert!(!gone(""));
        assert!(gone(r#","deletionTimestamp":"2026-01-01T00:00:00Z""#));
        assert!(gone(
            r#","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0,"finalizers":[]"#
        ));
        assert!(!gone(
            r#","deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["x"]"#
        ));
        assert!(!gone(
            r#","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":30"#
        ));
    }
}
