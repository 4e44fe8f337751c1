//! Objects of built-in kinds as Go's typed structs would read and write them. The real server decodes what it is
//! sent into structs, and that is visible: wrong types are refused in the decoder's words, empty values vanish or
//! stay as their json tags say, and quantities and times are written in one form only.

use super::quantity::Quantity;
use super::times;
use crate::patch::kind_name;
use crate::schema::{Definition, Schema, SchemaRef, Type};
use crate::status::{ApiError, ApiResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Reads an object as its Go type, or refuses it as the real server refuses the body of a request (400).
///
/// # Errors
/// What of it has another type than its schema says.
pub fn decode(schema: &Schema, kind: &str, api_version: &str, object: &mut Value) -> ApiResult<()> {
    typed(schema, object, Reader::Json).map_err(|why| {
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    })
}

/// What puts an object into a Go type; each has its own words for what does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The decoder of JSON.
    Json,
    /// The converter of unstructured objects, which reads what a strategic merge patch makes.
    Converter,
}

/// Reads an object as its Go type: nulls go, quantities and times are brought to their form.
///
/// # Errors
/// The reader's words for the first value of another type.
pub fn typed(schema: &Schema, object: &mut Value, reader: Reader) -> Result<(), String> {
    let mut place = Place {
        reader,
        owner: schema.definition.map_or("", Definition::type_name),
        path: Vec::new(),
    };
    read(schema, object, &mut place)
}

/// Where the decoder is: the struct that has the field, and the names of the fields that lead there.
struct Place {
    reader: Reader,
    owner: &'static str,
    path: Vec<String>,
}

impl Place {
    fn mismatch(&self, found: &Value, schema: &Schema) -> String {
        match self.reader {
            Reader::Json => self.not_decoded(found, &go_type(schema)),
            Reader::Converter => not_converted(found, schema),
        }
    }

    fn not_decoded(&self, found: &Value, wanted: &str) -> String {
        let found = match found {
            Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Array(_) => "array".to_owned(),
            _ => "object".to_owned(),
        };
        if self.path.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
        }
        format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
            self.owner,
            self.path.join(".")
        )
    }
}

/// The converter's words.
fn not_converted(found: &Value, schema: &Schema) -> String {
    let kind = match found {
        Value::Object(_) => "map",
        Value::Array(_) => "slice",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        _ => "int64",
    };
    let wanted = go_type(schema);
    match schema.kind {
        Some(Type::Array) => format!("cannot restore slice from {kind}"),
        Some(Type::Object) if schema.additional.is_some() => format!("cannot restore map from {kind}"),
        Some(Type::Object) => format!("cannot restore struct from: {kind}"),
        // What Go could convert, and the converter does not want to.
        Some(Type::String) if kind == "int64" => format!("cannot convert int64 to {wanted}"),
        Some(Type::Integer) if kind == "float64" => format!("cannot convert float64 to {wanted}"),
        _ => format!("unrecognized type: {wanted}"),
    }
}

/// The Go type that the decoder names.
fn go_type(schema: &Schema) -> String {
    if let Some(definition) = schema.definition
        && schema.kind == Some(Type::Object)
    {
        let package = definition.name.rsplit('.').nth(1).unwrap_or_default();
        return format!("{package}.{}", definition.type_name());
    }
    match schema.kind {
        Some(Type::Array) => format!("[]{}", schema.items.as_deref().map_or_else(String::new, go_type)),
        Some(Type::Object) => match &schema.additional {
            Some(values) => format!("map[string]{}", go_type(values)),
            None => "map[string]interface {}".to_owned(),
        },
        Some(Type::String) if schema.format.as_deref() == Some("byte") => "[]uint8".to_owned(),
        Some(Type::String) | None => "string".to_owned(),
        Some(Type::Boolean) => "bool".to_owned(),
        Some(Type::Number) => "float64".to_owned(),
        Some(Type::Integer) => schema.format.as_deref().unwrap_or("int64").to_owned(),
    }
}

