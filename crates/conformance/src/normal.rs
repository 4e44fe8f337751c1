//! Replaces what no two runs share, and nothing else.
//!
//! Values that the server makes up become numbered tokens, one number for one value throughout a scenario, so that
//! "the same as before" and "another than before" still show: `<uid 1>`, `<rv 2>`, `<generated 1>`, `<ip 1>`,
//! `<port 1>`. Resource versions of lists and bookmarks depend on what else happens in the store and become `<rv>`.
//! Times of now become `<time>` or `<micro time>`; a time that a scenario sets stays.

use jiff::Timestamp;
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::LazyLock};

/// A regular expression that is part of this program.
fn regex(pattern: &str) -> Regex {
    #[allow(clippy::expect_used, reason = "a mistake in it shows in the first test")]
    Regex::new(pattern).expect("a valid pattern")
}

static UID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})"));
static CLUSTER_IP: LazyLock<Regex> = LazyLock::new(|| regex(r"\b10\.96\.\d{1,3}\.\d{1,3}\b"));
static SERVER: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(127\.0\.0\.1|localhost):\d+\b"));
static TOKEN_VOLUME: LazyLock<Regex> = LazyLock::new(|| regex(r"\bkube-api-access-[a-z0-9]{5}\b"));
static TOKEN: LazyLock<Regex> = LazyLock::new(|| regex(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"));
static TEMPORARY: LazyLock<Regex> = LazyLock::new(|| regex(r"/tmp/[A-Za-z0-9._/-]+"));
static VERSION_IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r#"((?i:resource ?version)[\\"]*[:=]\s*[\\"]*|ResourceVersion in object meta: |current: |in the precondition \(|in record \()"#,
        r"(\d{1,19})( \(\d+\))?"
    ))
});
static PREFIX: LazyLock<Regex> = LazyLock::new(|| regex(r#""generateName":"([^"]+)""#));
/// How much of a prefix a generated name keeps.
const PREFIX_LENGTH: usize = 58;
static AGE: LazyLock<Regex> = LazyLock::new(|| regex(r"^(\d+[smhdy])+$"));
static AGE_IN_TEXT: LazyLock<Regex> = LazyLock::new(|| regex(r"(^| )(\d+(ms|[smhd]))+( ago)?( |$)"));
static HASH_IN_TEXT: LazyLock<Regex> = LazyLock::new(|| regex(r" {3,}"));
static DATE_IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}",
        r"|\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d+ [+-]\d{4}"
    ))
});

/// Normalises a transcript in place. `namespace` is the scenario's own and becomes `$(ns)`; `sent` is all that was
/// sent; `managed` keeps `managedFields`.
pub fn normalise(transcript: &mut [Value], namespace: &str, sent: &str, managed: bool) {
    let mut pass = Pass {
        namespace,
        sent,
        managed,
        names: generated(sent),
        tokens: BTreeMap::new(),
    };
    for entry in transcript.iter_mut() {
        let text = entry.get("stdout").is_some() || entry.get("stderr").is_some();
        if let Value::Object(map) = entry {
            for (key, value) in map.iter_mut().filter(|(key, _)| *key != "step") {
                match key.as_str() {
                    "stdout" | "stderr" if text => pass.lines(value),
                    _ => pass.value(key, value, false),
                }
            }
        }
    }
}

struct Pass<'a> {
    namespace: &'a str,
    sent: &'a str,
    managed: bool,
    /// Patterns of the names that the server generates.
    names: Vec<Regex>,
    /// Values and their numbers, by kind of token.
    tokens: BTreeMap<&'static str, Vec<String>>,
}

