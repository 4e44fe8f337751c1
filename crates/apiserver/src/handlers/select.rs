//! Which objects a list, a watch or a deletion is about.

use super::{Context, write};
use crate::metadata::selectors::{Fields, Labels};
use crate::registry::Served;
use crate::request::options::ListOptions;
use crate::request::path::key;
use crate::status::{ApiError, ApiResult};
use crate::store::Entry;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Selectors ready to be matched.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// What the keys start with; the whole key where a name was asked for.
    pub(super) prefix: String,
    exact: bool,
    labels: Labels,
    /// Terms that need the object's content.
    fields: Fields,
    served: Arc<Served>,
}

/// The labels of an encoded object, without decoding the rest.
#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow, default)]
    metadata: LabelledMeta<'a>,
}

#[derive(Deserialize, Default)]
struct LabelledMeta<'a> {
    #[serde(borrow, default)]
    labels: Option<HashMap<Cow<'a, str>, Cow<'a, str>>>,
}

impl Selection {
    /// Reads the selectors of a request.
    pub(super) fn new(cx: &Context<'_>, options: &ListOptions) -> ApiResult<Self> {
        let labels = Labels::parse(&options.labels).map_err(ApiError::bad_request)?;
        let mut fields = Fields::parse(&options.fields).map_err(ApiError::bad_request)?;
        let known = known_fields(&cx.served);
        for term in &fields.0 {
            if !known.contains(&term.field) {
                return Err(ApiError::bad_request(unknown_field(
                    &cx.served,
                    &known,
                    &term.field,
                )));
            }
        }
        let mut name = cx.path.name.clone();
        if let Some(said) = fields.exact("metadata.name") {
            if !name.is_empty() && name != said {
                return Err(ApiError::bad_request(
                    "fieldSelector metadata.name doesn't match requested name",
                ));
            }
            said.clone_into(&mut name);
        }
        let namespaced = cx.served.resource.namespaced;
        let mut namespace = cx.path.namespace.clone();
        if namespace.is_empty()
            && namespaced
            && let Some(said) = fields.exact("metadata.namespace")
        {
            said.clone_into(&mut namespace);
        }
        let exact = !name.is_empty() && (!namespace.is_empty() || !namespaced);
        let prefix = if exact {
            key(&namespace, &name)
        } else if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        if exact {
            fields.0.retain(|term| {
                !(term.equal && term.field == "metadata.name" && term.value == name
                    || term.equal && term.field == "metadata.namespace" && term.value == namespace)
            });
        }
        Ok(Self {
            prefix,
            exact,
            labels,
            fields,
            served: cx.served.clone(),
        })
    }

    /// Whether all that a key starts with is selected.
    pub(super) fn is_everything(&self) -> bool {
        !self.exact && self.labels.is_empty() && self.fields.0.is_empty()
    }

    /// Whether an object is selected.
    pub(super) fn matches(&self, key: &str, entry: &Entry) -> bool {
        if self.exact && key != self.prefix {
            return false;
        }
        self.labels_match(entry) && (self.fields.0.is_empty() || self.fields_match(entry))
    }

    fn labels_match(&self, entry: &Entry) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        let labels = serde_json::from_slice::<Labelled<'_>>(entry.json())
            .ok()
            .and_then(|object| object.metadata.labels)
            .unwrap_or_default();
        self.labels.matches(|key| labels.get(key).map(|value| &**value))
    }

    fn fields_match(&self, entry: &Entry) -> bool {
        let object = write::load(&self.served, entry);
        let strategy = &self.served.resource.strategy;
        let special = strategy.selectable_fields(&object);
        self.fields.0.iter().all(|term| {
            let metadata = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            let value = match term.field.as_str() {
                "metadata.name" => metadata("name"),
                "metadata.namespace" => metadata("namespace"),
                field => special
                    .iter()
                    .find(|(name, _)| *name == field)
                    .map_or_else(|| at_path(&object, field), |(_, value)| value.clone()),
            };
            (value == term.value) == term.equal
        })
    }
}

/// The value at a dotted path, as a selector compares it.
fn at_path(object: &Value, path: &str) -> String {
    let value = path
        .trim_start_matches('.')
        .split('.')
        .fold(object, |at, step| &at[step]);
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn known_fields(served: &Served) -> Vec<String> {
    let mut known = vec!["metadata.name".to_owned(), "metadata.namespace".to_owned()];
    match &served.resource.custom {
        Some(custom) => known.extend(
            custom
                .selectable_fields
                .iter()
                .map(|path| path.trim_start_matches('.').to_owned()),
        ),
        None => known.extend(
            served
                .resource
                .strategy
                .selectable_fields(&Value::Null)
                .into_iter()
                .map(|(name, _)| name.to_owned()),
        ),
    }
    known
}

fn unknown_field(served: &Served, known: &[String], field: &str) -> String {
    if served.resource.custom.is_none() && known.len() == 2 {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    }
}