fn read(schema: &Schema, value: &mut Value, place: &mut Place) -> Result<(), String> {
    if value.is_null() {
        *value = zero(schema);
        return Ok(());
    }
    match schema.kind {
        None => return read_special(schema, value, place),
        Some(Type::Object) if value.is_object() => return read_object(schema, value, place),
        Some(Type::Array) => {
            if let (Value::Array(items), Some(of)) = (&mut *value, &schema.items) {
                return items.iter_mut().try_for_each(|item| read(of, item, place));
            }
        }
        Some(Type::String) => {
            if let Value::String(text) = value {
                return read_text(schema, text);
            }
        }
        Some(Type::Boolean) if value.is_boolean() => return Ok(()),
        Some(Type::Number) if value.is_number() => return Ok(()),
        Some(Type::Integer) => {
            let fits = match schema.format.as_deref() {
                Some("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
                _ => value.as_i64().is_some(),
            };
            if fits {
                return Ok(());
            }
        }
        Some(_) => {}
    }
    Err(place.mismatch(value, schema))
}

fn read_object(schema: &Schema, value: &mut Value, place: &mut Place) -> Result<(), String> {
    let Value::Object(map) = value else {
        return Ok(());
    };
    if let Some(values) = &schema.additional {
        return map.values_mut().try_for_each(|item| read(values, item, place));
    }
    // A null leaves the field as it was, which is absent.
    map.retain(|name, item| !item.is_null() || !schema.properties.contains_key(name.as_str()));
    let mut inner = Place {
        reader: place.reader,
        owner: schema.definition.map_or(place.owner, Definition::type_name),
        path: std::mem::take(&mut place.path),
    };
    let mut outcome = Ok(());
    for (name, item) in map {
        let Some(field) = schema.properties.get(name.as_str()) else {
            continue;
        };
        inner.path.push(name.clone());
        outcome = read(field, item, &mut inner);
        if outcome.is_err() {
            break;
        }
        inner.path.pop();
    }
    place.path = inner.path;
    outcome
}

fn read_text(schema: &Schema, text: &mut String) -> Result<(), String> {
    match schema.format.as_deref() {
        Some("date-time") => {
            *text = times::seconds(text)?;
        }
        Some("micro-time") => {
            *text = times::micros(text)?;
        }
        Some("byte") => {
            let bytes = STANDARD
                .decode(text.replace(['\r', '\n'], ""))
                .map_err(|error| format!("illegal base64 data at input byte {}", offset(&error, text)))?;
            *text = STANDARD.encode(bytes);
        }
        _ => {}
    }
    Ok(())
}

fn offset(error: &base64::DecodeError, text: &str) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
    }
}

/// Quantities, numbers or texts, and what may be anything.
fn read_special(schema: &Schema, value: &mut Value, place: &Place) -> Result<(), String> {
    match schema.format.as_deref() {
        Some("quantity") => {
            let text = match &*value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            *value = Quantity::parse(&text)?.canonical().into();
        }
        Some("int-or-string")
            if !value.is_string() && value.as_i64().is_none_or(|n| i32::try_from(n).is_err()) =>
        {
            // Both leave it to the type itself, which knows no more than that.
            return Err(match place.reader {
                Reader::Json => place.not_decoded(value, "int32"),
                Reader::Converter => format!(
                    "json: cannot unmarshal {} into Go value of type int32",
                    kind_name(value)
                ),
            });
        }
        _ => {}
    }
    Ok(())
}

/// What a field that is null in a list or map becomes.
fn zero(schema: &Schema) -> Value {
    match schema.kind {
        Some(Type::Object) => Value::Object(Map::new()),
        Some(Type::String) if schema.format.is_none() => Value::from(""),
        Some(Type::Integer | Type::Number) => Value::from(0),
        Some(Type::Boolean) => Value::from(false),
        _ => Value::Null,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Writes an object as its Go type would: what is empty goes, but for fields whose tags keep it, and structs that
/// are no pointers are always there.
pub fn encode(schema: &Schema, object: &mut Value) {
    match object {
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for item in items {
                    encode(of, item);
                }
            }
        }
        Value::Object(map) => match &schema.additional {
            Some(values) => map.values_mut().for_each(|item| encode(values, item)),
            None => encode_fields(schema, map),
        },
        _ => {}
    }
}

fn encode_fields(schema: &Schema, map: &mut Map<String, Value>) {
    let nothing = Definition::default();
    let definition = schema.definition.unwrap_or(&nothing);
    map.retain(|name, value| {
        schema
            .properties
            .get(name.as_str())
            .is_none_or(|field| stays(name, field, value, definition))
    });
    for (name, field) in &schema.properties {
        if let Some(value) = map.get_mut(&**name) {
            encode(field, value);
            continue;
        }
        if definition.null.contains(&&**name) {
            map.insert(name.to_string(), Value::Null);
        } else if let Some(default) = &field.default
            && !definition.drop.contains(&&**name)
            && (is_zero(default) || default.as_object().is_some_and(Map::is_empty))
        {
            let mut value = default.clone();
            encode(field, &mut value);
            map.insert(name.to_string(), value);
        }
    }
}

