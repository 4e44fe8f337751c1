//! Printer columns of custom resources (`additionalPrinterColumns`), as `kubectl get` shows them.

use super::jsonpath::JsonPath;
use super::paths::{list, text};
use crate::resource::Custom;
use crate::schema::gotext;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What the real server says of the name column.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// What the real server says of the age column that a CRD without columns gets.
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The definitions of the columns: the name, and those of the CRD (its age where there are none).
pub fn columns(custom: &Custom) -> Vec<Value> {
    let mut columns =
        vec![json!({"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0})];
    columns.extend(wanted(custom).iter().map(|column| {
        let path = text(column, "jsonPath");
        let description = match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            description => description.to_owned(),
        };
        json!({
            "name": text(column, "name"),
            "type": text(column, "type"),
            "format": text(column, "format"),
            "description": description,
            "priority": column.get("priority").cloned().unwrap_or(json!(0)),
        })
    }));
    columns
}

/// The cells of an object's row, in the order of [`columns`].
pub fn cells(custom: &Custom, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![json!(text(&object["metadata"], "name"))];
    cells.extend(wanted(custom).iter().map(|column| {
        let path = JsonPath::parse(text(column, "jsonPath"));
        let found = path.map(|path| path.find(object)).unwrap_or_default();
        match found.first() {
            Some(value) => cell(text(column, "type"), value, now),
            None => Value::Null,
        }
    }));
    cells
}

fn wanted(custom: &Custom) -> Vec<Value> {
    match list(&custom.version["additionalPrinterColumns"]) {
        [] => vec![
            json!({"name": "Age", "type": "date", "description": AGE, "jsonPath": ".metadata.creationTimestamp"}),
        ],
        columns => columns.to_vec(),
    }
}

fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("string", Value::Null) => json!("<no value>"),
        ("string", Value::String(text)) => json!(text),
        ("string", other) => json!(printed(other)),
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => json!(whole),
            (None, Some(float)) => json!(whole_part(float)),
            _ => Value::Null,
        },
        ("number", Value::Number(number)) => json!(number.as_f64()),
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => json!(age(time, now)),
            Err(_) if text.is_empty() => json!("<unknown>"),
            Err(_) => json!("<invalid>"),
        },
        _ => Value::Null,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole_part(float: f64) -> i64 {
    float as i64
}

/// A value in a text column: lists and maps as JSON, scalars bare.
fn printed(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => gotext::json(value),
        other => gotext::shown(other),
    }
}

/// How long ago a time was, as `5m12s`, `3h4m`, `2d5h`, `41d`, `2y3d`: two units while the first is small.
pub fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit}{small}{small_unit}")
        }
    };
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = hours / 24;
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..=119 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn ages_read_as_kubectls() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (seconds, said) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (312, "5m12s"),
            (1200, "20m"),
            (3 * 3600 + 60, "3h1m"),
            (20 * 3600, "20h"),
            (53 * 3600, "2d5h"),
            (41 * 86400, "41d"),
            (733 * 86400, "2y3d"),
        ] {
            let time = Timestamp::from_second(now.as_second() - seconds).unwrap();
            assert_eq!(age(time, now), said);
        }
    }

    #[test]
    fn rows_follow_the_columns() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let custom = |columns: Value| Custom {
            definition: Arc::new(json!({})),
            version: Arc::new(json!({"additionalPrinterColumns": columns})),
            selectable_fields: Vec::new(),
        };
        let object = json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-09T23:59:00Z"},
            "spec": {"n": 3, "b": true, "s": "x", "l": ["a"], "f": 1.5, "null": null},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let column = |kind: &str, path: &str| json!({"name": path, "type": kind, "jsonPath": path});
        let columns = json!([
            column("integer", ".spec.n"),
            column("boolean", ".spec.b"),
            column("string", ".spec.s"),
            column("string", ".spec.l"),
            column("number", ".spec.f"),
            column("string", ".spec.n"),
            column("integer", ".spec.s"),
            column("string", ".spec.missing"),
            column("string", r#".status.conditions[?(@.type=="Ready")].status"#),
            column("date", ".metadata.creationTimestamp"),
        ]);
        assert_eq!(
            json!(cells(&custom(columns), &object, now)),
            json!(["n", 3, true, "x", r#"["a"]"#, 1.5, "3", null, null, "True", "60s"])
        );
        let none = custom(json!([]));
        assert_eq!(json!(cells(&none, &object, now)), json!(["n", "60s"]));
        assert_eq!(super::columns(&none)[1]["name"], "Age");
    }
}
