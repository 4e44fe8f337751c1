//! Paths into JSON: as JSON pointers, with `[key=value]` to find an element of a list.

use serde_json::Value;

/// The value at `path`, such as `/groups/[name=apps]/versions/0` or `/items/[metadata.name=apps]`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(value, |value, segment| {
        if let Some((key, wanted)) = segment
            .strip_prefix('[')
            .and_then(|segment| segment.strip_suffix(']')?.split_once('='))
        {
            let found = |item: &&Value| {
                let field = key.split('.').try_fold(*item, |item, key| item.get(key));
                field.is_some_and(|field| field.as_str() == Some(wanted))
            };
            return value.as_array()?.iter().find(found);
        }
        let segment = segment.replace("~1", "/").replace("~0", "~");
        match value {
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
            value => value.get(&segment),
        }
    })
}

/// Removes every field of these names, at any depth.
pub fn omit(value: &mut Value, names: &[String]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| omit(item, names)),
        Value::Object(map) => {
            map.retain(|key, _| !names.contains(key));
            map.values_mut().for_each(|value| omit(value, names));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_found_by_a_field() {
        let value = json!({"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}, "x": [1, 2]}]});
        assert_eq!(at(&value, "/items/[metadata.name=b]/x/1"), Some(&json!(2)));
        assert_eq!(at(&value, "/items/[metadata.name=c]"), None);
        assert_eq!(at(&value, ""), Some(&value));
    }

    #[test]
    fn omitted_fields_go_at_any_depth() {
        let mut value = json!({"description": "x", "a": [{"description": "y", "b": 1}]});
        omit(&mut value, &["description".into()]);
        assert_eq!(value, json!({"a": [{"b": 1}]}));
    }
}