impl Pass<'_> {
    fn token(&mut self, kind: &'static str, value: &str) -> String {
        let known = self.tokens.entry(kind).or_default();
        let place = known.iter().position(|known| known == value).unwrap_or_else(|| {
            known.push(value.to_owned());
            known.len() - 1
        });
        format!("<{kind} {}>", place + 1)
    }

    /// `loose`: the object around it is a list or a bookmark, whose resource version is not its own.
    fn value(&mut self, key: &str, value: &mut Value, loose: bool) {
        match value {
            Value::String(text) => *text = self.string(key, text, loose),
            Value::Number(number) if key == "nodePort" || key == "healthCheckNodePort" => {
                let number = number.to_string();
                if number != "0" && !self.sent.contains(&number) {
                    *value = json!(self.token("port", &number));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(key, item, loose)),
            Value::Object(map) => {
                if key == "metadata" {
                    match map.get_mut("managedFields") {
                        // Their order depends on whether the clock's second changed between two writes.
                        Some(Value::Array(entries)) if self.managed => entries.sort_by_key(order_of_entry),
                        _ if self.managed => {}
                        _ => drop(map.remove("managedFields")),
                    }
                }
                if map.get("causes").is_some_and(Value::is_array) {
                    map["causes"]
                        .as_array_mut()
                        .into_iter()
                        .for_each(|causes| causes.sort_by_key(order_of_cause));
                }
                // They come in the order of a Go map.
                for rules in ["resourceRules", "nonResourceRules"] {
                    if let Some(rules) = map.get_mut(rules).and_then(Value::as_array_mut) {
                        rules.sort_by_cached_key(Value::to_string);
                    }
                }
                if map.get("kind").and_then(Value::as_str) == Some("Status") {
                    short_message(map);
                }
                let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
                let list = kind.ends_with("List") || kind == "Table";
                let bookmark = map.get("type").and_then(Value::as_str) == Some("BOOKMARK");
                for (key, value) in map.iter_mut() {
                    let loose = match key.as_str() {
                        "metadata" => list || loose,
                        "object" => bookmark,
                        "resourceVersion" => loose,
                        _ => false,
                    };
                    self.value(key, value, loose);
                }
            }
            _ => {}
        }
    }

    fn string(&mut self, key: &str, text: &str, loose: bool) -> String {
        match key {
            "resourceVersion" | "lastSyncResourceVersion" if text.parse::<u64>().is_ok_and(|rv| rv > 0) => {
                return if loose {
                    "<rv>".to_owned()
                } else {
                    self.token("rv", text)
                };
            }
            "kid" => return self.token("key", text),
            "continue" if !text.is_empty() => return "<continue>".to_owned(),
            "cells" if AGE.is_match(text) => return "<age>".to_owned(),
            _ => {}
        }
        self.text(text)
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = UID
            .replace_all(text, |found: &Captures| self.token("uid", &found[0]))
            .into_owned();
        text = TIME
            .replace_all(&text, |found: &Captures| time(&found[0], found.get(1).is_some()))
            .into_owned();
        text = TOKEN
            .replace_all(&text, |found: &Captures| self.token("token", &found[0]))
            .into_owned();
        let sent = self.sent;
        text = CLUSTER_IP
            .replace_all(&text, |found: &Captures| {
                let ip = &found[0];
                if sent.contains(ip) || ip == "10.96.0.0" {
                    ip.to_owned()
                } else {
                    self.token("ip", ip)
                }
            })
            .into_owned();
        for name in self.names.clone() {
            let replace = |found: &Captures| format!("{}{}", &found[1], self.token("generated", &found[0]));
            text = name.replace_all(&text, replace).into_owned();
        }
        if !self.namespace.is_empty() {
            text = text.replace(self.namespace, "$(ns)");
        }
        text = VERSION_IN_TEXT.replace_all(&text, "${1}<rv>").into_owned();
        text = TOKEN_VOLUME
            .replace_all(&text, "kube-api-access-<generated>")
            .into_owned();
        SERVER.replace_all(&text, "<server>").into_owned()
    }

    /// Lines that kubectl printed: ages and the widths that come from them go too.
    fn lines(&mut self, value: &mut Value) {
        for line in value.as_array_mut().into_iter().flatten() {
            if let Value::String(line) = line {
                let mut text = self.text(line.trim_end());
                let indent = text.len() - text.trim_start().len();
                let body = text.split_off(indent);
                let body = DATE_IN_TEXT.replace_all(&body, "<time>");
                let body = AGE_IN_TEXT.replace_all(&body, "$1<age>$4$5");
                let body = TEMPORARY.replace_all(&body, "<file>");
                *line = text + &HASH_IN_TEXT.replace_all(&body, "   ");
            }
        }
    }
}

fn order_of_cause(cause: &Value) -> String {
    format!("{} {}", cause["field"], cause["message"])
}

/// Takes the list of causes out of a message that repeats them: the real server walks maps in no order, and so are
/// its causes.
fn short_message(status: &mut Map<String, Value>) {
    let causes = status
        .get("details")
        .and_then(|details| details["causes"].as_array())
        .cloned()
        .unwrap_or_default();
    let Some(Value::String(message)) = status.get_mut("message") else {
        return;
    };
    let Some(start) = message
        .find("invalid: [")
        .filter(|_| causes.len() > 1 && message.ends_with(']'))
    else {
        return;
    };
    let told = |cause: &Value| {
        let text = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        message.contains(&format!("{}: {}", text("field"), text("message")))
    };
    if causes.iter().all(told) {
        message.replace_range(start.., "invalid: [the causes]");
    }
}