fn stays(name: &str, field: &SchemaRef, value: &Value, definition: &Definition) -> bool {
    match value {
        Value::Array(items) => !items.is_empty() || definition.null.contains(&name),
        Value::Object(map) if field.additional.is_some() => {
            !map.is_empty() || definition.null.contains(&name)
        }
        Value::Null => definition.null.contains(&name) || (field.kind.is_none() && field.format.is_none()),
        value if is_zero(value) && field.kind.is_some() => {
            definition.keep.contains(&name) || (field.default.is_some() && !definition.drop.contains(&name))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::definitions::schema;
    use serde_json::json;

    fn refused(name: &str, mut object: Value) -> String {
        typed(&schema(name), &mut object, Reader::Json).expect_err("has a wrong type")
    }

    #[test]
    fn refuses_in_the_converters_words() {
        let node = schema("io.k8s.api.apps.v1.Deployment");
        for (object, why) in [
            (json!({"spec": {"replicas": "x"}}), "unrecognized type: int32"),
            (
                json!({"spec": {"replicas": 1.5}}),
                "cannot convert float64 to int32",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": {}}}}}),
                "cannot restore slice from map",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": ["a"]}}}}),
                "cannot restore struct from: string",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "cannot convert int64 to string",
            ),
            (
                json!({"metadata": {"labels": "a"}}),
                "cannot restore map from string",
            ),
            (
                json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": true}}}}),
                "json: cannot unmarshal bool into Go value of type int32",
            ),
        ] {
            let mut object = object;
            assert_eq!(
                typed(&node, &mut object, Reader::Converter).expect_err("is refused"),
                why
            );
        }
    }

    #[test]
    fn refuses_in_the_decoders_words() {
        let deployment = "io.k8s.api.apps.v1.Deployment";
        for (object, why) in [
            (
                json!({"spec": {"replicas": "x"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": {"a": 1}}}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": ["a"]}}}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"name": 1}]}}}}),
                "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"metadata": "x"}),
                "json: cannot unmarshal string into Go struct field Deployment.metadata of type v1.ObjectMeta",
            ),
            (
                json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": true}}}}),
                "json: cannot unmarshal bool into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
            ),
        ] {
            assert_eq!(refused(deployment, object), why);
        }
        let map = "io.k8s.api.core.v1.ConfigMap";
        assert_eq!(
            refused(map, json!({"binaryData": {"a": "!!"}})),
            "illegal base64 data at input byte 0"
        );
        assert_eq!(
            refused(map, json!({"data": ["a"]})),
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string"
        );
        assert_eq!(
            refused(map, json!({"binaryData": {"a": 3}})),
            "json: cannot unmarshal number into Go struct field ConfigMap.binaryData of type []uint8"
        );
    }

    #[test]
    fn writes_what_go_would() {
        let node = schema("io.k8s.api.core.v1.ConfigMap");
        let mut map =
            json!({"metadata": {"name": "a"}, "data": {}, "binaryData": {"a": "YWI="}, "immutable": false});
        typed(&node, &mut map, Reader::Json).expect("right types");
        encode(&node, &mut map);
        assert_eq!(
            map,
            json!({"metadata": {"name": "a"}, "binaryData": {"a": "YWI="}, "immutable": false})
        );
        let node = schema("io.k8s.api.rbac.v1.Role");
        let mut role = json!({"metadata": {"name": "a", "labels": {}}});
        encode(&node, &mut role);
        assert_eq!(role, json!({"metadata": {"name": "a"}, "rules": null}));
        let node = schema("io.k8s.api.apps.v1.Deployment");
        let mut deployment = json!({
            "metadata": {"name": "a"},
            "spec": {"replicas": 0, "paused": false, "template": {"metadata": {"creationTimestamp": null}, "spec": {
                "nodeSelector": {}, "containers": [{"name": "a", "image": "", "args": null, "resources": {"limits": {"cpu": 0.5}}}]}}},
            "status": null,
        });
        typed(&node, &mut deployment, Reader::Json).expect("right types");
        encode(&node, &mut deployment);
        assert_eq!(
            deployment,
            json!({
                "metadata": {"name": "a"},
                "spec": {"replicas": 0, "selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {
                    "containers": [{"name": "a", "resources": {"limits": {"cpu": "500m"}}}]}}},
                "status": {},
            })
        );
    }
}
