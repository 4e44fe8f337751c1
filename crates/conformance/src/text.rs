//! `$(name)` in scenarios: the values that earlier answers gave.

use serde_json::Value;
use std::collections::BTreeMap;

/// The variables of one run of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Replaces `$(name)` in a text. What is not a variable stays as it is.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("$(") {
            filled.push_str(before);
            match after.split_once(')') {
                Some((name, tail)) if self.0.contains_key(name) => {
                    match &self.0[name] {
                        Value::String(value) => filled.push_str(value),
                        value => filled.push_str(&value.to_string()),
                    }
                    rest = tail;
                }
                _ => {
                    filled.push_str("$(");
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    /// Replaces variables in every text of `value`; a text that is nothing but a variable becomes its value.
    pub fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let whole = text.strip_prefix("$(").and_then(|text| text.strip_suffix(')'));
                match whole.and_then(|name| self.0.get(name)) {
                    Some(value) => value.clone(),
                    None => Value::String(self.fill(text)),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (self.fill(key), self.fill_value(value)))
                .collect(),
            other => other.clone(),
        }
    }
}

/// RFC 7386, for a body that is an earlier answer with some fields changed.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_keep_their_type_when_they_stand_alone() {
        let mut variables = Variables::default();
        variables.set("rv", json!("17"));
        variables.set("object", json!({"a": 1}));
        let filled =
            variables.fill_value(&json!({"x": "$(object)", "y": "at $(rv), $(unknown) and $(object)"}));
        assert_eq!(
            filled,
            json!({"x": {"a": 1}, "y": "at 17, $(unknown) and {\"a\":1}"})
        );
    }

    #[test]
    fn a_merge_removes_and_adds() {
        let mut value = json!({"a": {"b": 1, "c": 2}});
        merge(&mut value, &json!({"a": {"b": null, "d": {"e": 3}}}));
        assert_eq!(value, json!({"a": {"c": 2, "d": {"e": 3}}}));
    }
}