fn order_of_entry(entry: &Value) -> Vec<String> {
    let keys = ["operation", "manager", "subresource", "apiVersion"];
    keys.iter()
        .map(|key| entry[key].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Patterns of the names that come from the prefixes in what was sent.
fn generated(sent: &str) -> Vec<Regex> {
    let prefixes = PREFIX.captures_iter(sent).map(|found| {
        let prefix: String = found[1].chars().take(PREFIX_LENGTH).collect();
        regex(&format!(
            r"({})[bcdfghjklmnpqrstvwxz2456789]{{5}}\b",
            regex::escape(&prefix)
        ))
    });
    prefixes.collect()
}

/// A token for a time within a day of now; any other time as it is.
fn time(text: &str, fraction: bool) -> String {
    let near = text.parse::<Timestamp>().is_ok_and(|time| {
        let apart = Timestamp::now().duration_since(time).abs();
        apart < jiff::SignedDuration::from_hours(24)
    });
    match (near, fraction) {
        (false, _) => text.to_owned(),
        (true, false) => "<time>".to_owned(),
        (true, true) => "<micro time>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(mut transcript: Vec<Value>, sent: &str) -> Value {
        normalise(&mut transcript, "", sent, false);
        Value::Array(transcript)
    }

    #[test]
    fn equal_values_keep_equal_tokens() {
        let one = json!({"body": {"metadata": {"resourceVersion": "7", "uid": "0b3c6d1e-6b5c-4d5c-8c5d-2f6e0d9a3c11"}}});
        let two = json!({"body": {"metadata": {"resourceVersion": "9", "uid": "0b3c6d1e-6b5c-4d5c-8c5d-2f6e0d9a3c11"}}});
        assert_eq!(
            normal(vec![one.clone(), two, one], ""),
            json!([
                {"body": {"metadata": {"resourceVersion": "<rv 1>", "uid": "<uid 1>"}}},
                {"body": {"metadata": {"resourceVersion": "<rv 2>", "uid": "<uid 1>"}}},
                {"body": {"metadata": {"resourceVersion": "<rv 1>", "uid": "<uid 1>"}}},
            ])
        );
    }

    #[test]
    fn versions_of_lists_are_not_numbered() {
        let list = json!({"body": {"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "abc"},
            "items": [{"metadata": {"resourceVersion": "5"}}]}});
        assert_eq!(
            normal(vec![list], ""),
            json!([{"body": {"kind": "PodList", "metadata": {"resourceVersion": "<rv>", "continue": "<continue>"},
                "items": [{"metadata": {"resourceVersion": "<rv 1>"}}]}}])
        );
    }

    #[test]
    fn what_was_sent_stays() {
        let body = json!({"body": {"clusterIP": "10.96.7.8", "other": "10.96.7.9", "nodePort": 30001, "ports": [{"nodePort": 30002}],
            "renewTime": "2020-01-01T00:00:00.000000Z"}});
        assert_eq!(
            normal(vec![body], "10.96.7.8 30001"),
            json!([{"body": {"clusterIP": "10.96.7.8", "other": "<ip 1>", "nodePort": 30001, "ports": [{"nodePort": "<port 1>"}],
                "renewTime": "2020-01-01T00:00:00.000000Z"}}])
        );
    }

    #[test]
    fn generated_names_are_found_in_messages() {
        let body = json!({"body": {"metadata": {"generateName": "a-", "name": "a-x7x7x"}, "message": "a-x7x7x is there"}});
        assert_eq!(
            normal(vec![body], r#"{"generateName":"a-"}"#),
            json!([{"body": {"metadata": {"generateName": "a-", "name": "a-<generated 1>"}, "message": "a-<generated 1> is there"}}])
        );
    }

    #[test]
    fn times_and_versions_in_texts() {
        let now = Timestamp::now().to_string();
        let body = json!({"body": {"message": format!("too old resource version: 1 (231) at {now}")}});
        assert_eq!(
            normal(vec![body], ""),
            json!([{"body": {"message": "too old resource version: <rv> at <micro time>"}}])
        );
    }

    #[test]
    fn lines_lose_their_ages_and_widths() {
        let entry = json!({"stdout": ["NAME    DATA   AGE", "a       1      12s", "    12m ago x"]});
        assert_eq!(
            normal(vec![entry], ""),
            json!([{"stdout": ["NAME   DATA   AGE", "a   1   <age>", "    <age> ago x"]}])
        );
    }
}
