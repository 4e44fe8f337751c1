//! Objects as tables (`meta.k8s.io` Table), which `kubectl get` asks for: the columns of each kind, and the cells of
//! each object. All columns are always given; those of priority 1 are for wide output.

mod core;
mod others;
mod workloads;

use crate::crd::table as custom_table;
use crate::resource::Resource;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What of each object a row carries beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

impl Include {
    /// The policy of a request's `includeObject`; what is none is as if nothing were asked.
    pub fn from_query(text: &str) -> Self {
        match text {
            "Object" => Self::Object,
            "None" => Self::None,
            _ => Self::Metadata,
        }
    }
}

/// How a table is made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The version of `meta.k8s.io` that was asked for, as `v1`.
    pub version: &'a str,
    /// What rows carry.
    pub include: Include,
    /// Whether the columns are said; in a watch only the first event says them.
    pub headers: bool,
    /// The metadata of the list, or what of an object's stands for it.
    pub metadata: &'a Value,
    /// The time from which ages count.
    pub now: Timestamp,
}

/// The table of these objects of one kind.
pub fn render(resource: &Resource, objects: &[Value], options: &Options<'_>) -> Value {
    let columns = match &resource.custom {
        Some(custom) => custom_table::columns(custom),
        None => columns(resource),
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| row(resource, object, options))
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": options.metadata,
        "columnDefinitions": if options.headers { json!(columns) } else { json!([]) },
        "rows": rows,
    })
}

fn row(resource: &Resource, object: &Value, options: &Options<'_>) -> Value {
    let cells = match &resource.custom {
        Some(custom) => custom_table::cells(custom, object, options.now),
        None => cells(resource, object, options.now),
    };
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells.into());
    if resource.custom.is_none()
        && &*resource.plural == "pods"
        && let Some(condition) = workloads::completed(object)
    {
        row.insert("conditions".to_owned(), condition);
    }
    let shown = match options.include {
        Include::None => Value::Null,
        Include::Object => object.clone(),
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": format!("meta.k8s.io/{}", options.version),
            "metadata": object["metadata"],
        }),
    };
    row.insert("object".to_owned(), shown);
    Value::Object(row)
}

/// The columns of a kind, as one text: names between bars; `#` before a name says an integer, `?` a boolean, `*`
/// after it priority 1.
fn layout(resource: &Resource) -> Option<&'static str> {
    match &*resource.group {
        "" => core::layout(&resource.plural),
        "apps" | "batch" => workloads::layout(&resource.plural),
        _ => others::layout(&resource.group, &resource.plural),
    }
}

fn columns(resource: &Resource) -> Vec<Value> {
    let Some(layout) = layout(resource) else {
        return vec![
            column("Name", "string", "name", 0),
            column("Created At", "date", "", 0),
        ];
    };
    layout
        .split('|')
        .map(|name| {
            let (name, priority) = match name.strip_suffix('*') {
                Some(name) => (name, 1),
                None => (name, 0),
            };
            let (kind, name) = match name.split_at_checked(1) {
                Some(("#", name)) => ("integer", name),
                Some(("?", name)) => ("boolean", name),
                _ => ("string", name),
            };
            column(name, kind, if name == "Name" { "name" } else { "" }, priority)
        })
        .collect()
}

fn column(name: &str, kind: &str, format: &str, priority: i64) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let show = Show { object, now };
    match &*resource.group {
        "" => core::cells(&resource.plural, &show),
        "apps" | "batch" => workloads::cells(&resource.plural, &show),
        _ => others::cells(&resource.group, &resource.plural, &show),
    }
    .unwrap_or_else(|| {
        let metadata = &object["metadata"];
        vec![metadata["name"].clone(), metadata["creationTimestamp"].clone()]
    })
}

/// An object that is shown at a time.
struct Show<'a> {
    object: &'a Value,
    now: Timestamp,
}

impl Show<'_> {
    fn spec(&self) -> &Value {
        &self.object["spec"]
    }

    fn status(&self) -> &Value {
        &self.object["status"]
    }

    fn name(&self) -> Value {
        self.object["metadata"]["name"].clone()
    }

    fn age(&self) -> Value {
        self.since(&self.object["metadata"]["creationTimestamp"]).into()
    }

    fn is_deleting(&self) -> bool {
        !self.object["metadata"]["deletionTimestamp"].is_null()
    }

    /// How long ago a time was.
    fn since(&self, time: &Value) -> String {
        match time.as_str().map(str::parse::<Timestamp>) {
            Some(Ok(time)) => custom_table::age(time, self.now),
            Some(Err(_)) => "<invalid>".to_owned(),
            None => "<unknown>".to_owned(),
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or(0)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The text, or what stands for none.
fn or<'a>(text: &'a str, none: &'a str) -> &'a str {
    if text.is_empty() { none } else { text }
}

/// Texts in one, or what stands for none.
fn joined<'a>(texts: impl IntoIterator<Item = &'a str>, none: &str) -> String {
    let all: Vec<&str> = texts.into_iter().collect();
    or(&all.join(","), none).to_owned()
}

/// The names and the images of containers.
fn containers(pod: &Value) -> [Value; 2] {
    let all = items(&pod["containers"]);
    ["name", "image"].map(|field| {
        all.iter()
            .map(|c| text(c, field))
            .collect::<Vec<_>>()
            .join(",")
            .into()
    })
}

/// Labels as `a=b,c=d`.
fn labels(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let all: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    or(&all.join(","), "<none>").to_owned()
}

/// A label selector as text.
fn selector(selector: &Value, none: &str) -> String {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let mut all: Vec<(String, String)> = pairs
        .map(|(name, value)| {
            (
                name.clone(),
                format!("{name}={}", value.as_str().unwrap_or_default()),
            )
        })
        .collect();
    for expression in items(&selector["matchExpressions"]) {
        let key = text(expression, "key");
        let mut values: Vec<&str> = items(&expression["values"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let said = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        all.push((key.to_owned(), said));
    }
    all.sort();
    let said: Vec<String> = all.into_iter().map(|(_, said)| said).collect();
    or(&said.join(","), none).to_owned()
}

#[cfg(test)]
mod tests;
