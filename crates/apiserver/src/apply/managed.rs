//! The entries of `metadata.managedFields`: reading, ordering, limiting and writing them.

use super::fieldsv1::{self, FieldsError};
use super::set::Set;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use thiserror::Error;

/// How many Update entries an object keeps; older ones are joined.
const MOST_UPDATE_ENTRIES: usize = 10;

/// The manager of joined entries.
const ANCIENT: &str = "ancient-changes";

/// What a manager did: applied a configuration, or wrote in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Whose an entry is. An applier has one entry whatever its version; other writers have one for each version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) manager: &'a str,
    pub(super) operation: Operation,
    pub(super) api_version: &'a str,
    pub(super) subresource: &'a str,
}

impl Who<'_> {
    pub(super) fn is(&self, other: &Who<'_>) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// One manager's fields.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) who: Who<'a>,
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) set: Set<'a>,
    /// The stored form, as long as the set is what was read from it.
    stored: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(who: Who<'a>, set: Set<'a>) -> Self {
        Self {
            who,
            time: None,
            set,
            stored: None,
        }
    }

    /// Gives the entry another set.
    pub(super) fn put(&mut self, set: Set<'a>) {
        self.set = set;
        self.stored = None;
    }

    fn seconds(&self) -> i64 {
        let parsed = self
            .time
            .as_deref()
            .and_then(|time| time.parse::<Timestamp>().ok());
        parsed.map_or(0, Timestamp::as_second)
    }

    fn to_value(&self) -> Value {
        let fields = match self.stored {
            Some(stored) => stored.clone(),
            None => fieldsv1::encode(&self.set),
        };
        let mut map = Map::new();
        let mut put = |name: &str, value: &str| {
            if !value.is_empty() {
                map.insert(name.to_owned(), Value::String(value.to_owned()));
            }
        };
        put("apiVersion", self.who.api_version);
        put("fieldsType", "FieldsV1");
        put("manager", self.who.manager);
        put("operation", self.who.operation.text());
        put("subresource", self.who.subresource);
        put("time", self.time.as_deref().unwrap_or_default());
        map.insert("fieldsV1".to_owned(), fields);
        Value::Object(map)
    }
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Why entries can't be read.
#[derive(Debug, Error)]
pub(super) enum ManagedError {
    #[error("managed fields must be a list of entries")]
    NotAList,
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    ApiVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    #[error("error decoding set: {0}")]
    Fields(#[from] FieldsError),
}

/// Reads the entries of `metadata.managedFields`; of several of one manager the last counts.
pub(super) fn decode(managed_fields: Option<&Value>) -> Result<Vec<Entry<'_>>, ManagedError> {
    let listed = match managed_fields {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(ManagedError::NotAList),
    };
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(listed.len() + 1);
    for (position, entry) in listed.iter().enumerate() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err(ManagedError::Operation),
        };
        if text("apiVersion").is_empty() {
            return Err(ManagedError::ApiVersion);
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(ManagedError::NoFieldsType(position)),
            other => return Err(ManagedError::FieldsType(position, other.to_owned())),
        }
        let stored = entry.get("fieldsV1").filter(|fields| !fields.is_null());
        let entry = Entry {
            who: Who {
                manager: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            },
            time: entry.get("time").and_then(Value::as_str).map(normal_time),
            set: stored.map(fieldsv1::decode).transpose()?.unwrap_or_default(),
            stored,
        };
        match entries.iter_mut().find(|other| other.who.is(&entry.who)) {
            Some(other) => *other = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// A time in UTC with whole seconds, as it is stored.
fn normal_time(text: &str) -> Cow<'_, str> {
    if text.len() == 20 && text.ends_with('Z') {
        return Cow::Borrowed(text);
    }
    match text.parse::<Timestamp>() {
        Ok(time) => Cow::Owned(time_text(time)),
        Err(_) => Cow::Borrowed(text),
    }
}

/// A time as it is stored.
pub(super) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a request asks for managed fields to be forgotten: by an empty list, or one empty entry.
pub(super) fn is_reset(managed_fields: Option<&Value>) -> bool {
    match managed_fields.and_then(Value::as_array).map(Vec::as_slice) {
        Some([] | [Value::Null]) => true,
        Some([Value::Object(entry)]) => entry.values().all(|value| value.is_null() || value == ""),
        _ => false,
    }
}

/// Joins the oldest Update entries, by version, until no more than ten are left.
pub(super) fn limit(entries: &mut Vec<Entry<'_>>) {
    let mut updates: Vec<usize> = (0..entries.len())
        .filter(|&at| entries[at].who.operation == Operation::Update)
        .collect();
    if updates.len() <= MOST_UPDATE_ENTRIES {
        return;
    }
    updates.sort_by(|&a, &b| {
        let (a, b) = (&entries[a], &entries[b]);
        a.seconds().cmp(&b.seconds()).then_with(|| by_identity(a, b))
    });
    let mut left = updates.len();
    let mut gone = vec![false; entries.len()];
    // The oldest entry of each version.
    let mut firsts: Vec<usize> = Vec::new();
    for at in updates {
        if left <= MOST_UPDATE_ENTRIES {
            break;
        }
        let version = entries[at].who.api_version;
        let Some(&first) = firsts
            .iter()
            .find(|&&first| entries[first].who.api_version == version)
        else {
            firsts.push(at);
            continue;
        };
        let is_ancient = |entry: &Entry<'_>| {
            entry.who.manager == ANCIENT
                && entry.who.operation == Operation::Update
                && entry.who.api_version == version
                && entry.who.subresource.is_empty()
        };
        let into = entries.iter().position(is_ancient).unwrap_or(first);
        if into == at {
            continue;
        }
        let joined = entries[at].set.union(&entries[into].set);
        let time = entries[at].time.clone();
        let into = &mut entries[into];
        into.who.manager = ANCIENT;
        into.who.subresource = "";
        into.time = time;
        into.put(joined);
        gone[at] = true;
        left -= 1;
    }
    let mut gone = gone.into_iter();
    entries.retain(|_| !gone.next().unwrap_or_default());
}

fn by_identity(a: &Entry<'_>, b: &Entry<'_>) -> Ordering {
    let of = |entry: &Entry<'_>| (entry.who.operation, entry.seconds());
    of(a)
        .cmp(&of(b))
        .then_with(|| a.who.manager.cmp(b.who.manager))
        .then_with(|| a.who.api_version.cmp(b.who.api_version))
        .then_with(|| a.who.subresource.cmp(b.who.subresource))
}

/// The value of `metadata.managedFields`: appliers first, then by time and name; none where there are no entries.
pub(super) fn encode(mut entries: Vec<Entry<'_>>) -> Option<Value> {
    if entries.is_empty() {
        return None;
    }
    entries.sort_by(by_identity);
    Some(entries.iter().map(Entry::to_value).collect())
}

/// Puts what [`encode`] made into an object.
pub(super) fn put(object: &mut Value, managed_fields: Option<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match managed_fields {
        Some(entries) => metadata.insert("managedFields".to_owned(), entries),
        None => metadata.remove("managedFields"),
    };
}
